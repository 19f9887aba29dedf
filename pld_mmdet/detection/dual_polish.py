"""Dual polishing: pseudo boxes and their classes are corrected before they teach.

Zhang et al., "Mind the Gap: Polishing Pseudo Labels for Accurate Semi-Supervised Object
Detection" (AAAI 2023). Numbers and order of work follow the authors' code
(snowdusky/DualPolishLearning, 0db0b91, class ``PolishTeacher``). One deviation: the
release mixes the seven crops of a box with those of other boxes and images as soon as
two images of a GPU hold boxes; here a box is always seen with its own crops.
"""

import copy

import torch
import torch.nn.functional as F
from mmdet.models.losses.iou_loss import giou_loss
from mmdet.models.task_modules.coders import DeltaXYWHBBoxCoder
from mmdet.structures import DetDataSample
from mmdet.structures.bbox import bbox_overlaps
from mmengine.structures import InstanceData
from torch import Tensor

from pld_mmdet.detection.detectors.two_stage import (
    clip_to_images,
    larger_than,
    zero_loss,
)
from pld_mmdet.detection.pseudo_labels.box_jitter import jitter_boxes
from pld_mmdet.detection.pseudo_labels.polishers import Polishers
from pld_mmdet.detection.soft_teacher import (
    BoxJitterSoftTeacher,
    PseudoTruth,
)
from pld_mmdet.registry import MODELS

# Six looks around a box, in units of the fraction: four shifts along the diagonals,
# then grown by one and by two on each side.
_PATTERNS = (
    (-1.0, -1.0, -1.0, -1.0),
    (1.0, -1.0, 1.0, -1.0),
    (-1.0, 1.0, -1.0, 1.0),
    (1.0, 1.0, 1.0, 1.0),
    (-1.0, -1.0, 1.0, 1.0),
    (-2.0, -2.0, 2.0, 2.0),
)


def context_boxes(boxes: Tensor, fraction: float = 0.06) -> Tensor:
    """The six boxes around each box that the box polisher sees beside it.

    Args:
        boxes: [N, 4 + k], ``x1, y1, x2, y2`` in pixels; further columns are copied.
        fraction: Step as a share of width (x) and height (y), which count as one pixel
            at least. 0.06 in the authors' code.

    Returns:
        [6N, 4 + k], pattern by pattern (all boxes of the first one, then of the
        second), not clipped.

    Examples:
        >>> context_boxes(torch.tensor([[100.0, 200.0, 300.0, 260.0]]))[4].tolist()
        [88.0, 196.39999389648438, 312.0, 263.6000061035156]
    """
    patterns = boxes.new_tensor(_PATTERNS)[:, None].expand(-1, len(boxes), -1)
    return jitter_boxes(boxes, patterns, fraction).flatten(0, 1)


def polish_labels(
    probs: Tensor, scores: Tensor, labels: Tensor, threshold: float = 0.9
) -> tuple[Tensor, Tensor]:
    """Whose class is changed, and which boxes teach classification.

    With f and k the polisher's best foreground probability and class: the class becomes
    k where f >= threshold and the detector's score < threshold; a box is kept where
    f >= threshold or its score > threshold.

    Args:
        probs: [N, C + 1], the category polisher's softmax including background (last).
        scores: [N] of the detector.
        labels: [N] of the detector; not changed in place.
        threshold: 0.9 in the authors' code, for both.

    Returns:
        New labels [N] and bool [N].
    """
    confidence, best = probs[:, :-1].max(1)
    sure = confidence >= threshold
    new_labels = torch.where(sure & (scores < threshold), best, labels)
    return new_labels, sure | (scores > threshold)


@MODELS.register_module()
class DualPolishTeacher(BoxJitterSoftTeacher):
    """Soft Teacher whose pseudo labels pass two small networks instead of a jitter.

    The polishers look at the *teacher's* RoI features. They learn on labelled images
    from pairs of a disturbed box and its object; their average polishes the teacher's
    detections on unlabelled images. The student's classification then learns from the
    original boxes with polished classes, its regression from the polished boxes with
    the original classes. At test time the polishers are not used.

    Two :class:`pld_mmdet.engine.hooks.RampedEMAHook` belong to it: one for the
    detectors, with ``stop_after`` at the first drop of the learning rate, and one for
    the polishers (``teacher='polish_teacher', student='polish_student', keep=0.99,
    warm_up=100``), which never stops.

    Args:
        detector: See :class:`BoxJitterSoftTeacher`.
        polish_threshold: See :func:`polish_labels` (0.9).
        context_fraction: See :func:`context_boxes` (0.06).
        box_jitters: (draws per object, share of its size) for the box polisher's
            training: (150, 0.2).
        category_jitters: Likewise for the category polisher: ((50, 0.06), (50, 0.2)).
        category_min_iou: A box stands for its object's class from this IoU on (0.7).
        box_weight: Weight of the box polisher's loss (1).
        category_weight: Weight of the category polisher's loss (1).
        polish_boxes: False takes Soft Teacher's steady boxes for regression instead,
            and has no box polisher (ablation).
        polish_categories: False takes the detections above ``cls_threshold`` for
            classification, and has no category polisher (ablation; set both
            thresholds to 0.9).
        hidden_channels: Width of the polishers (1024).
        rpn_threshold: 0.5, that is, inactive behind ``min_score``.
        cls_threshold: Likewise.
        unsup_weight: 3 on COCO, 1 on VOC.
        **kwargs: See :class:`BoxJitterSoftTeacher`.
    """

    kept = ("polish_",)

    def __init__(
        self,
        detector: dict,
        *,
        polish_threshold: float = 0.9,
        context_fraction: float = 0.06,
        box_jitters: tuple[int, float] = (150, 0.2),
        category_jitters: tuple[tuple[int, float], ...] = ((50, 0.06), (50, 0.2)),
        category_min_iou: float = 0.7,
        box_weight: float = 1.0,
        category_weight: float = 1.0,
        polish_boxes: bool = True,
        polish_categories: bool = True,
        hidden_channels: int = 1024,
        rpn_threshold: float = 0.5,
        cls_threshold: float = 0.5,
        unsup_weight: float = 3.0,
        **kwargs,
    ) -> None:
        super().__init__(
            detector,
            rpn_threshold=rpn_threshold,
            cls_threshold=cls_threshold,
            unsup_weight=unsup_weight,
            **kwargs,
        )
        self.polish_threshold = polish_threshold
        self.context_fraction = context_fraction
        self.box_jitters = box_jitters
        self.category_jitters = category_jitters
        self.category_min_iou = category_min_iou
        self.box_weight = box_weight
        self.category_weight = category_weight
        self.polish_student = Polishers(
            self.student.roi_head.bbox_roi_extractor,
            self.num_classes,
            crops=1 + len(_PATTERNS),
            hidden_channels=hidden_channels,
            box=polish_boxes,
            category=polish_categories,
        )
        self.polish_teacher = copy.deepcopy(self.polish_student).requires_grad_(False)
        self.coder = DeltaXYWHBBoxCoder(target_stds=(1.0, 1.0, 1.0, 1.0))

    def loss(
        self,
        batch_inputs: dict[str, Tensor],
        batch_data_samples: dict[str, list[DetDataSample]],
    ) -> dict[str, Tensor]:
        """Soft Teacher's losses and those of the polishers; see the base class.

        Returns:
            ``sup_*``, ``unsup_*``, ``loss_polish_box`` and ``loss_polish_cls``; the
            last two are not multiplied by ``unsup_weight``.
        """
        with torch.no_grad():
            features, weak_features = self._extract_both(
                self.teacher, batch_inputs["sup"], batch_inputs["weak"]
            )
        losses = self._all_losses(weak_features, batch_inputs, batch_data_samples)
        sup = batch_data_samples["sup"]
        if self.polish_student.box is not None:
            losses["loss_polish_box"] = self.box_weight * self._box_loss(features, sup)
        if self.polish_student.category is not None:
            loss = self._category_loss(features, sup)
            losses["loss_polish_cls"] = self.category_weight * loss
        return losses

    # Polishing pseudo labels.

    @torch.no_grad()
    def _select(
        self,
        features: tuple[Tensor, ...],
        found: list[InstanceData],
        samples: list[DetDataSample],
    ) -> PseudoTruth:
        polished, relabelled = self.polish(features, found, samples)
        rpn, cls = self._confident(found if relabelled is None else relabelled)
        if polished is None:
            polished = self._steady(features, found, samples)
        return PseudoTruth(rpn, cls, polished)

    @torch.no_grad()
    def polish(
        self,
        features: tuple[Tensor, ...],
        found: list[InstanceData],
        samples: list[DetDataSample],
    ) -> tuple[list[InstanceData] | None, list[InstanceData] | None]:
        """Correct detections, all images in one pass.

        Args:
            features: Of the teacher's backbone for these images.
            found: Detections with ``bboxes``, ``scores``, ``labels``, one entry an
                image.
            samples: Their data samples (image sizes).

        Returns:
            All detections with polished boxes and the *original* classes, and the kept
            ones with original boxes and polished classes. None instead of the part
            whose polisher is switched off.
        """
        found, network = self.judge(features, found, samples), self.polish_teacher
        polished = relabelled = None
        if network.box is not None:
            polished = [
                InstanceData(bboxes=i.polished, scores=i.scores, labels=i.labels)
                for i in found
            ]
        if network.category is not None:
            relabelled = [
                InstanceData(bboxes=i.bboxes, scores=i.scores, labels=i.new_labels)[
                    i.keep
                ]
                for i in found
            ]
        return polished, relabelled

    @torch.no_grad()
    def judge(
        self,
        features: tuple[Tensor, ...],
        found: list[InstanceData],
        samples: list[DetDataSample],
    ) -> list[InstanceData]:
        """What the polishers say about each detection; arguments as :meth:`polish`.

        Returns:
            The detections with ``polished`` [N, 4], ``new_labels`` [N] and ``keep``
            [N], as far as there is a polisher for it.
        """
        counts = [len(i) for i in found]
        rois, network = _rois([i.bboxes for i in found]), self.polish_teacher
        scores = torch.cat([i.scores for i in found])
        labels = torch.cat([i.labels for i in found])
        said: dict[str, Tensor] = {}
        if len(rois):
            crops = self._crops(features, rois, all_looks=network.box is not None)
        if network.box is not None:
            said["polished"] = rois[:, 1:]
            if len(rois):
                moved = self.coder.decode(rois[:, 1:], network.box(crops))
                said["polished"] = clip_to_images(moved, rois, samples)
        if network.category is not None:
            probs = scores.new_zeros(0, self.num_classes + 1)
            if len(rois):
                probs = network.category(crops[:, 0]).softmax(1)
            said["new_labels"], said["keep"] = polish_labels(
                probs, scores, labels, self.polish_threshold
            )
        judged = [InstanceData(**dict(i.items())) for i in found]
        for name, value in said.items():
            for instances, part in zip(judged, value.split(counts), strict=True):
                setattr(instances, name, part)
        return judged

    def _crops(
        self, features: tuple[Tensor, ...], rois: Tensor, all_looks: bool = True
    ) -> Tensor:
        """[N, 7 or 1, C, h, w]: each box, then its own six context boxes.

        Box by box and not pattern by pattern, so that no reshaping can mix boxes.
        """
        extractor = self.teacher.roi_head.bbox_roi_extractor
        looks = rois[:, None]
        if all_looks:
            around = context_boxes(rois[:, 1:], self.context_fraction)
            around = around.unflatten(0, (-1, len(rois))).transpose(0, 1)  # N x 6 x 4
            image = rois[:, None, :1].expand(-1, around.shape[1], -1)
            looks = torch.cat([looks, torch.cat([image, around], 2)], 1)
        pooled = extractor(features[: extractor.num_inputs], looks.flatten(0, 1))
        return pooled.unflatten(0, looks.shape[:2])

    # Training the polishers on synthesised pairs.

    def _box_loss(
        self, features: tuple[Tensor, ...], samples: list[DetDataSample]
    ) -> Tensor:
        """Mean of 1 - GIoU between polished jitters and their objects."""
        boxes, targets = [], []
        for sample in samples:
            truth = sample.gt_instances.bboxes
            pairs = self._jittered(truth, (self.box_jitters,))
            boxes.append(pairs)
            if len(truth):  # the nearest object, not always the one that was jittered
                truth = truth[bbox_overlaps(pairs, truth).argmax(1)]
            targets.append(truth)
        network, rois = self.polish_student.box, _rois(boxes)
        if len(rois) == 0:
            return zero_loss(network)
        with torch.no_grad():
            crops = self._crops(features, rois)
        decoded = self.coder.decode(rois[:, 1:], network(crops))
        decoded = clip_to_images(decoded, rois, samples)
        return giou_loss(decoded, torch.cat(targets), eps=1e-6, reduction="mean")

    def _category_loss(
        self, features: tuple[Tensor, ...], samples: list[DetDataSample]
    ) -> Tensor:
        """Mean cross-entropy of jitters, proposals and objects, background included."""
        boxes, labels = [], []
        proposals = self._test_proposals(features, samples)
        for sample, around in zip(samples, proposals, strict=True):
            truth = sample.gt_instances
            if len(truth) == 0:
                boxes.append(truth.bboxes)
                continue
            pairs = self._jittered(truth.bboxes, self.category_jitters)
            pairs = torch.cat([pairs, around.to(pairs.dtype)])
            overlap, nearest = bbox_overlaps(pairs, truth.bboxes).max(1)
            known = truth.labels[nearest]
            background = torch.full_like(known, self.num_classes)
            boxes.append(pairs)
            labels.append(
                torch.where(overlap >= self.category_min_iou, known, background)
            )
        network, rois = self.polish_student.category, _rois(boxes)
        if len(rois) == 0:
            return zero_loss(network)
        with torch.no_grad():
            crops = self._crops(features, rois, all_looks=False)
        return F.cross_entropy(network(crops[:, 0]), torch.cat(labels))

    @torch.no_grad()
    def _test_proposals(
        self, features: tuple[Tensor, ...], samples: list[DetDataSample]
    ) -> list[Tensor]:
        found = self.teacher.rpn_head.predict(features, samples, rescale=False)
        return [i.bboxes for i in found]

    @staticmethod
    def _jittered(truth: Tensor, jitters: tuple[tuple[int, float], ...]) -> Tensor:
        """Objects [G, 4] and Gaussian jitters of them that are boxes at all."""
        boxes = [truth]
        for times, fraction in jitters:
            noise = torch.randn(times, *truth.shape, device=truth.device)
            boxes.append(jitter_boxes(truth, noise, fraction).flatten(0, 1))
        return larger_than(InstanceData(bboxes=torch.cat(boxes)), 0.0).bboxes


def _rois(boxes: list[Tensor]) -> Tensor:
    """[N, 5] with the image's number first; unlike bbox2roi also of [0, 4] tensors."""
    numbered = [
        torch.cat([b.new_full((len(b), 1), n), b[:, :4]], 1)
        for n, b in enumerate(boxes)
    ]
    return torch.cat(numbered)
