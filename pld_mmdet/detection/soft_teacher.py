"""Soft Teacher: detection from few labels (Xu et al., ICCV 2021).

Numbers and order of work follow the authors' code (microsoft/SoftTeacher, 0423bb2).
mmdet's ``SoftTeacher`` differs from it in a dozen points; ours has another name, and
``docs/soft_teacher.md`` says point by point (a-l) which of the two it follows.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from mmdet.models.utils import rename_loss_dict, reweight_loss_dict
from mmdet.structures import DetDataSample
from mmdet.structures.bbox import bbox2roi
from mmengine.structures import InstanceData
from torch import Tensor, nn

from pld_mmdet.detection.boxes.views import map_to_strong
from pld_mmdet.detection.detectors.teacher_student import (
    PseudoLabels,
    TeacherStudentDetector,
    high_confidence,
)
from pld_mmdet.detection.detectors.two_stage import (
    clip_to_images,
    from_score,
    larger_than,
    mixes_samples,
    own_class,
    proposal_cfg,
    require_softmax_head,
    rpn_loss,
    run_box_head,
    zero_loss,
)
from pld_mmdet.detection.pseudo_labels.box_jitter import (
    box_uncertainty,
    jitter_boxes,
    weighted_cls_loss,
)
from pld_mmdet.errors import UserError
from pld_mmdet.registry import MODELS


@dataclass
class PseudoTruth:
    """What the student learns from; one entry an image.

    Attributes:
        rpn: Objects for the region proposals.
        cls: Objects for the classification of RoIs.
        reg: Objects for the box regression of RoIs.
    """

    rpn: list[InstanceData]
    cls: list[InstanceData]
    reg: list[InstanceData]


@MODELS.register_module()
class BoxJitterSoftTeacher(TeacherStudentDetector):
    """Supervised detection plus pseudo boxes weighted by how sure the teacher is.

    A training batch has three branches: ``sup`` (labelled images), ``weak`` (unlabelled
    images as the teacher sees them) and ``strong`` (the same images, same order, as the
    student sees them). The teacher's boxes pass three filters of their own: score for
    RPN and classification, steadiness under jitter for regression. Background RoIs
    count as much as the teacher, looking at them in *its* view, believes that they are
    background. Whatever labels unlabelled images carry is never looked at.
    :class:`pld_mmdet.engine.hooks.RampedEMAHook` moves the teacher.

    Args:
        detector: Config of a Faster or Mask R-CNN (one box head, softmax
            cross-entropy). Masks are learnt from labelled images only.
        min_score: Pseudo boxes have a score strictly above (authors' code: 0.5).
        rpn_threshold: Score strictly above which a box teaches the RPN (0.9).
        cls_threshold: Likewise for the classification of RoIs (0.9).
        reg_threshold: Uncertainty strictly below which a box teaches the regression,
            whatever its score (0.02). None: those above ``cls_threshold`` instead.
        jitter_times: Draws per box (10).
        jitter_fraction: See :func:`jitter_boxes` (0.06).
        min_box_size: Sides in pixels are strictly longer, in both views (0, as the
            authors; mmdet's port: 0.01).
        sup_weight: Weight of the labelled images' losses (1).
        unsup_weight: Weight of the unlabelled images' losses: 4 with 1 to 10 % of the
            labels, 2 with all of COCO and its unlabelled images.
        refine_boxes: With ``reg_threshold=None``: the boxes that teach the regression
            go through the teacher's box head once more. A simple rival of polishing.
        weigh_background: False counts background RoIs as 1 (ablation).
        share_features: One backbone pass over labelled and unlabelled images where
            padded sizes agree and no live batch norm ties them; the same numbers.
        predict_on: ``'student'`` as in the authors' configs, or ``'teacher'``.
        **kwargs: See :class:`TeacherStudentDetector`.

    Attributes:
        pseudo_boxes: What the last step found and believed, in pixels of the weak view:
            ``found`` above ``min_score``, ``cls`` and ``box`` that teach classification
            and regression. For :class:`pld_mmdet.PseudoTruthHook`.

    Raises:
        UserError: The detector is not of that kind, or an argument is out of range.
    """

    branches = ("sup", "weak", "strong")

    def __init__(
        self,
        detector: dict,
        *,
        min_score: float = 0.5,
        rpn_threshold: float = 0.9,
        cls_threshold: float = 0.9,
        reg_threshold: float | None = 0.02,
        jitter_times: int = 10,
        jitter_fraction: float = 0.06,
        min_box_size: float = 0.0,
        sup_weight: float = 1.0,
        unsup_weight: float = 4.0,
        refine_boxes: bool = False,
        weigh_background: bool = True,
        share_features: bool = True,
        predict_on: str = "student",
        **kwargs,
    ) -> None:
        super().__init__(detector, predict_on=predict_on, **kwargs)
        require_softmax_head(self.student, type(self).__name__, stock_losses=True)
        if reg_threshold is not None and jitter_times < 2:
            raise UserError(
                f"jitter_times={jitter_times}: one draw has no spread.",
                "Use two or more (the authors use 10), or reg_threshold=None to select "
                "the regression's boxes by their score.",
            )
        self.hpl_threshold = min_score
        if refine_boxes and reg_threshold is not None:
            raise UserError(
                f"refine_boxes: boxes are chosen by steadiness (reg_threshold="
                f"{reg_threshold}), not refined.",
                "Write reg_threshold=None with refine_boxes=True.",
            )
        self.rpn_threshold = rpn_threshold
        self.cls_threshold = cls_threshold
        self.reg_threshold = reg_threshold
        self.jitter_times = jitter_times
        self.jitter_fraction = jitter_fraction
        self.min_box_size = min_box_size
        self.sup_weight = sup_weight
        self.unsup_weight = unsup_weight
        self.refine_boxes = refine_boxes
        self.weigh_background = weigh_background
        self.share_features = share_features
        self.pseudo_boxes: dict[str, list[InstanceData]] = {}

    def loss(
        self,
        batch_inputs: dict[str, Tensor],
        batch_data_samples: dict[str, list[DetDataSample]],
    ) -> dict[str, Tensor]:
        """Losses of one batch.

        Args:
            batch_inputs: ``sup``, ``weak`` and ``strong`` images, N x 3 x H x W each.
            batch_data_samples: Their data samples; ground truth is read in ``sup``.

        Returns:
            The detector's losses twice: ``sup_*`` and ``unsup_*``.
        """
        with torch.no_grad():
            weak_features = self.teacher.extract_feat(batch_inputs["weak"])
        return self._all_losses(weak_features, batch_inputs, batch_data_samples)

    def _all_losses(
        self,
        weak_features: tuple[Tensor, ...],
        batch_inputs: dict[str, Tensor],
        batch_data_samples: dict[str, list[DetDataSample]],
    ) -> dict[str, Tensor]:
        weak, strong = batch_data_samples["weak"], batch_data_samples["strong"]
        # The teacher first: its activations are gone before the student's graph grows.
        found = self._detect(weak_features, weak)
        truth = self._select(weak_features, found, weak)
        self._count(high=truth.cls, box=truth.reg, found=found)
        self.pseudo_boxes = dict(found=found, cls=truth.cls, box=truth.reg)
        truth = self._in_strong_view(truth, weak, strong)
        sup_features, features = self._extract_both(
            self.student, batch_inputs["sup"], batch_inputs["strong"]
        )
        losses = self._supervised_loss(sup_features, batch_data_samples["sup"])
        losses = rename_loss_dict("sup_", reweight_loss_dict(losses, self.sup_weight))
        objects = [
            DetDataSample(metainfo=s.metainfo, gt_instances=i)
            for s, i in zip(strong, truth.rpn, strict=True)
        ]
        unsup, proposals = rpn_loss(self.student, features, objects)
        unsup["loss_cls"] = self._cls_loss(
            features, proposals, truth.cls, weak_features, weak, strong
        )
        unsup["loss_bbox"] = self._reg_loss(features, proposals, truth.reg)
        unsup = reweight_loss_dict(unsup, self.unsup_weight)
        return losses | rename_loss_dict("unsup_", unsup)

    @torch.no_grad()
    def pseudo_labels(
        self, weak_inputs: Tensor, weak_samples: list[DetDataSample]
    ) -> PseudoLabels:
        """The boxes that teach classification, in pixels of the weak view."""
        return PseudoLabels(self.pseudo_sets(weak_inputs, weak_samples)["cls"])

    @torch.no_grad()
    def pseudo_sets(
        self, weak_inputs: Tensor, weak_samples: list[DetDataSample]
    ) -> dict[str, list[InstanceData]]:
        """All that ``pseudo_boxes`` holds, for any weak images."""
        features = self.teacher.extract_feat(weak_inputs)
        found = self._detect(features, weak_samples)
        truth = self._select(features, found, weak_samples)
        return dict(found=found, cls=truth.cls, box=truth.reg)

    # What the teacher says.

    @torch.no_grad()
    def _detect(
        self, features: tuple[Tensor, ...], samples: list[DetDataSample]
    ) -> list[InstanceData]:
        """The teacher's boxes above ``min_score``."""
        metas = [s.metainfo for s in samples]
        teacher = self.teacher
        # The training setting (more proposals), as the authors; mmdet's port: test.
        proposals = teacher.rpn_head.predict_by_feat(
            *teacher.rpn_head(features),
            batch_img_metas=metas,
            cfg=proposal_cfg(teacher),
        )
        cfg = from_score(teacher.test_cfg.rcnn, self.hpl_threshold)
        # not predict(): pseudo masks are not used
        detections = teacher.roi_head.predict_bbox(
            features, metas, proposals, cfg, rescale=False
        )
        return [
            larger_than(high_confidence(d, self.hpl_threshold), self.min_box_size)
            for d in detections
        ]

    @torch.no_grad()
    def _select(
        self,
        features: tuple[Tensor, ...],
        found: list[InstanceData],
        samples: list[DetDataSample],
    ) -> PseudoTruth:
        """Which boxes teach what, in the weak view."""
        rpn, cls = self._confident(found)
        if self.refine_boxes:
            return PseudoTruth(rpn, cls, self._refined(features, cls, samples))
        if self.reg_threshold is None:
            return PseudoTruth(rpn, cls, cls)
        return PseudoTruth(rpn, cls, self._steady(features, found, samples))

    def _confident(
        self, found: list[InstanceData]
    ) -> tuple[list[InstanceData], list[InstanceData]]:
        cls = [high_confidence(i, self.cls_threshold) for i in found]
        if self.rpn_threshold == self.cls_threshold:
            return cls, cls
        return [high_confidence(i, self.rpn_threshold) for i in found], cls

    def _refined(
        self,
        features: tuple[Tensor, ...],
        chosen: list[InstanceData],
        samples: list[DetDataSample],
    ) -> list[InstanceData]:
        """The same objects, their boxes once more through the box head."""
        labels = torch.cat([i.labels for i in chosen])
        if len(labels) == 0:
            return chosen
        rois = bbox2roi([i.bboxes for i in chosen])
        deltas = run_box_head(self.teacher, features, rois, only="reg").deltas
        decode = self.teacher.roi_head.bbox_head.bbox_coder.decode
        boxes = decode(rois[:, 1:], own_class(deltas, labels))
        boxes = clip_to_images(boxes, rois, samples)
        parts = boxes.split([len(i) for i in chosen])
        return [
            InstanceData(bboxes=box, labels=i.labels, scores=i.scores)
            for i, box in zip(chosen, parts, strict=True)
        ]

    def _steady(
        self,
        features: tuple[Tensor, ...],
        found: list[InstanceData],
        samples: list[DetDataSample],
    ) -> list[InstanceData]:
        """Boxes that hardly move under jitter; all images in one pass of the head."""
        counts = [len(i) for i in found]
        boxes = torch.cat([i.bboxes for i in found])
        if len(boxes) == 0:
            return found
        labels = torch.cat([i.labels for i in found])
        times = self.jitter_times
        noise = torch.randn(times, *boxes.shape, device=boxes.device)
        image = [i.scores.new_full((len(i),), n) for n, i in enumerate(found)]
        image = torch.cat(image).expand(times, -1)[..., None]
        jittered = jitter_boxes(boxes, noise, self.jitter_fraction)
        rois = torch.cat([image, jittered], 2).flatten(0, 1)
        deltas = run_box_head(self.teacher, features, rois, only="reg").deltas
        deltas = own_class(deltas, labels.repeat(times))
        decode = self.teacher.roi_head.bbox_head.bbox_coder.decode
        refined = clip_to_images(decode(rois[:, 1:], deltas), rois, samples)
        spread = box_uncertainty(refined.unflatten(0, (times, -1)), labels).mean(1)
        for instances, part in zip(found, spread.split(counts), strict=True):
            instances.uncertainty = part
        return [i[i.uncertainty < self.reg_threshold] for i in found]

    def _in_strong_view(
        self, truth: PseudoTruth, weak: list, strong: list
    ) -> PseudoTruth:
        def carry(per_image: list[InstanceData]) -> list[InstanceData]:
            views = zip(per_image, weak, strong, strict=True)
            return [
                larger_than(
                    InstanceData(bboxes=map_to_strong(i.bboxes, w, s), labels=i.labels),
                    self.min_box_size,
                )
                for i, w, s in views
            ]

        cls = carry(truth.cls)
        return PseudoTruth(
            rpn=cls if truth.rpn is truth.cls else carry(truth.rpn),
            cls=cls,
            reg=cls if truth.reg is truth.cls else carry(truth.reg),
        )

    # What the student learns.

    def _extract_both(
        self, network: nn.Module, first: Tensor, second: Tensor
    ) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        """Features of two batches, in one pass where that changes nothing."""
        extract = network.extract_feat
        stages = [network.backbone, *([network.neck] if network.with_neck else [])]
        together = self.share_features and first.shape[1:] == second.shape[1:]
        if not together or any(mixes_samples(stage) for stage in stages):
            return extract(first), extract(second)
        levels = extract(torch.cat([first, second]))
        parts = [level.split([len(first), len(second)]) for level in levels]
        return tuple(p[0] for p in parts), tuple(p[1] for p in parts)

    def _supervised_loss(
        self, features: tuple[Tensor, ...], samples: list[DetDataSample]
    ) -> dict[str, Tensor]:
        losses, proposals = rpn_loss(self.student, features, samples)
        losses.update(self.student.roi_head.loss(features, proposals, samples))
        if "loss_cls" not in losses:  # mmdet's head without a single RoI
            losses["loss_cls"] = zero_loss(self.student.roi_head)
        return losses

    def _sample(
        self,
        features: tuple[Tensor, ...],
        proposals: list[InstanceData],
        truth: list[InstanceData],
    ) -> list:
        """Assign and sample proposals: a draw of its own for each set of objects."""
        head, results = self.student.roi_head, []
        for n, (found, objects) in enumerate(zip(proposals, truth, strict=True)):
            priors = InstanceData(priors=found.bboxes)
            assigned = head.bbox_assigner.assign(priors, objects, None)
            feats = [level[n][None] for level in features]
            results.append(
                head.bbox_sampler.sample(assigned, priors, objects, feats=feats)
            )
        return results

    def _cls_loss(
        self,
        features: tuple[Tensor, ...],
        proposals: list[InstanceData],
        truth: list[InstanceData],
        weak_features: tuple[Tensor, ...],
        weak: list[DetDataSample],
        strong: list[DetDataSample],
    ) -> Tensor:
        sampled = self._sample(features, proposals, truth)
        head = self.student.roi_head.bbox_head
        rois = bbox2roi([s.priors for s in sampled])  # positives first in each image
        logits = run_box_head(self.student, features, rois, only="cls").logits
        background = self.num_classes
        labels = torch.cat(
            [
                F.pad(s.pos_gt_labels.long(), (0, len(s.neg_priors)), value=background)
                for s in sampled
            ]
        )
        probs = torch.ones_like(logits, requires_grad=False)
        if self.weigh_background and len(rois):
            with torch.no_grad():  # only background rows are ever read
                back = [
                    map_to_strong(s.neg_priors, theirs, ours)
                    for s, theirs, ours in zip(sampled, strong, weak, strict=True)
                ]
                logits_seen = run_box_head(
                    self.teacher, weak_features, bbox2roi(back), only="cls"
                ).logits
                probs[labels == background] = logits_seen.softmax(1).to(probs.dtype)
        return weighted_cls_loss(logits, labels, probs) * head.loss_cls.loss_weight

    def _reg_loss(
        self,
        features: tuple[Tensor, ...],
        proposals: list[InstanceData],
        truth: list[InstanceData],
    ) -> Tensor:
        """L1 of the positives' own-class deltas, divided by all sampled RoIs."""
        sampled = self._sample(features, proposals, truth)
        roi_head, head = self.student.roi_head, self.student.roi_head.bbox_head
        labels = torch.cat([s.pos_gt_labels for s in sampled])
        if len(labels) == 0:
            return features[0].new_zeros(())
        rois = positive = bbox2roi([s.pos_priors for s in sampled])
        if mixes_samples(roi_head):  # the negatives' statistics count too
            rois = bbox2roi([s.priors for s in sampled])
        deltas = run_box_head(self.student, features, rois, only="reg").deltas
        if rois is not positive:
            deltas = deltas[_positives(sampled)]
        predicted = own_class(deltas, labels)
        target = torch.cat([s.pos_gt_bboxes for s in sampled])
        if head.reg_decoded_bbox:
            predicted = head.bbox_coder.decode(positive[:, 1:], predicted)
        else:
            target = head.bbox_coder.encode(positive[:, 1:], target)
        return head.loss_bbox(
            predicted, target, avg_factor=sum(len(s.priors) for s in sampled)
        )


def _positives(sampled: list) -> Tensor:
    """[R] bool: which RoIs of all images are objects; they come first in each."""
    marks = [
        torch.arange(len(s.priors), device=s.priors.device) < len(s.pos_priors)
        for s in sampled
    ]
    return torch.cat(marks)
