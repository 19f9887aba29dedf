"""``--labels``: a few labelled images of the new domain, which measure a gain."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from mmengine.structures import InstanceData

from pld_mmdet.detection.data.coco import read_coco
from pld_mmdet.detection.evaluation.ap50 import match_classes, objects_of
from pld_mmdet.detection.evaluation.average_precision import (
    Detections,
    GroundTruth,
    voc_ap,
)

DRAWS = 400


class Labelled:
    """AP50 on a few images, and how far it can be believed.

    Args:
        file: COCO json, already checked.
        root: Folder of its images.
        classes: Of the detector.
    """

    def __init__(self, file: Path, root: Path, classes: Sequence[str]) -> None:
        content = read_coco(file, "Name a COCO json with --labels.")
        self.paths = [root / image["file_name"] for image in content["images"]]
        index = {image["id"]: n for n, image in enumerate(content["images"])}
        named = match_classes(list(classes), content, str(file))
        self._truth = objects_of(content, index, named)
        self._classes = len(classes)

    def ap50(self, seen: Sequence[InstanceData], images: np.ndarray | None = None):
        """AP at IoU 0.5 (area under the curve, mean of the classes that occur).

        Args:
            seen: Detections, one entry an image.
            images: Indices of the images that count, with repetitions; None: all.
        """
        counts = [len(found) for found in seen]
        found = Detections(
            np.repeat(np.arange(len(seen)), counts),
            np.concatenate([found.bboxes.numpy() for found in seen]).astype(float),
            np.concatenate([found.scores.numpy() for found in seen]).astype(float),
            np.concatenate([found.labels.numpy() for found in seen]),
        )
        truth = self._truth
        if images is not None:
            found, truth = _drawn(found, images), _drawn(truth, images)
        _, area = voc_ap(found, truth, self._classes)
        return float(np.nanmean(area)) if np.isfinite(area).any() else 0.0

    def gain(
        self,
        before: Sequence[InstanceData],
        after: Sequence[InstanceData],
        level: float = 0.95,
    ) -> tuple[float, float]:
        """Interval of the gain in AP50: the images are drawn again, both alike.

        Args:
            before: Detections of one detector, one entry an image.
            after: Of the other.
            level: Share of the draws within the interval.
        """
        rng = np.random.default_rng(0)
        gains = []
        for _ in range(DRAWS):
            images = rng.integers(0, len(seen := self.paths), len(seen))
            gains.append(self.ap50(after, images) - self.ap50(before, images))
        low, high = np.quantile(gains, [(1 - level) / 2, (1 + level) / 2])
        return float(low), float(high)


def _drawn(rows: Detections | GroundTruth, images: np.ndarray):
    """The rows of these images; one drawn twice becomes two images."""
    order = np.argsort(rows.image, kind="stable")
    first = np.searchsorted(rows.image[order], images, "left")
    count = np.searchsorted(rows.image[order], images, "right") - first
    start = np.cumsum(count) - count
    image = np.repeat(np.arange(len(images)), count)
    chosen = order[np.arange(len(image)) - start[image] + first[image]]
    columns = {name: value[chosen] for name, value in vars(rows).items()}
    return type(rows)(**columns | dict(image=image))
