"""What the filters of Soft Teacher let through, and what polishing changes: evidence.

Both compare with the hidden truth and are never an input of training.
"""

import itertools
from collections import Counter
from collections.abc import Sequence

import torch
from mmdet.structures.bbox import bbox_overlaps
from mmengine.structures import InstanceData
from torch import Tensor

BANDS = (0.3, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)


class FilterQuality:
    """How many boxes of each set lie on objects, and which objects they find.

    For each set and IoU: ``precision``, the share of its boxes that overlap an object
    of their class so much, and ``recall``, the share of the objects that such a box
    covers. ``iou`` is the mean best overlap of a box with any object.

    Args:
        min_ious: Overlaps from which a box lies on an object.
    """

    def __init__(self, min_ious: Sequence[float] = (0.5, 0.75)) -> None:
        self.min_ious = tuple(min_ious)
        self.counts: Counter = Counter()

    def add(
        self, sets: dict[str, InstanceData], objects: Tensor, labels: Tensor
    ) -> None:
        """Count one image; boxes and objects [G, 4] in the same pixels."""
        self.counts["images"] += 1
        self.counts["objects"] += len(objects)
        for name, found in sets.items():
            self.counts[f"{name}/boxes"] += len(found)
            if not len(found) or not len(objects):
                continue
            overlap = bbox_overlaps(found.bboxes, objects)
            same = found.labels[:, None] == labels
            self.counts[f"{name}/iou"] += overlap.max(1).values.sum().item()
            for at in self.min_ious:
                right = (overlap >= at) & same
                self.counts[f"{name}/right{at}"] += int(right.any(1).sum())
                self.counts[f"{name}/found{at}"] += int(right.any(0).sum())

    def summary(self) -> dict[str, float]:
        """``<set>/per_image``, ``/iou``, ``/precision50``, ``/recall50``, ..."""
        c, made = self.counts, {}
        for name in [n.split("/")[0] for n in c if n.endswith("/boxes")]:
            boxes = c[f"{name}/boxes"]
            made[f"{name}/per_image"] = boxes / c["images"]
            shares = {"iou": ("iou", boxes)}
            for at in self.min_ious:
                percent = round(100 * at)
                shares[f"precision{percent}"] = (f"right{at}", boxes)
                shares[f"recall{percent}"] = (f"found{at}", c["objects"])
            for share, (part, whole) in shares.items():
                if whole:
                    made[f"{name}/{share}"] = c[f"{name}/{part}"] / whole
        return made


class PolishGain:
    """Boxes and classes before and after polishing, by how good a box was before.

    A box belongs to the object that it overlapped most before; after polishing it is
    compared with the same object.

    Args:
        bands: Edges of the bands of IoU before. Boxes below the first one belong to
            no object and are only counted.
    """

    def __init__(self, bands: Sequence[float] = BANDS) -> None:
        self.bands = tuple(bands)
        self.rows: list[Tensor] = []

    def add(self, judged: InstanceData, objects: Tensor, labels: Tensor) -> None:
        """Take in one image.

        Args:
            judged: From :meth:`pld_mmdet.detection.DualPolishTeacher.judge`.
            objects: [G, 4] in the same pixels.
            labels: [G].
        """
        if not len(judged):
            return
        missing = torch.full((len(judged),), float("nan"))
        if not len(objects):
            zero = torch.zeros(len(judged))
            self.rows.append(torch.stack([zero, missing, missing, missing], 1))
            return
        before, at = bbox_overlaps(judged.bboxes, objects).max(1)
        after, right, new = missing, (judged.labels == labels[at]).float(), missing
        if "polished" in judged:
            own = objects[at]
            after = bbox_overlaps(judged.polished, own, is_aligned=True)
        if "new_labels" in judged:
            new = (judged.new_labels == labels[at]).float()
        self.rows.append(torch.stack([before, after, right, new], 1))

    def summary(self) -> dict[str, float]:
        """Means of a band and of ``all`` boxes on an object.

        ``<band>/boxes``, ``/iou_before``, ``/iou_after``, ``/class_before``,
        ``/class_after`` (shares of right classes); ``nowhere/boxes`` below the first
        band. What has no polisher has no key.
        """
        rows = torch.cat(self.rows) if self.rows else torch.zeros(0, 4)
        before = rows[:, 0]
        first, last = self.bands[0], self.bands[-1]
        parts = {"all": before >= first, "nowhere": before < first}
        for low, high in itertools.pairwise(self.bands):
            top = before <= high if high == last else before < high
            parts[f"{low:.1f}-{high:.1f}"] = (before >= low) & top
        made = {}
        names = ("iou_before", "iou_after", "class_before", "class_after")
        for part, mask in parts.items():
            made[f"{part}/boxes"] = int(mask.sum())
            if part == "nowhere" or not mask.any():
                continue
            means = rows[mask].mean(0).tolist()
            made |= {
                f"{part}/{name}": mean
                for name, mean in zip(names, means, strict=True)
                if mean == mean  # nan: no polisher
            }
        return made
