"""How good a detector's boxes are as labels: what a gate asks before self-training."""

from collections import Counter, defaultdict
from collections.abc import Sequence

import torch
from mmdet.structures.bbox import bbox_overlaps
from mmengine.evaluator import BaseMetric
from torch import Tensor

from pld_mmdet.detection.data.coco import read_coco
from pld_mmdet.registry import METRICS


@METRICS.register_module()
class BoxQualityMetric(BaseMetric):
    """Number, precision and recall of the boxes above each threshold.

    For a threshold t (strictly above): ``boxes/per_image@t``; ``boxes/precision@t``,
    the share that lies on an object of its class (IoU at least 0.5, several boxes may
    share one); ``boxes/precision75@t`` likewise at 0.75; ``boxes/recall@t``, the share
    of the objects with such a box. For neighbours s < t also ``boxes/on_object@s-t``:
    of the boxes with a score in (s, t], the share that lies on an object of any class.
    A share of nothing has no key.

    Args:
        ann_file: COCO json of the images; crowd regions are left out.
        thresholds: Scores, growing.
        prefix: As in mmengine.
    """

    def __init__(
        self,
        ann_file: str,
        thresholds: Sequence[float] = (0.5, 0.9),
        prefix: str | None = None,
        collect_device: str = "cpu",
    ) -> None:
        super().__init__(collect_device=collect_device, prefix=prefix)
        self.ann_file = ann_file
        self.thresholds = sorted(thresholds)
        self._truth: dict[int, tuple[Tensor, Tensor]] | None = None

    @property
    def truth(self) -> dict[int, tuple[Tensor, Tensor]]:
        """Boxes [N, 4] in pixels of the file and labels [N] of each image."""
        if self._truth is None:
            self._truth = read_truth(self.ann_file, self.dataset_meta["classes"])
        return self._truth

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        """Count the boxes of a batch."""
        for sample in data_samples:
            found = sample["pred_instances"]
            boxes, labels = self.truth.get(
                sample["img_id"], (torch.zeros(0, 4), torch.zeros(0, dtype=torch.long))
            )
            scores = found["scores"].cpu()
            overlap = bbox_overlaps(found["bboxes"].cpu().float(), boxes)
            same = found["labels"].cpu()[:, None] == labels
            self.results.append(dict(self._count(scores, overlap, same)))

    def _count(self, scores: Tensor, overlap: Tensor, same: Tensor) -> Counter:
        """[B] scores, [B, N] IoU with the objects, [B, N] whether the class agrees."""
        count = Counter(images=1, objects=overlap.shape[1])
        right = (overlap >= 0.5) & same
        for n, low in enumerate(self.thresholds):
            above = scores > low
            count[f"boxes@{low:g}"] = int(above.sum())
            count[f"right@{low:g}"] = int(right[above].any(1).sum())
            tight = (overlap >= 0.75) & same
            count[f"right75@{low:g}"] = int(tight[above].any(1).sum())
            count[f"found@{low:g}"] = int(right[above].any(0).sum())
            if n + 1 < len(self.thresholds):
                high = self.thresholds[n + 1]
                band = above & (scores <= high)
                on_any = (overlap[band] >= 0.5).any(1)
                count[f"band@{low:g}-{high:g}"] = int(band.sum())
                count[f"on@{low:g}-{high:g}"] = int(on_any.sum())
        return count

    def compute_metrics(self, results: list[dict]) -> dict[str, float]:
        """The shares over all images."""
        total: Counter = Counter()
        for part in results:
            total.update(part)
        found = {}
        for name in [n.partition("@")[2] for n in total if n.startswith("boxes@")]:
            boxes = total[f"boxes@{name}"]
            found[f"boxes/per_image@{name}"] = boxes / total["images"]
            if boxes:
                found[f"boxes/precision@{name}"] = total[f"right@{name}"] / boxes
                found[f"boxes/precision75@{name}"] = total[f"right75@{name}"] / boxes
            if total["objects"]:
                share = total[f"found@{name}"] / total["objects"]
                found[f"boxes/recall@{name}"] = share
        for name in [n.partition("@")[2] for n in total if n.startswith("band@")]:
            if total[f"band@{name}"]:
                share = total[f"on@{name}"] / total[f"band@{name}"]
                found[f"boxes/on_object@{name}"] = share
        return found


def read_truth(
    ann_file: str, classes: Sequence[str]
) -> dict[int, tuple[Tensor, Tensor]]:
    """Boxes and labels of each image of a COCO json, without crowd regions.

    Args:
        ann_file: The file.
        classes: Class names in the order of the labels; others are left out.
    """
    content = read_coco(ann_file, needs=("annotations", "categories"))
    place = {name: n for n, name in enumerate(classes)}
    label_of = {c["id"]: place.get(c["name"]) for c in content["categories"]}
    rows = defaultdict(list)
    for item in content["annotations"]:
        label = label_of[item["category_id"]]
        if label is not None and not item.get("iscrowd"):
            x, y, w, h = item["bbox"]
            rows[item["image_id"]].append([x, y, x + w, y + h, label])
    return {
        image: (torch.tensor(found)[:, :4].float(), torch.tensor(found)[:, 4].long())
        for image, found in rows.items()
    }
