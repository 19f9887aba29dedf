"""What better pseudo labels could be worth: true boxes in their place. Diagnosis only.

Such a row is not source-free and belongs in no table of methods.
"""

from dataclasses import dataclass

import torch
from mmdet.structures import DetDataSample
from mmdet.structures.bbox import bbox_overlaps
from mmengine.structures import InstanceData
from torch import Tensor

from pld_mmdet.detection.boxes.views import project_boxes, view_matrix
from pld_mmdet.detection.data.coco import read_coco
from pld_mmdet.detection.evaluation.box_quality import read_truth
from pld_mmdet.detection.mean_teacher import MeanTeacherSFOD
from pld_mmdet.detection.pseudo_labels import Labels
from pld_mmdet.detection.pseudo_labels.ignore_band import KEY, spare_doubtful
from pld_mmdet.errors import UserError, one_of
from pld_mmdet.registry import MODELS

KINDS = ("all", "hit", "spared", "small")


@dataclass
class Truth:
    """True boxes of an image in pixels of a view, and which of them are small."""

    boxes: Tensor
    labels: Tensor
    small: Tensor


@MODELS.register_module()
class CeilingMeanTeacher(MeanTeacherSFOD):
    """Mean Teacher whose confident boxes are mended with the truth.

    Args:
        detector: As in :class:`MeanTeacherSFOD`.
        truth: ``dict(ann_file=..., classes=...)``: COCO json of the training images.
        kind: ``'all'``: every true box, the ceiling of the schedule (C1). ``'hit'``:
            the true boxes of objects that a confident box hits (C2). ``'spared'``: the
            confident boxes; missed objects are nobody's (C3). ``'small'``: the
            confident boxes and the missed small objects (C4).
        small_area: Pixels of the file below which an object is small (16 x 16).
        **kwargs: As in :class:`MeanTeacherSFOD`.
    """

    def __init__(
        self,
        detector: dict,
        *,
        truth: dict,
        kind: str,
        small_area: float = 16**2,
        **kwargs,
    ) -> None:
        super().__init__(detector, **kwargs)
        one_of("CeilingMeanTeacher", kind=(kind, KINDS))
        self.kind, self.small_area = kind, small_area
        content = read_coco(truth["ann_file"], needs=("images",))
        boxes = read_truth(truth["ann_file"], truth["classes"])
        nothing = torch.zeros(0, 4), torch.zeros(0, dtype=torch.long)
        self.truth = {
            image["file_name"]: boxes.get(image["id"], nothing)
            for image in content["images"]
        }
        if kind == "spared":
            spare_doubtful(self.student)

    def label(self, weak_inputs: Tensor, weak_samples: list[DetDataSample]) -> Labels:
        """As the labeller does, and then the truth."""
        labels = super().label(weak_inputs, weak_samples)
        labels.high = self.mended(labels.high, weak_samples)
        return labels

    def mended(
        self, high: list[InstanceData], samples: list[DetDataSample]
    ) -> list[InstanceData]:
        """Confident boxes of each image, in pixels of its view, with the truth."""
        return [
            self._mended(found, self._true(sample, found.bboxes))
            for found, sample in zip(high, samples, strict=True)
        ]

    def _true(self, sample: DetDataSample, like: Tensor) -> Truth:
        names = [n for n in self.truth if sample.img_path.endswith(n)]
        if not names:
            raise UserError(
                f"The truth has no image {sample.img_path}.",
                "Name the annotations of the images that are learnt from.",
            )
        boxes, labels = self.truth[max(names, key=len)]
        area = (boxes[:, 2:] - boxes[:, :2]).prod(1)
        view = torch.as_tensor(view_matrix(sample))
        seen = project_boxes(boxes, torch.eye(3), view, sample.img_shape[:2])
        return Truth(
            seen.to(like),
            labels.to(like.device),
            (area < self.small_area).to(like).bool(),
        )

    def _mended(self, found: InstanceData, truth: Truth) -> InstanceData:
        overlap = bbox_overlaps(truth.boxes, found.bboxes)
        same = truth.labels[:, None] == found.labels
        hit = ((overlap >= 0.5) & same).any(1)
        if self.kind == "spared":
            missed = InstanceData(bboxes=truth.boxes[~hit], labels=truth.labels[~hit])
            found.set_metainfo({KEY: missed})
            return found
        keep, chosen = {
            "all": (False, torch.ones_like(hit)),
            "hit": (False, hit),
            "small": (True, truth.small & ~hit),
        }[self.kind]
        boxes, labels = truth.boxes[chosen], truth.labels[chosen]
        if keep:
            boxes = torch.cat([found.bboxes, boxes])
            labels = torch.cat([found.labels, labels])
        mended = InstanceData(
            bboxes=boxes, labels=labels, scores=boxes.new_ones(len(boxes))
        )
        mended.set_metainfo(dict(found.metainfo_items()))
        return mended
