"""What else the student learns from the teacher; each part is off by default.

``MeanTeacherSFOD`` asks an :class:`Ingredients` three times: what of the teacher's pass
to record, which boxes are confident, and what the student's losses are.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from mmdet.structures import DetDataSample
from mmdet.structures.bbox import bbox_overlaps
from mmengine.structures import InstanceData
from torch import Tensor, nn

from pld_mmdet.detection.boxes.views import map_to_strong
from pld_mmdet.detection.detectors.two_stage import (
    require_softmax_head,
    rpn_loss,
    zero_loss,
)
from pld_mmdet.detection.pseudo_labels.dense_targets import (
    dense_tap,
    require_dense_head,
    soften_dense,
)
from pld_mmdet.detection.pseudo_labels.masks import draw_mask, visible
from pld_mmdet.detection.pseudo_labels.missing_truth import loss_of_boxes
from pld_mmdet.detection.pseudo_labels.mosaic import draw_mosaic
from pld_mmdet.detection.pseudo_labels.soft_targets import (
    KINDS,
    soft_objectness_loss,
    soften,
    taps,
)
from pld_mmdet.distill.feature_tap import FeatureTap
from pld_mmdet.errors import UserError

OBJECTS = "objects"
# Parts of the names of class losses; all others are of boxes (iou, dfl, wh, l1 ...).
_CLASS_LOSSES = ("cls", "obj", "conf", "centerness", "heatmap")


@dataclass
class Ingredients:
    """Which parts are on.

    Attributes:
        skip_empty: Images without a confident box teach nothing (MixPL, MIC).
        soft_rois: Class targets of the student's own RoIs where there is no pseudo box:
            None, ``'mixed'``, ``'all'`` or ``'weighted'``; see
            :func:`~pld_mmdet.detection.pseudo_labels.soft_targets.soft_cls_loss`.
        soft_least_mass: Its ``least_mass``.
        soft_objectness: Weight of the RPN's soft targets at all anchors (0.5); views of
            one geometry only.
        soft_dense: ``dict(weight=4.0, region='sum')``, each with that default: the
            class loss of a one-stage head, or of DINO's encoder, learns the teacher's
            scores at all locations instead of pseudo boxes (Dense Teacher, whose weight
            it is); see :func:`~.dense_targets.dense_cls_loss`. Views of one geometry
            only; mosaic and masks keep the hard loss.
        rpn_threshold: Boxes above teach the RPN that there is an object, while those
            above ``hpl_threshold`` teach the RoI head (LabelMatch, PseCo: 0.4); what
            teaches the RoI head teaches the RPN too.
        mosaic: ``dict(weight=0.5, veil=(0.4, 0.9), least_height=7)``, each with that
            default; ``veil=None`` for none.
        masks: ``dict(block=6, share=(0.3, 0.5), weight=1, most_covered=0.7)``, likewise
            a second pass over a masked strong view, class losses only.
    """

    skip_empty: bool = False
    soft_rois: str | None = None
    soft_least_mass: float | None = None
    soft_objectness: float = 0.0
    soft_dense: dict | None = None
    rpn_threshold: float | None = None
    mosaic: dict | None = None
    masks: dict | None = None

    def __post_init__(self) -> None:
        self._taught: FeatureTap | None = None
        if self.soft_dense is not None:
            default = dict(weight=4.0, region="sum")
            self.soft_dense = _completed("soft_dense", self.soft_dense, default)
            _check_region(self.soft_dense["region"])
        if self.mosaic is not None:
            default = dict(weight=0.5, veil=(0.4, 0.9), least_height=7.0)
            self.mosaic = _completed("mosaic", self.mosaic, default)
        if self.masks is not None:
            default = dict(block=6, share=(0.3, 0.5), weight=1.0, most_covered=0.7)
            self.masks = _completed("masks", self.masks, default)
        if self.soft_rois not in (None, *KINDS):
            raise UserError(
                f"soft_rois={self.soft_rois!r} is not known.",
                f"Write None or one of {', '.join(map(repr, KINDS))}.",
            )

    def given(self) -> list[str]:
        """Names of the parts that are on."""
        default = Ingredients()
        names = ("skip_empty", "soft_rois", "soft_objectness", "soft_dense")
        names += ("rpn_threshold", "mosaic", "masks")
        return [n for n in names if getattr(self, n) != getattr(default, n)]

    def check(self, detector: nn.Module, threshold: float) -> None:
        """Refuse a detector that lacks what a part works on."""
        two_stage = {"soft_rois", "soft_objectness", "rpn_threshold"} & {*self.given()}
        if two_stage:
            require_softmax_head(detector, ", ".join(sorted(two_stage)), cascade=True)
        if self.soft_objectness and detector.rpn_head.cls_out_channels != 1:
            raise UserError(
                "soft_objectness reads one sigmoid logit an anchor, and the RPN has "
                f"{detector.rpn_head.cls_out_channels}.",
                "Leave it out, or set use_sigmoid=True of the RPN's loss_cls.",
            )
        if self.soft_dense is not None:
            require_dense_head(detector, "soft_dense")
        if self.rpn_threshold is not None and not 0 <= self.rpn_threshold <= threshold:
            raise UserError(
                f"rpn_threshold={self.rpn_threshold} is no score below {threshold}, "
                "from which on a box teaches the RoI head.",
                "Write a number between 0 and hpl_threshold, for example 0.4.",
            )
        pictures = {"mosaic", "masks"} & {*self.given()}
        if pictures and getattr(detector, "with_mask", False):
            raise UserError(
                f"{', '.join(sorted(pictures))}: pseudo masks are not carried into new "
                "images.",
                "Leave it out for a detector with instance masks.",
            )

    # The teacher.

    def watch(self, teacher: nn.Module) -> FeatureTap:
        """Record what the student's soft targets need of the teacher's pass."""
        soft_rpn = bool(self.soft_objectness)
        self._taught = self._taps(teacher, soft_rpn, self.soft_dense is not None)
        return self._taught

    def _taps(self, network: nn.Module, rpn: bool, dense: bool) -> FeatureTap:
        if dense:
            return dense_tap(network)
        if rpn or self.soft_rois is not None:
            return taps(network, rpn)
        return FeatureTap()

    def mark_objects(self, detections: list[InstanceData]) -> None:
        """Note beside each image's detections those that teach the RPN."""
        if self.rpn_threshold is None:
            return
        for found in detections:
            sure = found[found.scores > self.rpn_threshold]
            kept = InstanceData(bboxes=sure.bboxes, labels=sure.labels)
            found.set_metainfo({OBJECTS: kept})

    # The student.

    def student_losses(
        self,
        student: nn.Module,
        teacher: nn.Module,
        high: list[InstanceData],
        inputs: dict[str, Tensor],
        views: dict[str, list[DetDataSample]],
        samples: list[DetDataSample],
    ) -> dict[str, Tensor]:
        """The student's losses on the strong view, and on what is made of the views.

        Args:
            student: The network that learns.
            teacher: Its teacher, whose pass over the weak view was recorded.
            high: Confident boxes in pixels of the weak view.
            inputs: ``weak`` and ``strong``.
            views: Their data samples.
            samples: The strong view's with pseudo boxes as ground truth.
        """
        strong, kept = inputs["strong"], list(range(len(samples)))
        if self.skip_empty:
            kept = [n for n in kept if len(high[n])]
            if not kept:
                self._taught = None
                return {"loss_cls": zero_loss(student)}
            if len(kept) < len(samples):
                strong = strong[kept]
                samples = [samples[n] for n in kept]
        objects = None
        if self.rpn_threshold is not None:
            objects = [
                _with_boxes(sample, _objects(high[n]), views["weak"][n])
                for n, sample in zip(kept, samples, strict=True)
            ]

        def to_weak(rois: Tensor) -> Tensor:
            return _rois_in_weak(rois, kept, views["weak"], views["strong"])

        if self.soft_objectness or self.soft_dense is not None:
            _one_geometry(views)
        losses = self._pass(student, teacher, strong, samples, to_weak, kept, objects)
        if self.mosaic is not None:
            weak = inputs["weak"]
            losses |= self._mosaic_losses(student, teacher, high, weak, kept)
        if self.masks is not None:
            losses |= self._masked_losses(student, teacher, strong, samples, to_weak)
        self._taught = None  # the teacher's activations may go
        return losses

    def _pass(
        self,
        student: nn.Module,
        teacher: nn.Module,
        inputs: Tensor,
        samples: list[DetDataSample],
        to_weak: Callable[[Tensor], Tensor],
        kept: list[int] | None = None,
        objects: list[DetDataSample] | None = None,
    ) -> dict[str, Tensor]:
        """Losses of one pass; ``kept`` are the weak images, for dense targets."""
        soft_rpn = bool(self.soft_objectness) and kept is not None
        dense = self.soft_dense is not None and kept is not None
        with self._taps(student, soft_rpn, dense) as seen:
            if objects is None:
                losses = loss_of_boxes(student, inputs, samples)
            else:
                features = student.extract_feat(inputs)
                losses, proposals = rpn_loss(student, features, objects)
                losses |= student.roi_head.loss(features, proposals, samples)
        if self.soft_rois is not None:
            settings = dict(kind=self.soft_rois, least_mass=self.soft_least_mass)
            soften(losses, student, teacher, seen, self._taught, to_weak, **settings)
        if soft_rpn and seen.called("rpn") and self._taught.called("rpn"):
            theirs = [level[kept] for level in self._taught.output("rpn")[0]]
            loss = soft_objectness_loss(seen.output("rpn")[0], theirs)
            losses["loss_rpn_soft"] = self.soft_objectness * loss
        if dense:
            args = losses, student, teacher, seen, self._taught, kept
            soften_dense(*args, **self.soft_dense)
        return losses

    def _mosaic_losses(
        self,
        student: nn.Module,
        teacher: nn.Module,
        high: list[InstanceData],
        weak: Tensor,
        kept: list[int],
    ) -> dict[str, Tensor]:
        chosen = self.mosaic
        settings = chosen["veil"], chosen["least_height"]
        mosaic = draw_mosaic(weak, high, *settings, kept)
        if not len(mosaic.sample.gt_instances):
            return {}
        args = mosaic.inputs, [mosaic.sample], mosaic.to_weak
        losses = self._pass(student, teacher, *args)
        return _renamed("mosaic", losses, chosen["weight"])

    def _masked_losses(
        self,
        student: nn.Module,
        teacher: nn.Module,
        strong: Tensor,
        samples: list[DetDataSample],
        to_weak: Callable[[Tensor], Tensor],
    ) -> dict[str, Tensor]:
        chosen = self.masks
        hidden, seen = strong.clone(), []
        for n, sample in enumerate(samples):
            mask = draw_mask(tuple(strong.shape[-2:]), chosen["block"], chosen["share"])
            mask = mask.to(strong.device)
            hidden[n].masked_fill_(mask, 0.0)  # the mean colour, once normalised
            copy = DetDataSample(metainfo=sample.metainfo)
            copy.gt_instances = visible(
                sample.gt_instances, mask, chosen["most_covered"]
            )
            if "ignored_instances" in sample:
                copy.ignored_instances = sample.ignored_instances
            seen.append(copy)
        losses = self._pass(student, teacher, hidden, seen, to_weak)
        classes = {
            k: v for k, v in losses.items() if any(part in k for part in _CLASS_LOSSES)
        }
        if not classes:
            raise UserError(
                f"masks: none of {', '.join(losses)} is known as a class loss.",
                "Leave masks out for this detector.",
            )
        return _renamed("masked", classes, chosen["weight"])


def _completed(name: str, chosen: dict, default: dict) -> dict:
    unknown = sorted(chosen.keys() - default.keys())
    if unknown:
        raise UserError(
            f"{name} has no {', '.join(unknown)}.",
            f"Its keys are {', '.join(default)}.",
        )
    return default | chosen


def _check_region(region: str | float) -> None:
    number = isinstance(region, int | float) and 0 < region <= 1
    if region != "sum" and not number:
        raise UserError(
            f"soft_dense: region={region!r} names no part of the locations.",
            "Write 'sum' (as many as the teacher's scores add up to) or a share such "
            "as 0.01.",
        )


def _renamed(prefix: str, losses: dict, weight: float) -> dict:
    """Losses under another name and weight; accuracies and the like are left out."""

    def weighed(value):
        if isinstance(value, list | tuple):
            return [one * weight for one in value]
        return value * weight

    return {f"{prefix}_{k}": weighed(v) for k, v in losses.items() if "loss" in k}


def _objects(high: InstanceData) -> InstanceData:
    """The noted objects, and the confident boxes that none of them covers."""
    noted = high.get(OBJECTS)
    covered = bbox_overlaps(high.bboxes, noted.bboxes)
    more = high[covered.amax(1) < 0.5] if len(noted) else high
    return InstanceData(
        bboxes=torch.cat([noted.bboxes, more.bboxes]),
        labels=torch.cat([noted.labels, more.labels]),
    )


def _with_boxes(
    sample: DetDataSample, boxes: InstanceData, weak: DetDataSample
) -> DetDataSample:
    copy = DetDataSample(metainfo=sample.metainfo)
    copy.gt_instances = InstanceData(
        bboxes=map_to_strong(boxes.bboxes, weak, sample), labels=boxes.labels
    )
    if "ignored_instances" in sample:
        copy.ignored_instances = sample.ignored_instances
    return copy


def _rois_in_weak(
    rois: Tensor,
    kept: list[int],
    weak: list[DetDataSample],
    strong: list[DetDataSample],
) -> Tensor:
    """RoIs [R, 5] of the strong images that were kept, in the weak batch."""
    mapped = rois.clone()
    for slot, image in enumerate(kept):
        rows = rois[:, 0] == slot
        mapped[rows, 0] = image
        mapped[rows, 1:] = map_to_strong(rois[rows, 1:], strong[image], weak[image])
    return mapped


def _one_geometry(views: dict[str, list[DetDataSample]]) -> None:
    probe = torch.tensor([[1.0, 2.0, 11.0, 7.0]])
    for weak, strong in zip(views["weak"], views["strong"], strict=True):
        same = weak.img_shape[:2] == strong.img_shape[:2]
        if not same or not torch.equal(map_to_strong(probe, weak, strong), probe):
            raise UserError(
                "soft_objectness and soft_dense compare anchors, and the weak and the "
                "strong view differ in geometry.",
                "Use the same resize and flip for both, or neither of the two.",
            )
