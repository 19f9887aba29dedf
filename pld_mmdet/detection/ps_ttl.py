"""PS-TTL: prototype-based soft labels and test-time learning (Gao et al., 2024).

A few-shot detector keeps learning on the unlabelled test stream, one image at a time.
Numbers and order of work follow the released code (repository PS-TTL, commit bd718199);
:class:`PSTTL` lists what differs.
"""

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from mmcv.ops import nms
from mmdet.structures import DetDataSample
from mmdet.structures.bbox import bbox2roi, bbox_overlaps
from mmengine.structures import InstanceData
from torch import Tensor

from pld_mmdet.detection.detectors.defrcn import decouple
from pld_mmdet.detection.detectors.teacher_student import (
    PseudoLabels,
    TeacherStudentDetector,
)
from pld_mmdet.detection.detectors.two_stage import (
    require_softmax_head,
    rpn_loss,
    run_box_head,
)
from pld_mmdet.detection.pseudo_labels.ignore_band import SparingAssigner
from pld_mmdet.distill.memory import PrototypeQueue
from pld_mmdet.errors import UserError
from pld_mmdet.registry import MODELS

__all__ = ["PSTTL", "decouple", "soft_label_loss", "split_known_unknown"]


@torch.no_grad()
def split_known_unknown(
    boxes: Tensor,
    scores: Tensor,
    labels: Tensor,
    num_classes: int,
    known: float = 0.9,
    unknown: float = 0.5,
    nms_iou: float = 0.5,
) -> tuple[Tensor, Tensor, Tensor]:
    """Sort the teacher's detections of one image into known and unknown objects.

    Scores above ``known`` keep their class and are never touched. Those in
    ``(unknown, known]`` lose it, go when they overlap a known box, and pass a
    class-agnostic NMS among themselves; the survivors get the label ``num_classes + 1``
    (``num_classes`` is background). Both thresholds and both overlaps are strict.

    Args:
        boxes: [N, 4] in pixels.
        scores: [N].
        labels: [N] in 0..C-1.
        num_classes: C.
        known: Threshold of known objects (released code: 0.9).
        unknown: Threshold of candidates (released code: 0.5).
        nms_iou: Largest overlap that is allowed, in both tests (released code: 0.5).

    Returns:
        Boxes [M, 4], labels [M], scores [M]: known ones in the given order, then
        unknown ones by falling score.
    """
    is_known = scores > known
    candidate = (scores > unknown) & ~is_known
    sure, rest = boxes[is_known], boxes[candidate]
    rest_scores = scores[candidate]
    if len(sure) and len(rest):
        free = bbox_overlaps(rest, sure).amax(1) <= nms_iou
        rest, rest_scores = rest[free], rest_scores[free]
    if len(rest):
        _, kept = nms(
            rest.float().contiguous(), rest_scores.float().contiguous(), nms_iou
        )
        rest, rest_scores = rest[kept], rest_scores[kept]
    forgotten = labels.new_full((len(rest),), num_classes + 1)
    return (
        torch.cat([sure, rest]),
        torch.cat([labels[is_known], forgotten]),
        torch.cat([scores[is_known], rest_scores]),
    )


def soft_label_loss(
    logits: Tensor, labels: Tensor, soft_labels: Tensor, num_classes: int
) -> tuple[Tensor, Tensor]:
    """Cross-entropy of the known rows and KL to the soft labels of the unknown ones.

    Args:
        logits: [R, C + 1], background last. Gets gradient.
        labels: [R] in 0..C+1; C is background, C + 1 unknown.
        soft_labels: [R, C + 1] or, for the unknown rows only and in their order,
            [U, C + 1]. Detached; entries of 0 add nothing.
        num_classes: C.

    Returns:
        ``ce``: mean over the rows that are not unknown (background included), and
        ``kld``: ``1/U sum KL(soft label || softmax(logits))``; neither is scaled. Each
        is 0, with gradients of 0, when it has no row.

    Raises:
        ValueError: The soft labels fit neither way.
    """
    unknown = labels == num_classes + 1
    logits = logits.float()
    total = F.cross_entropy(
        logits,
        labels.masked_fill(unknown, -100),
        ignore_index=-100,
        reduction="sum",
    )
    ce = total / (~unknown).sum().clamp(min=1)
    student = logits[unknown].log_softmax(dim=1)
    target = soft_labels.detach().float()
    if len(target) == len(logits):
        target = target[unknown]
    if target.shape != student.shape:
        raise ValueError(
            f"soft labels {tuple(soft_labels.shape)} fit neither all "
            f"{len(logits)} rows nor the {len(student)} unknown ones, with "
            f"{logits.shape[1]} columns"
        )
    kld = F.kl_div(student, target, reduction="sum") / max(len(student), 1)
    return ce, kld


@MODELS.register_module()
class PSTTL(TeacherStudentDetector):
    """A few-shot detector that learns on the test stream (PS-TTL).

    One step, on one test image: the teacher's detections are split into known and
    unknown objects; the student takes both as positives of its RPN, the known ones as
    targets of its classifier, and soft labels from class prototypes for the unknown
    ones. Run it with :class:`pld_mmdet.engine.loops.OnlineLoop` and with
    ``TeacherEMAHook(keep=0.9998, moment='before')``.

    A training batch has the branch ``weak`` (the test image without labels) and, for
    the support set, the branches ``support_weak`` and ``support_strong`` with boxes.

    The class feature is the input of the class layer: for a C4 detector the spatial
    mean after res5, before ``DropoutLinear`` (``detectors/defrcn.py``) drops.

    Deviations from the released code, none of which changes a value: the losses that
    it computes and multiplies by 0 (boxes of pseudo labels, support set at
    ``sup_weight`` 0) are not computed, gradients of 0 take their place; prototypes and
    rings are buffers of the checkpoint; they are kept out of the EMA. Only K-shot
    checkpoints trained with the same box head fit.

    Args:
        detector: Config of a two-stage mmdet detector, usually DeFRCN's K-shot one.
        known_threshold: 0.9, strict (code; paper: not found).
        unknown_threshold: 0.5, strict. The same as ``known_threshold``: known-only
            self-training.
        unknown_nms_iou: 0.5, see :func:`split_known_unknown`.
        queue_length: Ring length (128).
        prototype_momentum: Share of the old prototype (0.5, fixed; the paper perhaps
            adapts it).
        cosine_scale: 10.
        kld_weight: 0.1, before ``unsup_weight``.
        unsup_weight: 0.5 on all terms of the test image.
        sup_weight: Weight of the four detector losses on the support set. The release
            computes them and throws them away (0); the paper's text has them (1).
        ignore_unknown: Unknown objects are neither objects nor background: no soft
            labels, and priors that they would claim are left out. The simple rival that
            shows whether prototypes do more than not punishing.
        teacher_train_mode: The release labels with the teacher in *training* mode:
            classifier dropout is active and the training proposals (2000) are used.
            False labels in evaluation mode. Scoring is always in evaluation mode.
        **kwargs: See :class:`TeacherStudentDetector`.

    Attributes:
        pseudo_boxes: ``known`` and ``unknown`` boxes of each image of the last step,
            in pixels of the weak view.

    Raises:
        UserError: The detector has no proposals or not one softmax box head.
    """

    kept = ("memory.",)

    branches = ("weak",)

    def __init__(
        self,
        detector: dict,
        *,
        known_threshold: float = 0.9,
        unknown_threshold: float = 0.5,
        unknown_nms_iou: float = 0.5,
        queue_length: int = 128,
        prototype_momentum: float = 0.5,
        cosine_scale: float = 10.0,
        kld_weight: float = 0.1,
        unsup_weight: float = 0.5,
        sup_weight: float = 0.0,
        ignore_unknown: bool = False,
        teacher_train_mode: bool = True,
        **kwargs,
    ) -> None:
        super().__init__(detector, **kwargs)
        require_softmax_head(self.student, "PS-TTL")
        if not 0 <= unknown_threshold <= known_threshold <= 1:
            raise UserError(
                f"PSTTL: unknown_threshold={unknown_threshold} and known_threshold="
                f"{known_threshold} do not grow within [0, 1].",
                "The released code has 0.5 and 0.9.",
            )
        self.hpl_threshold = known_threshold
        self.unknown_threshold = unknown_threshold
        self.unknown_nms_iou = unknown_nms_iou
        self.cosine_scale = cosine_scale
        self.kld_weight = kld_weight
        self.unsup_weight = unsup_weight
        self.sup_weight = sup_weight
        self.ignore_unknown = ignore_unknown
        if ignore_unknown:
            rpn = self.student.rpn_head
            rpn.assigner = SparingAssigner(rpn.assigner)
        self.teacher_train_mode = teacher_train_mode
        self.pseudo_boxes: dict[str, list[InstanceData]] = {}
        width = self.student.roi_head.bbox_head.fc_cls.in_features
        self.memory = PrototypeQueue(
            self.num_classes, width, queue_length, prototype_momentum
        )

    @torch.no_grad()
    def start_stream(self, batches: Iterable[dict], classes: tuple = ()) -> None:
        """Fill the rings from the support set; once, before the first test image.

        Args:
            batches: Collated support batches; the branch ``support_strong`` is used
                (as released), or the only one that there is.
            classes: Class names, for the error.

        Raises:
            UserError: A class has no box in the support set.
        """
        for batch in batches:
            data = self.data_preprocessor(batch, training=True)
            views = data["inputs"]
            view = "support_strong" if "support_strong" in views else next(iter(views))
            truth = [s.gt_instances for s in data["data_samples"][view]]
            rois = bbox2roi([t.bboxes for t in truth])
            features = self.student.extract_feat(views[view])
            out = run_box_head(self.student, features, rois)
            self.memory.push(out.features, torch.cat([t.labels for t in truth]))
        missing = (self.memory.counts == 0).nonzero().flatten().tolist()
        if missing:
            names = [str(classes[i]) if len(classes) > i else str(i) for i in missing]
            raise UserError(
                f"PS-TTL: the support set has no box of class {', '.join(names)}.",
                "Every class needs at least one shot: make the support file again "
                "(tools/make_fewshot.py) and check its class names.",
            )
        self.memory.init_prototypes()

    def loss(
        self,
        batch_inputs: dict[str, Tensor],
        batch_data_samples: dict[str, list[DetDataSample]],
    ) -> dict[str, Tensor]:
        """Losses of one test image (and of the support images).

        Args:
            batch_inputs: ``weak`` [N, 3, H, W]; ``support_*`` if ``sup_weight`` > 0.
            batch_data_samples: Of the same branches. Labels of the test image, if any,
                are not looked at.

        Returns:
            ``loss_rpn_cls``, ``loss_rpn_bbox`` (0), ``loss_cls``, ``loss_kld``,
            ``loss_bbox`` (0), and ``sup_*``; all are weighted.
        """
        weak, samples = batch_inputs["weak"], batch_data_samples["weak"]
        pseudo = self.pseudo_labels(weak, samples).high
        self._count_pseudo(pseudo)
        losses = self._stream_loss(weak, samples, pseudo)
        if self.sup_weight:
            losses |= self._support_loss(batch_inputs, batch_data_samples)
        return losses

    @torch.no_grad()
    def pseudo_labels(
        self, weak_inputs: Tensor, weak_samples: list[DetDataSample]
    ) -> PseudoLabels:
        """Known (label < C) and unknown (label C + 1) objects of each image."""
        teacher = self.teacher
        samples = [DetDataSample(metainfo=s.metainfo) for s in weak_samples]
        proposal_cfg = teacher.test_cfg.rpn
        if self.teacher_train_mode:
            proposal_cfg = teacher.train_cfg.get("rpn_proposal", proposal_cfg)
            teacher.train()
        try:
            features = teacher.extract_feat(weak_inputs)
            proposals = teacher.rpn_head.predict_by_feat(
                *teacher.rpn_head(features),
                batch_img_metas=[s.metainfo for s in samples],
                cfg=proposal_cfg,
            )
            found = teacher.roi_head.predict(features, proposals, samples)
        finally:
            teacher.eval()
        high = []
        for d in found:
            boxes, labels, scores = split_known_unknown(
                d.bboxes,
                d.scores,
                d.labels,
                self.num_classes,
                self.hpl_threshold,
                self.unknown_threshold,
                self.unknown_nms_iou,
            )
            high.append(InstanceData(bboxes=boxes, labels=labels, scores=scores))
        return PseudoLabels(high)

    def _stream_loss(
        self, inputs: Tensor, samples: list[DetDataSample], pseudo: list[InstanceData]
    ) -> dict:
        student = self.student
        features = student.extract_feat(inputs)
        truth = [InstanceData(bboxes=p.bboxes, labels=p.labels) for p in pseudo]
        samples = [
            DetDataSample(metainfo=s.metainfo, gt_instances=t)
            for s, t in zip(samples, truth, strict=True)
        ]
        if self.ignore_unknown:
            for sample, objects in zip(samples, truth, strict=True):
                known = objects.labels < self.num_classes
                sample.gt_instances = objects[known]
                sample.ignored_instances = objects[~known]
        rpn, proposals = rpn_loss(student, features, samples)
        rois, labels = self._sample(proposals, truth)
        out = run_box_head(student, features, rois)
        self.memory.push(out.features, labels)
        self.memory.update_prototypes()
        unknown = labels == self.num_classes + 1
        soft = self.memory.soft_labels(out.features[unknown], self.cosine_scale)
        ce, kld = soft_label_loss(out.logits, labels, soft, self.num_classes)
        weight = self.unsup_weight
        if self.ignore_unknown:
            kld = kld * 0.0
        return dict(
            loss_rpn_cls=[weight * v for v in as_list(rpn["loss_rpn_cls"])],
            # 0, and gradients of 0 rather than none, as after the release's "* 0":
            # weight decay still acts
            loss_rpn_bbox=[0.0 * v for v in as_list(rpn["loss_rpn_bbox"])],
            loss_cls=weight * ce,
            loss_kld=weight * self.kld_weight * kld,
            loss_bbox=out.deltas.sum() * 0.0,
        )

    def _sample(
        self, proposals: list[InstanceData], truth: list[InstanceData]
    ) -> tuple[Tensor, Tensor]:
        """Sampled RoIs [R, 5] and labels [R]; unknown objects count as positives."""
        head, priors, labels = self.student.roi_head, [], []
        for found, objects in zip(proposals, truth, strict=True):
            found.priors = found.pop("bboxes")
            assigned = head.bbox_assigner.assign(found, objects)
            sampled = head.bbox_sampler.sample(assigned, found, objects)
            background = sampled.pos_gt_labels.new_full(
                (len(sampled.neg_priors),), self.num_classes
            )
            priors.append(sampled.priors)
            labels += [sampled.pos_gt_labels, background]
        return bbox2roi(priors), torch.cat(labels)

    def _support_loss(self, inputs: dict, samples: dict) -> dict:
        views = [name for name in inputs if name.startswith("support")]
        if not views:
            raise UserError(
                f"PSTTL: sup_weight={self.sup_weight} but the batch has no support "
                "images.",
                "Give the loop a support_dataloader, or set sup_weight=0.",
            )
        losses = self.student.loss(
            torch.cat([inputs[name] for name in views]),
            [sample for name in views for sample in samples[name]],
        )
        return {
            f"sup_{k}": [self.sup_weight * x for x in as_list(v)]
            for k, v in losses.items()
            if "loss" in k
        }

    @torch.no_grad()
    def _count_pseudo(self, pseudo: list[InstanceData]) -> None:
        known = [p[p.labels < self.num_classes] for p in pseudo]
        unknown = [p[p.labels > self.num_classes] for p in pseudo]
        self.pseudo_boxes = {"known": known, "unknown": unknown}
        self._count(known=known)
        count = torch.tensor([float(sum(map(len, unknown)))])
        self.pseudo_counts["unknown"] = count / len(pseudo)


def as_list(value: Tensor | list[Tensor]) -> list[Tensor]:
    """Losses of one level or of several, as a list."""
    return list(value) if isinstance(value, (list, tuple)) else [value]
