"""Weights of detectron2 (Faster and Mask R-CNN, C4 and FPN) under mmdet's names.

Names are translated by rules, anchors are put into mmdet's order (detectron2 counts
sizes outside and ratios inside, mmdet the other way round), and nothing is dropped
silently. What a file holds comes from ``load_detectron2``: neither a ``.pth`` nor a
``.pkl`` executes code.
"""

import io
import pickle
import re
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pld_mmdet.engine.state.checkpoint import load_checkpoint_file
from pld_mmdet.errors import UserError
from pld_mmdet.reading import read_bytes

# Everything a detectron2 .pkl needs: arrays in dicts.
_HARMLESS = {
    ("collections", "OrderedDict"),
    ("numpy", "dtype"),
    ("numpy", "ndarray"),
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy.core.multiarray", "scalar"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "scalar"),
    ("_codecs", "encode"),  # how old pickles write bytes
}

_BLOCK = (
    (r"conv(\d)\.norm\.", r"bn\1."),
    (r"shortcut\.norm\.", "downsample.1."),
    (r"shortcut\.weight", "downsample.0.weight"),
)
# (detectron2, mmdet); the first pattern that matches decides.
_RULES = (
    (r"^backbone\.(?:bottom_up\.)?stem\.conv1\.norm\.", "backbone.bn1."),
    (r"^backbone\.(?:bottom_up\.)?stem\.conv1\.", "backbone.conv1."),
    (r"^backbone\.(?:bottom_up\.)?res(\d)\.", lambda m: f"backbone.layer{_down(m)}."),
    (
        r"^backbone\.fpn_lateral(\d)\.",
        lambda m: f"neck.lateral_convs.{_level(m)}.conv.",
    ),
    (r"^backbone\.fpn_output(\d)\.", lambda m: f"neck.fpn_convs.{_level(m)}.conv."),
    (r"^proposal_generator\.rpn_head\.conv\.", "rpn_head.rpn_conv."),
    (r"^proposal_generator\.rpn_head\.objectness_logits\.", "rpn_head.rpn_cls."),
    (r"^proposal_generator\.rpn_head\.anchor_deltas\.", "rpn_head.rpn_reg."),
    (r"^roi_heads\.res5\.", "roi_head.shared_head.layer4."),
    (
        r"^roi_heads\.box_head\.fc(\d)\.",
        lambda m: f"roi_head.bbox_head.shared_fcs.{int(m[1]) - 1}.",
    ),
    (r"^roi_heads\.box_predictor\.cls_score\.", "roi_head.bbox_head.fc_cls."),
    (r"^roi_heads\.box_predictor\.bbox_pred\.", "roi_head.bbox_head.fc_reg."),
    (
        r"^roi_heads\.mask_head\.mask_fcn(\d)\.",
        lambda m: f"roi_head.mask_head.convs.{int(m[1]) - 1}.conv.",
    ),
    (r"^roi_heads\.mask_head\.deconv\.", "roi_head.mask_head.upsample."),
    (r"^roi_heads\.mask_head\.predictor\.", "roi_head.mask_head.conv_logits."),
)
# Of the model's code, not of its weights.
_CONSTANTS = re.compile(
    r"^(pixel_mean|pixel_std|proposal_generator\.anchor_generator\..*)$"
)


def _down(match: re.Match) -> int:
    return int(match[1]) - 1  # res2 is layer1


def _level(match: re.Match) -> int:
    return int(match[1]) - 2  # the first lateral is of res2


@dataclass
class Converted:
    """The result of a conversion.

    Args:
        state: mmdet's names to tensors.
        names: detectron2's name of each entry.
        left_over: Names of the file that no rule translates.
    """

    state: dict[str, Tensor] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)
    left_over: list[str] = field(default_factory=list)


class _Forbidden(pickle.UnpicklingError):
    """The file names something that is no array."""


class _ArraysOnly(pickle.Unpickler):
    def find_class(self, module: str, name: str):
        if (module, name) not in _HARMLESS:
            raise _Forbidden(f"{module}.{name}")
        return super().find_class(module, name)


def load_detectron2(path: str | Path, prefix: str = "") -> dict[str, Tensor]:
    """Read a detectron2 ``.pth`` or ``.pkl`` without executing anything in it.

    Args:
        path: The file.
        prefix: Keep the entries that begin so, without it (``modelTeacher.`` in files
            of teacher-student codes).

    Returns:
        detectron2's names to tensors.

    Raises:
        UserError: The file is unsafe, unreadable, or has nothing under the prefix.
    """
    path = Path(path)
    content = (
        _read_pickle(path) if path.suffix == ".pkl" else load_checkpoint_file(path)
    )
    state = content.get("model", content)
    found = {
        name.removeprefix(prefix): torch.as_tensor(np.asarray(value))
        if not isinstance(value, Tensor)
        else value
        for name, value in state.items()
        if isinstance(value, Tensor | np.ndarray) and name.startswith(prefix)
    }
    if not found:
        firsts = sorted({str(name).partition(".")[0] for name in state})[:6]
        raise UserError(
            f"{path} holds no weights that begin with {prefix!r} (but {firsts}).",
            "Name the network with --prefix, e.g. --prefix modelTeacher.",
        )
    return found


def _read_pickle(path: Path) -> dict:
    try:
        raw = read_bytes(path)
    except OSError as error:
        raise UserError(
            f"{path} cannot be read ({error.strerror or error}).", "Check the path."
        ) from error
    try:
        content = _ArraysOnly(io.BytesIO(raw), encoding="latin1").load()
    except _Forbidden as error:
        raise UserError(
            f"{path} was refused and not executed: beside arrays it contains {error}.",
            "Take the .pkl of detectron2's model zoo, or a .pth.",
        ) from error
    except Exception as error:  # what a damaged pickle raises: all kinds
        raise UserError(
            f"{path} is no pickle of arrays ({type(error).__name__}).",
            "Download it again.",
        ) from error
    if not isinstance(content, dict):
        raise UserError(
            f"{path} holds a {type(content).__name__}, not named weights.",
            "Take the .pkl of detectron2's model zoo, or a .pth.",
        )
    return content


def convert(
    weights: dict[str, Tensor], num_sizes: int, num_ratios: int = 3
) -> Converted:
    """Translate names, and put the anchors into mmdet's order.

    Args:
        weights: See :func:`load_detectron2`.
        num_sizes: Anchor sizes of a cell (mmdet's ``scales``): 5 in detectron2's C4
            models, 3 in LPLD's, 1 with FPN.
        num_ratios: Anchor ratios of a cell.

    Raises:
        UserError: The file's anchors are not ``num_sizes * num_ratios`` a cell.
    """
    made = Converted()
    for name, value in weights.items():
        if _CONSTANTS.match(name):
            continue
        target = _translate(name)
        if target is None:
            made.left_over.append(name)
            continue
        if target.startswith(("rpn_head.rpn_cls.", "rpn_head.rpn_reg.")):
            value = _reorder(name, value, num_sizes, num_ratios)
        made.state[target] = value
        made.names[target] = name
    return made


def _translate(name: str) -> str | None:
    for pattern, replacement in _RULES:
        target, number = re.subn(pattern, replacement, name)
        if number:
            for part, new in _BLOCK:
                target = re.sub(part, new, target)
            return target
    return None


def _reorder(name: str, value: Tensor, sizes: int, ratios: int) -> Tensor:
    each = 4 if "anchor_deltas" in name else 1
    if len(value) != sizes * ratios * each:
        raise UserError(
            f"{name} has {len(value) // each} anchors a cell, the model has "
            f"{sizes} sizes x {ratios} ratios.",
            "Give rpn_head.anchor_generator of the config the file's anchors.",
        )
    rest = value.shape[1:]
    grid = value.reshape(sizes, ratios, each, *rest).transpose(0, 1)
    return grid.reshape(-1, *rest).contiguous()
