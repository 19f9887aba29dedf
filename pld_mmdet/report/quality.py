"""Are the teacher's pseudo labels on objects? Measured against the hidden truth."""

from dataclasses import dataclass

import numpy as np

from pld_mmdet.detection.average_precision import (
    Detections,
    GroundTruth,
    best_objects,
)


@dataclass
class Quality:
    """Pseudo labels of some images against their ground truth (crowds aside).

    Attributes:
        images: How many images.
        objects: Objects in them.
        high: Confident boxes, and how many lie on an object of their class.
        low: Mined proposals, how many lie on any object, how many on one of their
            class.
        high_reached: Objects that a confident box of their class lies on.
        low_reached: Of the others, those that a mined proposal of their class lies on.
    """

    images: int = 0
    objects: int = 0
    high: tuple[int, int] = (0, 0)
    low: tuple[int, int, int] = (0, 0, 0)
    high_reached: int = 0
    low_reached: int = 0

    def add(self, high: Detections, low: Detections, truth: GroundTruth) -> None:
        """Count one image more.

        Args:
            high: Confident boxes, image index 0.
            low: Mined proposals, image index 0.
            truth: Objects, image index 0.
        """
        seen_high, seen_low = _on_objects(high, truth), _on_objects(low, truth)
        one_class = GroundTruth(
            truth.image, truth.boxes, 0 * truth.labels, truth.ignore, truth.area
        )
        any_low = _on_objects(
            Detections(low.image, low.boxes, low.scores, 0 * low.labels), one_class
        )
        reached = set(seen_high[seen_high >= 0].tolist())
        self.images += 1
        self.objects += int((~truth.ignore).sum())
        self.high = _sum(self.high, (len(seen_high), int((seen_high >= 0).sum())))
        self.low = _sum(
            self.low,
            (len(seen_low), int((any_low >= 0).sum()), int((seen_low >= 0).sum())),
        )
        self.high_reached += len(reached)
        self.low_reached += len(set(seen_low[seen_low >= 0].tolist()) - reached)

    def sentence(self) -> str:
        """The counts in words; empty when there was nothing to count."""
        if not self.images or not self.objects:
            return ""
        found, right = self.high
        share = (
            f"; {right / found:.0%} lie on an object of their class" if found else ""
        )
        parts = [
            f"In {self.images} test images with {self.objects} objects the teacher"
            f" gives {found} confident boxes{share},"
            f" which reaches {self.high_reached / self.objects:.0%} of the objects."
        ]
        mined, on_any, on_own = self.low
        left = self.objects - self.high_reached
        if mined:
            parts.append(
                f"It mines {mined} proposals: {on_any / mined:.0%} lie on some object,"
                f" {on_own / mined:.0%} on one of their class"
                + (
                    f"; they reach {self.low_reached / left:.0%} of the objects left"
                    if left
                    else ""
                )
                + " (IoU above 0.5)."
            )
        return " ".join(parts)


def _on_objects(found: Detections, truth: GroundTruth) -> np.ndarray:
    """Index of the object under each box, -1 for none; boxes on crowds are left out."""
    best, iou = best_objects(found, truth)
    hit = (best >= 0) & (iou > 0.5)
    crowd = np.zeros(len(best), bool)
    crowd[hit] = truth.ignore[best[hit]]
    return np.where(hit, best, -1)[~crowd]


def _sum(a: tuple[int, ...], b: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(x + y for x, y in zip(a, b, strict=True))
