"""scikit-learn's digits: 1797 real 8x8 images of ten classes (UCI optical digits)."""

from collections.abc import Sequence
from functools import partial

import numpy as np
import torch
from torch.utils.data import Dataset

from pld_mmdet.engine.run.optional import require
from pld_mmdet.errors import UserError, one_of
from pld_mmdet.registry import DATASETS
from pld_mmdet.shared.data.class_images import part_files, read_square

# Parts of a permutation that is fixed for good, not by a run's seed: every seed of an
# experiment is tested on the same images.
_PARTS = {
    "train": (0, 1077),
    "val": (1077, 1437),
    "test": (1437, 1797),
    "all": (0, 1797),
}
_ORDER_SEED = 20240607
SIDE = 8  # pixels


@DATASETS.register_module()
class Digits(Dataset):
    """Handwritten digits in three fixed parts: 1077 train, 360 val, 360 test.

    A sample is ``dict(inputs=1 x 8 x 8 float in [0, 1], targets=label, index=number in
    the part)``.

    Args:
        part: ``train``, ``val``, ``test``, or ``all`` of them (for methods that are
            measured by cross-validation).
        classes: Keep only these labels, renumbered from 0 [all].
        labelled: Keep the first this many images of each class [all]. Negative: all
            but these (the unlabelled rest).
        noise: Share of the train labels replaced by a wrong class, drawn once by
            ``noise_seed`` [0].
        noise_seed: Which labels are wrong.
        unlabelled: All labels are -1 and no class is named, so that a network may
            learn from these images before it meets other classes.
        data_root: A folder of images, ``<class>/<name>.png`` or
            ``<part>/<class>/<name>.png``, read as grey squares of 8 x 8 in the digits'
            place [None].

    Raises:
        UserError: Unknown part, unknown class, more labels than there are, or a folder
            that cannot be used.
    """

    def __init__(
        self,
        part: str,
        classes: Sequence[int] | None = None,
        labelled: int | None = None,
        noise: float = 0.0,
        noise_seed: int = 0,
        unlabelled: bool = False,
        data_root: str | None = None,
    ) -> None:
        one_of("Digits", part=(part, _PARTS))
        read = _digits if data_root is None else partial(_folder, data_root)
        images, targets, names = read(part)
        there = range(len(names))
        wanted = list(there if classes is None else classes)
        if not set(wanted) <= set(there):
            raise UserError(
                f"Digits has no classes {wanted}.", f"Choose from 0 to {there[-1]}."
            )
        keep = np.isin(targets, wanted)
        images, targets = images[keep], targets[keep]
        targets = np.searchsorted(np.sort(wanted), targets)
        if labelled is not None:
            rank = _rank_in_class(targets)
            fewest = int(np.bincount(targets).min())
            if abs(labelled) > fewest:
                raise UserError(
                    f"A class of Digits' {part} part has {fewest} images, not "
                    f"{abs(labelled)}.",
                    "Lower `labelled`.",
                )
            keep = rank < labelled if labelled >= 0 else rank >= -labelled
            images, targets = images[keep], targets[keep]
        self.clean_targets = torch.from_numpy(targets.astype(np.int64))
        if noise:
            targets = _flip(targets, len(wanted), noise, noise_seed)
        self.images = torch.from_numpy(images.astype(np.float32))[:, None]
        self.targets = torch.from_numpy(targets.astype(np.int64))
        self.metainfo = {"classes": tuple(names[label] for label in sorted(wanted))}
        if unlabelled:
            self.targets, self.metainfo = torch.full_like(self.targets, -1), {}

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> dict:
        return {
            "inputs": self.images[index],
            "targets": self.targets[index],
            "index": int(index),
        }


def _digits(part: str) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Images N x 8 x 8 in [0, 1], labels and the classes' names of one part."""
    data = require("sklearn.datasets", "weak_supervision").load_digits()
    order = np.random.default_rng(_ORDER_SEED).permutation(len(data.target))
    order = order[slice(*_PARTS[part])]
    names = [str(label) for label in range(10)]
    return data.images[order] / 16.0, data.target[order], names


def _folder(root: str, part: str) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """The same of a folder of images; in an order that is fixed, as the digits' is."""
    parts = [part] if part != "all" else ["train", "val", "test"]
    images, targets, names = [], [], []
    for one in parts:
        files = part_files(root, one)
        names = list(files)
        for label, paths in enumerate(files.values()):
            images += [read_square(path, SIDE).astype(float).mean(0) for path in paths]
            targets += [label] * len(paths)
    order = np.random.default_rng(_ORDER_SEED).permutation(len(targets))
    return np.stack(images)[order] / 255, np.array(targets)[order], names


def _rank_in_class(targets: np.ndarray) -> np.ndarray:
    """How many earlier samples have the same label."""
    order = np.argsort(targets, kind="stable")
    counts = np.bincount(targets)
    starts = np.repeat(np.cumsum(counts) - counts, counts)
    rank = np.empty_like(targets)
    rank[order] = np.arange(len(targets)) - starts
    return rank


def _flip(targets: np.ndarray, classes: int, share: float, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    wrong = rng.permutation(len(targets))[: round(share * len(targets))]
    targets = targets.copy()
    targets[wrong] = (targets[wrong] + rng.integers(1, classes, len(wrong))) % classes
    return targets
