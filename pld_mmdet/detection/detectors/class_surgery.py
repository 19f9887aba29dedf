"""Give a detector's box head more classes, or another order, and keep what it knows."""

from collections.abc import Sequence

import torch
from torch import Tensor

from pld_mmdet.errors import UserError

CLASS_LAYER, BOX_LAYER = "bbox_head.fc_cls.", "bbox_head.fc_reg."


def remap_classes(
    state_dict: dict[str, Tensor],
    old: Sequence[str],
    new: Sequence[str],
    seed: int = 0,
) -> dict[str, Tensor]:
    """Rows of old classes move by name; new classes get fresh rows.

    Fresh weights are Normal(0, 0.01), fresh biases 0, in the class layer and in a
    class-specific box layer, as in DeFRCN's ``model_surgery`` (method ``randinit``);
    background stays the last row.

    Args:
        state_dict: Weights of a plain detector; not changed.
        old: Its class names.
        new: Class names of the new head.
        seed: Of the fresh rows.

    Returns:
        The new weights.

    Raises:
        UserError: There is no box head, or its size is not that of ``old``.
    """
    layers = [k for k in state_dict if CLASS_LAYER in k or BOX_LAYER in k]
    if not any(CLASS_LAYER in k for k in layers):
        raise UserError(
            "The checkpoint has no box head (roi_head.bbox_head.fc_cls).",
            "Give the checkpoint of a plain detector; tools/export.py makes one.",
        )
    generator = torch.Generator().manual_seed(seed)
    source = [list(old).index(name) if name in old else -1 for name in new]
    result = dict(state_dict)
    for key in layers:
        value = state_dict[key]
        if BOX_LAYER in key and len(value) == 4 and len(old) != 1:
            continue  # class-agnostic
        background = CLASS_LAYER in key
        each = 1 if background else 4
        if len(value) != each * len(old) + background:
            raise UserError(
                f"{key} has {len(value)} rows; {len(old)} classes were expected.",
                "Name the classes that the checkpoint was trained on.",
            )
        fresh = torch.zeros(each * len(new) + background, *value.shape[1:])
        if value.ndim > 1:
            fresh.normal_(0, 0.01, generator=generator)
        for i, j in enumerate(source):
            if j >= 0:
                rows = slice(each * i, each * (i + 1))
                fresh[rows] = value[each * j : each * (j + 1)]
        if background:
            fresh[-1] = value[-1]
        result[key] = fresh.to(value)
    return result
