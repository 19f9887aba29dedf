"""MarvelOVD: open-vocabulary detection from CLIP's noisy boxes (ECCV 2024).

CLIP's candidate boxes are corrected online by the detector that learns from them.
Numbers follow the released code (wkfdb/MarvelOVD, commit e9615e0);
:class:`MarvelOVD` lists what differs.
"""

from collections.abc import Sequence

import torch
from mmdet.models.task_modules.assigners import AssignResult
from mmdet.models.task_modules.samplers import SamplingResult
from mmdet.structures import DetDataSample
from mmdet.structures.bbox import bbox2roi, bbox_overlaps
from mmengine.structures import InstanceData
from torch import Tensor

from pld_mmdet.detection.detectors.teacher_student import DetectorWrapper
from pld_mmdet.detection.detectors.two_stage import (
    require_softmax_head,
    rpn_loss,
    run_box_head,
)
from pld_mmdet.errors import UserError
from pld_mmdet.registry import MODELS

# 0.5 * 1.0 + 0.5 * 0.8 falls below 0.9 in single precision.
_ROUNDING = 1e-6


@torch.no_grad()
def mine_novel(
    clip_scores: Tensor,
    novelty: Tensor,
    is_base: Tensor,
    mix: float = 0.5,
    threshold: float = 0.9,
) -> tuple[Tensor, Tensor]:
    """Which candidates of one image CLIP and the detector agree upon.

    ``confidence = mix * clip + (1 - mix) * z / max(z)``. Base boxes, which a person
    drew, have confidence 1 and stay.

    Args:
        clip_scores: [N] in [0, 1].
        novelty: [N], ``z``: the detector's probability of *any* novel class (the sum,
            not that of the candidate's class). The maximum is taken over all boxes of
            the image, base ones included (released code).
        is_base: bool [N].
        mix: lambda (paper and code: 0.5).
        threshold: delta, inclusive up to rounding in single precision (0.9).

    Returns:
        Confidence [N] and bool [N]. Where ``z`` is 0 everywhere the detector's part is
        0 (the release divides by zero there).
    """
    if len(novelty) == 0:
        return clip_scores.clone(), is_base.clone()
    largest = novelty.amax()
    share = torch.where(largest > 0, novelty / largest, torch.zeros_like(novelty))
    confidence = mix * clip_scores + (1 - mix) * share
    confidence = confidence.masked_fill(is_base, 1.0)
    return confidence, is_base | (confidence >= threshold - _ROUNDING)


@torch.no_grad()
def stratified_assign(
    iou: Tensor, is_base: Tensor, threshold: float = 0.5
) -> tuple[Tensor, Tensor]:
    """Match proposals to base boxes first; only the rest looks at novel boxes.

    So a proposal that overlaps a base box enough is base, however well a candidate
    fits: candidates often are wrong, base boxes are not.

    Args:
        iou: [G, P] of ground truth and proposals.
        is_base: bool [G].
        threshold: Smallest IoU of a match, inclusive (0.5).

    Returns:
        ``matched`` int64 [P], an index into the G boxes (the best one of all where
        there is no match; 0 without boxes), and ``foreground`` bool [P].
    """
    count = iou.shape[1]
    if iou.shape[0] == 0:
        none = torch.zeros(count, dtype=torch.bool, device=iou.device)
        return none.long(), none
    base_iou, base = iou.masked_fill(~is_base[:, None], -1.0).max(0)
    novel_iou, novel = iou.masked_fill(is_base[:, None], -1.0).max(0)
    is_matched_base, is_matched_novel = base_iou >= threshold, novel_iou >= threshold
    matched = torch.where(
        is_matched_base, base, torch.where(is_matched_novel, novel, iou.argmax(0))
    )
    return matched, is_matched_base | is_matched_novel


@torch.no_grad()
def novel_weights(
    labels: Tensor,
    matched_is_base: Tensor,
    matched_confidence: Tensor,
    background_prob: Tensor,
    num_classes: int,
    mix: float = 0.5,
    gamma: float = 2.0,
) -> Tensor:
    """Weights of the class loss: a novel RoI counts as far as it is believed.

    ``gamma * (mix * s + (1 - mix) * (1 - b))`` for novel foreground, 1 for base
    foreground and for background.

    Args:
        labels: [R] in 0..C; C is background.
        matched_is_base: bool [R]; whether the matched box is a base box (no matter
            for background).
        matched_confidence: [R], ``s`` of the matched box.
        background_prob: [R], ``b``: the detector's background probability on the weak
            view.
        num_classes: C.
        mix: lambda' (0.5).
        gamma: Scale (2): with the default mix the weight is ``s + 1 - b``.

    Returns:
        [R], detached.
    """
    novel = (labels != num_classes) & ~matched_is_base
    belief = mix * matched_confidence + (1 - mix) * (1 - background_prob)
    return torch.where(novel, gamma * belief, torch.ones_like(belief))


@MODELS.register_module()
class MarvelOVD(DetectorWrapper):
    """A detector that corrects CLIP's candidate boxes while it learns from them.

    There is no EMA teacher: the teacher is the current network on the weak view,
    without gradient. A training batch has the branches ``weak`` and ``strong`` of one
    geometry; both are trained. The ``gt_instances`` carry, besides boxes and labels,
    ``confidence`` [N], ``clip_score`` [N] and ``is_base`` bool [N] (see
    :mod:`pld_mmdet.detection.open_vocabulary.candidates`).

    Deviations from the released code (which stops at iteration 501): the mining pools
    at the boxes as intended; ground truth is appended to the proposals *before* the
    assignment, whatever the sampler's ``add_gt_as_proposals`` says; a maximum of 0 does
    not give NaN; base boxes are those that the file says were drawn by people, so a
    candidate with score 1 is a candidate. Burn-in assigns in the stratified way too
    (not stated in the paper). The background scores of the weak view's own RoIs come
    from the training pass: the same boxes, features and weights.

    Args:
        detector: Config of a two-stage mmdet detector with a class-agnostic softmax
            box head whose ``cls_predictor_cfg`` is usually
            :class:`pld_mmdet.detection.open_vocabulary.text_classifier.TextEmbeddingClassifier`.
        novel: Labels (indices) of the novel classes.
        burn_in: Last iteration of the burn-in, counted from 0: 500 (paper: 500
            iterations; code: 0..500).
        burn_in_threshold: Candidates need this confidence meanwhile: 0.9 (code;
            paper 0.8).
        mix: lambda of :func:`mine_novel` (0.5).
        threshold: delta of :func:`mine_novel` (0.9).
        weight_mix: lambda' of :func:`novel_weights` (0.5).
        gamma: Of :func:`novel_weights` (2).
        strong_view: False trains the weak view only (ablation).
        stratified: False assigns by the best IoU (ablation).
        mining: False keeps all candidates all the time, without a burn-in: VL-PLM.
        reweighting: False weighs novel RoIs by their confidence (ablation).
        **kwargs: See
            :class:`pld_mmdet.detection.detectors.teacher_student.DetectorWrapper`.

    Attributes:
        pseudo_boxes: ``novel``: the candidates of each image that the last step
            believed, in pixels of the weak view.
        steps: Training steps so far; a buffer, so that a resumed run does not burn in
            again.

    Raises:
        UserError: The detector has no proposals, or its box head does not fit.
    """

    kept = ("steps",)
    steps: Tensor

    def __init__(
        self,
        detector: dict,
        novel: Sequence[int],
        burn_in: int = 500,
        burn_in_threshold: float = 0.9,
        mix: float = 0.5,
        threshold: float = 0.9,
        weight_mix: float = 0.5,
        gamma: float = 2.0,
        strong_view: bool = True,
        stratified: bool = True,
        mining: bool = True,
        reweighting: bool = True,
        **kwargs,
    ) -> None:
        super().__init__(detector, **kwargs)
        require_softmax_head(self.detector, "MarvelOVD")
        head = self.detector.roi_head
        if not head.bbox_head.reg_class_agnostic:
            raise UserError(
                "MarvelOVD needs class-agnostic boxes, or novel classes have none.",
                "Set roi_head.bbox_head.reg_class_agnostic=True.",
            )
        head.bbox_sampler.add_gt_as_proposals = False  # done before the assignment
        if not novel or not 0 <= min(novel) <= max(novel) < self.num_classes:
            raise UserError(
                f"MarvelOVD: novel={list(novel)} are not labels of "
                f"{self.num_classes} classes.",
                "Give the positions of the novel names in the data set's classes.",
            )
        self.novel = sorted(novel)
        self.burn_in = burn_in
        self.burn_in_threshold = burn_in_threshold
        self.mix = mix
        self.threshold = threshold
        self.weight_mix = weight_mix
        self.gamma = gamma
        self.strong_view = strong_view
        self.stratified = stratified
        self.mining = mining
        self.reweighting = reweighting
        self.pseudo_boxes: dict[str, list[InstanceData]] = {}
        self.register_buffer("steps", torch.zeros((), dtype=torch.long))

    def set_vocabulary(self, names: Sequence[str], embeddings: Tensor) -> None:
        """Detect other classes from now on.

        Args:
            names: C' names, none empty, none twice.
            embeddings: [C', D], one row a name; made unit length.

        Raises:
            UserError: Names or shapes do not fit.
        """
        head = self.detector.roi_head.bbox_head
        head.fc_cls.set_vocabulary(names, embeddings)
        self.num_classes = head.num_classes = len(names)

    def loss(
        self,
        batch_inputs: dict[str, Tensor],
        batch_data_samples: dict[str, list[DetDataSample]],
    ) -> dict[str, Tensor]:
        """Detector losses on base boxes and on the candidates that were believed.

        Args:
            batch_inputs: ``weak`` and ``strong`` images, N x 3 x H x W each.
            batch_data_samples: Their data samples; the labels of ``weak`` are used.

        Returns:
            ``loss_rpn_cls``, ``loss_rpn_bbox``, ``loss_cls``, ``acc``, ``loss_bbox``.
        """
        weak, samples = batch_inputs["weak"], batch_data_samples["weak"]
        images = len(samples)
        inputs, metas = weak, [s.metainfo for s in samples]
        if self.strong_view:
            strong = batch_data_samples["strong"]
            _require_same_geometry(samples, strong)
            inputs = torch.cat([weak, batch_inputs["strong"]])
            metas += [s.metainfo for s in strong]
        features = self.detector.extract_feat(inputs)
        weak_features = tuple(f[:images].detach() for f in features)
        truth = self.select([s.gt_instances for s in samples], weak_features)
        self.steps += 1
        truth = truth * (2 if self.strong_view else 1)
        labelled = [
            DetDataSample(
                metainfo=meta,
                gt_instances=InstanceData(bboxes=t.bboxes, labels=t.labels),
            )
            for meta, t in zip(metas, truth, strict=True)
        ]
        losses, proposals = rpn_loss(self.detector, features, labelled)
        losses.update(self._roi_loss(features, weak_features, proposals, truth))
        return losses

    @torch.no_grad()
    def select(
        self, truth: list[InstanceData], weak_features: tuple[Tensor, ...]
    ) -> list[InstanceData]:
        """Base boxes and the candidates that are believed at this step.

        Args:
            truth: Annotated boxes of each image with ``confidence``, ``clip_score`` and
                ``is_base``.
            weak_features: Feature maps of the weak view.

        Returns:
            The chosen boxes; their ``confidence`` is what the method goes by.
        """
        if not self.mining:
            chosen = list(truth)
        elif int(self.steps) <= self.burn_in:
            chosen = [
                t[t.is_base | (t.confidence >= self.burn_in_threshold)] for t in truth
            ]
        else:
            chosen = self._mine(truth, weak_features)
        self.pseudo_boxes = {"novel": [t[~t.is_base] for t in chosen]}
        self._count(**self.pseudo_boxes)
        return chosen

    def _mine(
        self, truth: list[InstanceData], weak_features: tuple[Tensor, ...]
    ) -> list[InstanceData]:
        rois = bbox2roi([t.bboxes for t in truth])
        if len(rois) == 0:
            return list(truth)
        logits = run_box_head(self.detector, weak_features, rois).logits
        novelty = logits.softmax(1)[:, self.novel].sum(1)
        chosen = []
        for t, z in zip(truth, novelty.split([len(t) for t in truth]), strict=True):
            confidence, keep = mine_novel(
                t.clip_score, z, t.is_base, self.mix, self.threshold
            )
            t = t[keep]
            t.confidence = confidence[keep]
            chosen.append(t)
        return chosen

    def _roi_loss(
        self,
        features: tuple[Tensor, ...],
        weak_features: tuple[Tensor, ...],
        proposals: list[InstanceData],
        truth: list[InstanceData],
    ) -> dict:
        head = self.detector.roi_head
        sampled = [
            self._sample(found.bboxes, objects)
            for found, objects in zip(proposals, truth, strict=True)
        ]
        rois = bbox2roi([s.priors for s in sampled])
        out = run_box_head(self.detector, features, rois)
        labels, weights, *boxes = head.bbox_head.get_targets(sampled, head.train_cfg)
        is_base, confidence = (
            torch.cat(
                [_of_matched(s, t[key]) for s, t in zip(sampled, truth, strict=True)]
            )
            for key in ("is_base", "confidence")
        )
        if self.reweighting and self.mining and int(self.steps) - 1 > self.burn_in:
            background = self._background(out.logits, weak_features, rois)
            weights = novel_weights(
                labels,
                is_base,
                confidence,
                background,
                self.num_classes,
                self.weight_mix,
                self.gamma,
            )
        else:
            novel = (labels != self.num_classes) & ~is_base
            weights = torch.where(novel, confidence, weights)
        # sum w CE / R: mmdet's head divides by the number of weights above 0
        return head.bbox_head.loss(
            out.logits, out.deltas, rois, labels, weights, *boxes
        )

    def _sample(self, proposals: Tensor, truth: InstanceData) -> SamplingResult:
        """Assign ground truth and proposals, sample RoIs; of one image."""
        head = self.detector.roi_head
        priors = torch.cat([truth.bboxes, proposals])
        if not self.stratified:
            found = InstanceData(priors=priors)
            assigned = head.bbox_assigner.assign(found, truth)
            return head.bbox_sampler.sample(assigned, found, truth)
        iou = bbox_overlaps(truth.bboxes, priors)
        matched, foreground = stratified_assign(
            iou, truth.is_base, head.train_cfg.assigner.pos_iou_thr
        )
        zero = torch.zeros_like(matched)
        if len(truth):
            labels = torch.where(foreground, truth.labels[matched], zero - 1)
            overlap = iou.gather(0, matched[None])[0]
        else:
            labels, overlap = zero - 1, zero.float()
        assigned = AssignResult(
            len(truth), torch.where(foreground, matched + 1, zero), overlap, labels
        )
        return head.bbox_sampler.sample(assigned, InstanceData(priors=priors), truth)

    @torch.no_grad()
    def _background(
        self, logits: Tensor, weak_features: tuple[Tensor, ...], rois: Tensor
    ) -> Tensor:
        """Background probability of each RoI [R] on the weak view of its image."""
        images = len(weak_features[0])
        strong = rois[:, 0] >= images
        weak_logits = logits.detach()
        if strong.any():
            moved = rois[strong]
            moved[:, 0] -= images
            weak_logits = weak_logits.clone()
            weak_logits[strong] = run_box_head(
                self.detector, weak_features, moved
            ).logits
        return weak_logits.softmax(1)[:, -1]


def _of_matched(sampled: SamplingResult, values: Tensor) -> Tensor:
    """``values`` [G] at the matched boxes of the positives; 1 for the negatives."""
    positive = values[sampled.pos_assigned_gt_inds]
    return torch.cat([positive, values.new_ones(len(sampled.neg_priors))])


def _require_same_geometry(
    weak: list[DetDataSample], strong: list[DetDataSample]
) -> None:
    for ours, theirs in zip(weak, strong, strict=True):
        for key in ("img_path", "img_shape", "flip", "flip_direction"):
            if ours.get(key) != theirs.get(key):
                raise UserError(
                    f"MarvelOVD: the weak and the strong view differ in {key} "
                    f"({ours.get(key)} and {theirs.get(key)}).",
                    "Resize and flip before MultiBranch, so that both views share it.",
                )
