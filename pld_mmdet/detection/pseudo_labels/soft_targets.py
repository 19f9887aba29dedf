"""The teacher's probabilities as targets, at the student's own RoIs and anchors.

An object that the teacher misses is background to hard labels, however likely the
teacher thinks it is. ALDI (justinkay/aldi, 774aaa29) lets both heads look at the
student's RoIs and trains with the teacher's softmax instead; IRG-SFDA does it on top
of the hard losses. Here hard labels stay where there is a pseudo box (all-soft targets
have no drive of their own: student = teacher is a fixed point); the rest is soft.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pld_mmdet.detection.detectors.two_stage import box_heads, run_box_head
from pld_mmdet.distill.divergences import kl
from pld_mmdet.distill.feature_tap import FeatureTap

KINDS = ("mixed", "all", "weighted")


def weighted_cls_loss(logits: Tensor, labels: Tensor, teacher_probs: Tensor) -> Tensor:
    """Cross-entropy in which background counts as much as the teacher believes in it.

    ``sum_j w_j CE_j / max(sum_j w_j, 1)`` with w = 1 for foreground and w = the
    teacher's probability of background, without gradient, for background.

    Args:
        logits: [R, C + 1] of the student, background last.
        labels: [R] in 0..C; C is background.
        teacher_probs: [R, C + 1]; read in the background's rows and column only.

    Returns:
        Scalar; 0 (with a gradient of 0) when R = 0.
    """
    background = logits.shape[1] - 1
    weight = torch.where(
        labels == background, teacher_probs[:, background].detach().float(), 1.0
    )
    losses = F.cross_entropy(logits.float(), labels, reduction="none")
    return (weight * losses).sum() / weight.sum().clamp(min=1.0)


def soft_cls_loss(
    logits: Tensor,
    labels: Tensor,
    teacher_logits: Tensor,
    kind: str = "mixed",
    least_mass: float | None = None,
) -> Tensor:
    """Class loss of sampled RoIs whose background rows learn the teacher's softmax.

    Args:
        logits: [R, C + 1] of the student, background last.
        labels: [R] in 0..C as the detector's sampler gave them; C is background.
        teacher_logits: [R, C + 1] of the teacher at the same boxes; detached.
        kind: ``'mixed'``: cross-entropy on rows with a pseudo box, KL(teacher ||
            student) on the others. ``'all'``: KL on every row (ALDI). ``'weighted'``:
            hard labels, background rows count as much as the teacher believes in it,
            divided by the sum of the weights (Soft Teacher).
        least_mass: None divides by R, the stock normaliser. A number divides the soft
            part by ``max(least_mass, sum of 1 - p_background)`` instead: most RoIs are
            sure background, and dilute it.

    Returns:
        Scalar; 0 (with a gradient of 0) when R = 0.
    """
    if len(logits) == 0:
        return logits.sum() * 0.0
    logits, teacher_logits = logits.float(), teacher_logits.detach().float()
    background = teacher_logits.softmax(1)[:, -1]
    positive = labels < logits.shape[1] - 1
    if kind == "weighted":
        return weighted_cls_loss(logits, labels, teacher_logits.softmax(1))
    soft = torch.ones_like(positive) if kind == "all" else ~positive
    hard = F.cross_entropy(logits[~soft], labels[~soft], reduction="sum")
    distance = kl(teacher_logits[soft], logits[soft], reduction="none").sum()
    rows = float(len(logits))
    mass = rows
    if least_mass is not None:
        mass = (1.0 - background[soft]).sum().clamp(min=least_mass)
    return hard / rows + distance / mass


def soft_objectness_loss(logits: list[Tensor], teacher_logits: list[Tensor]) -> Tensor:
    """BCE of all anchors to the teacher's objectness, by the sum of that objectness.

    Args:
        logits: Of the student, one [N, A, H, W] a level.
        teacher_logits: Of the teacher on a view of the same geometry; detached.

    Returns:
        ``sum BCE(z_S, sigmoid(z_T)) / max(1, sum sigmoid(z_T))``.
    """
    ours, theirs = (
        torch.cat([level.permute(0, 2, 3, 1).flatten() for level in levels]).float()
        for levels in (logits, teacher_logits)
    )
    target = theirs.detach().sigmoid()
    losses = F.binary_cross_entropy_with_logits(ours, target, reduction="sum")
    return losses / target.sum().clamp(min=1.0)


def taps(detector: nn.Module, rpn: bool) -> FeatureTap:
    """What is read of a network's pass: features, RoIs, logits with labels, RPN."""
    modules = {}
    for stage, (extractor, head) in enumerate(box_heads(detector)):
        modules[f"roi{stage}"], modules[f"cls{stage}"] = extractor, head.loss_cls
    if rpn:
        modules["rpn"] = detector.rpn_head
    return FeatureTap(**modules)


def soften(
    losses: dict[str, Tensor],
    student: nn.Module,
    teacher: nn.Module,
    seen: FeatureTap,
    taught: FeatureTap,
    to_weak,
    **settings,
) -> None:
    """Replace the class loss of each box head by :func:`soft_cls_loss`.

    A head that had no RoI, or whose teacher had no proposal, keeps what it has.

    Args:
        losses: The student's, changed in place.
        student: Two-stage detector with softmax heads.
        teacher: The same, in evaluation mode.
        seen: :func:`taps` of the student's pass.
        taught: :func:`taps` of the teacher's pass over the weak view.
        to_weak: Maps RoIs [R, 5] of the student's images to those of the weak batch.
        **settings: ``kind`` and ``least_mass``.
    """
    heads = box_heads(student)
    for stage, (_, head) in enumerate(heads):
        if not (seen.called(f"cls{stage}") and taught.called(f"roi{stage}")):
            continue
        logits, labels = seen.inputs(f"cls{stage}")[:2]
        rois = to_weak(seen.inputs(f"roi{stage}")[1])
        with torch.no_grad():
            features = taught.inputs(f"roi{stage}")[0]
            target = run_box_head(teacher, features, rois, stage, only="cls").logits
        loss = soft_cls_loss(logits, labels, target, **settings)
        loss = loss * head.loss_cls.loss_weight
        if len(heads) > 1:
            weight = student.roi_head.stage_loss_weights[stage]
            losses[f"s{stage}.loss_cls"] = loss * weight
        else:
            losses["loss_cls"] = loss
