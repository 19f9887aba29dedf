"""A stand-in for a labelling model: true maps with seeded mistakes."""

import hashlib
from collections.abc import Sequence

import cv2
import numpy as np

from pld_mmdet.errors import UserError
from pld_mmdet.segmentation.learners.losses import IGNORE


class NoisyOracle:
    """Label maps like those of a good, imperfect model.

    Some connected regions get another class as a whole, and every pixel takes the label
    of a random place at most ``boundary`` pixels away, so that borders fray and the
    inside of a region stays. An image's mistakes follow from its name and the seed.

    Args:
        num_classes: C.
        flips: Share of regions with a wrong class.
        boundary: In pixels.
        seed: Of the mistakes.

    Raises:
        UserError: A share outside 0 to 1, or nothing to be mistaken for.
    """

    def __init__(
        self, num_classes: int, flips: float = 0.1, boundary: int = 1, seed: int = 0
    ) -> None:
        if not 0 <= flips <= 1 or boundary < 0 or num_classes < 2:
            raise UserError(
                f"NoisyOracle: num_classes={num_classes}, flips={flips}, "
                f"boundary={boundary}.",
                "Give two classes or more, a share from 0 to 1, pixels from 0.",
            )
        self.num_classes, self.flips = num_classes, flips
        self.boundary, self.seed = boundary, seed

    def __repr__(self) -> str:
        return (
            f"NoisyOracle(num_classes={self.num_classes}, flips={self.flips}, "
            f"boundary={self.boundary}, seed={self.seed})"
        )

    def __call__(self, truth: np.ndarray, names: Sequence[str]) -> np.ndarray:
        """Make mistakes.

        Args:
            truth: N x H x W, classes; 255 stays.
            names: Of the N images; the folders of a path do not matter.

        Returns:
            N x H x W uint8.
        """
        found = [self._one(*pair) for pair in zip(truth, names, strict=True)]
        return np.stack(found) if found else truth.astype(np.uint8)

    def _one(self, truth: np.ndarray, name: str) -> np.ndarray:
        word = f"{self.seed} {name.rpartition('/')[2]}"
        digest = hashlib.sha256(word.encode()).digest()
        draw = np.random.default_rng(int.from_bytes(digest[:8], "big"))
        labels = truth.astype(np.uint8)
        for number in np.unique(truth[truth != IGNORE]):
            here = (truth == number).astype(np.uint8)
            count, regions = cv2.connectedComponents(here, connectivity=8)
            for region in range(1, count):
                if draw.random() < self.flips:
                    other = draw.integers(self.num_classes - 1)
                    labels[regions == region] = other + (other >= number)
        if self.boundary:
            labels = self._fray(labels, draw)
        return np.where(truth == IGNORE, IGNORE, labels).astype(np.uint8)

    def _fray(self, labels: np.ndarray, draw: np.random.Generator) -> np.ndarray:
        rows, columns = np.indices(labels.shape)
        reach = self.boundary
        steps = draw.integers(-reach, reach + 1, (2, *labels.shape))
        rows = (rows + steps[0]).clip(0, labels.shape[0] - 1)
        columns = (columns + steps[1]).clip(0, labels.shape[1] - 1)
        moved = labels[rows, columns]
        return np.where(moved == IGNORE, labels, moved)
