"""Small real images without a download: patches of packaged photographs."""

from pathlib import Path

import numpy as np
import torch

from pld_mmdet.engine.run.optional import require
from pld_mmdet.errors import UserError, one_of
from pld_mmdet.registry import DATASETS
from pld_mmdet.shared.data.pixels import PixelDataset

# Shares of each photograph, from left to right: parts never overlap.
_PARTS = {"train": (0.0, 0.6), "val": (0.6, 0.75), "test": (0.75, 1.0)}


@DATASETS.register_module()
class PhotoPatches(PixelDataset):
    """Patches of 16 x 16 pixels of the photographs that scikit-learn ships.

    A sample is ``dict(inputs=3 x S x S float RGB in [0, 1], targets=number of the
    photograph, index)``. Places are drawn once by ``seed``, from the left of each
    photograph for train and from its right for test, so no pixel is in two parts.

    Args:
        part: ``train``, ``val`` or ``test``.
        count: Patches; the photographs take turns.
        size: S.
        seed: Of the places; not the run's.

    Raises:
        UserError: Unknown part, or a patch that does not fit into it.
    """

    def __init__(
        self,
        part: str,
        count: int = 1000,
        size: int = 16,
        seed: int = 0,
    ) -> None:
        one_of("PhotoPatches", part=(part, _PARTS))
        photos, names = _photographs()
        dice = np.random.default_rng((seed, list(_PARTS).index(part)))
        self.metainfo = {"classes": tuple(names)}
        self.targets = torch.arange(count) % len(photos)
        patches = []
        for label in self.targets.tolist():
            photo = photos[label]
            height, width = photo.shape[:2]
            start, stop = (round(share * width) for share in _PARTS[part])
            if size > min(height, stop - start):
                raise UserError(
                    f"The {part} part of {names[label]} is {height} x {stop - start} "
                    f"pixels, too small for patches of {size}.",
                    "Lower `size`.",
                )
            top = int(dice.integers(height - size + 1))
            left = start + int(dice.integers(stop - start - size + 1))
            patches.append(photo[top : top + size, left : left + size])
        stacked = np.stack(patches) if patches else np.zeros((0, size, size, 3), "u1")
        self.pixels = torch.from_numpy(stacked).permute(0, 3, 1, 2).contiguous()


def _photographs() -> tuple[list[np.ndarray], list[str]]:
    """Photographs H x W x 3 uint8, RGB, and their names."""
    found = require("sklearn.datasets", "classification").load_sample_images()
    names = [Path(name).stem for name in found.filenames]
    return list(found.images), names
