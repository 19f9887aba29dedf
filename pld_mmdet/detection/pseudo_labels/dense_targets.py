"""The teacher's scores as targets at every location of a dense head.

Focal loss is divided by the number of positives: an object that the teacher misses
makes all others louder, and an image without a pseudo box has nothing that divides it.
Dense Teacher (Megvii-BaseDetection/DenseTeacher, 8fbf465c) needs no boxes for classes:
the locations where the teacher is surest learn its scores, all others that there is
nothing, and the sum of the teacher's scores divides.
"""

import torch
import torch.nn.functional as F
from mmdet.models.dense_heads import ATSSHead, DINOHead, FCOSHead, GFLHead, RetinaHead
from torch import Tensor, nn

from pld_mmdet.distill.feature_tap import FeatureTap
from pld_mmdet.errors import UserError

HEAD = "dense"
# Heads that answer with one sigmoid logit a class, and use it as the score alone or
# times a centerness. Subclasses may score otherwise (TOOD answers with probabilities).
HEADS = (RetinaHead, FCOSHead, ATSSHead, GFLHead, DINOHead)


def require_dense_head(detector: nn.Module, what: str) -> None:
    """Refuse detectors that do not score every location, class by class.

    Raises:
        UserError: Says which heads do.
    """
    head = getattr(detector, "bbox_head", None)
    two_stage = type(head) is not DINOHead or getattr(detector, "as_two_stage", False)
    sigmoid = getattr(getattr(head, "loss_cls", None), "use_sigmoid", False)
    if type(head) in HEADS and two_stage and sigmoid:
        return
    found = "no box head" if head is None else f"a {type(head).__name__}"
    raise UserError(
        f"{what} needs a head with a sigmoid score for each class at every location; "
        f"{type(detector).__name__} has {found}.",
        f"Take one of {', '.join(kind.__name__ for kind in HEADS)} (DINO's as two-stage"
        "), or soft_rois for a detector with region proposals.",
    )


def dense_tap(detector: nn.Module) -> FeatureTap:
    """What is read of a network's pass: the layer that scores all locations."""
    head = detector.bbox_head
    if isinstance(head, DINOHead):  # scores the encoder's tokens, before any query
        head = head.cls_branches[detector.decoder.num_layers]
    return FeatureTap(**{HEAD: head})


def dense_logits(detector: nn.Module, seen: FeatureTap) -> Tensor:
    """Class logits of all locations [N, L, C], levels and anchors in the head's order.

    Args:
        detector: The network that was tapped.
        seen: Its :func:`dense_tap` after the pass.
    """
    output, classes = seen.output(HEAD), detector.bbox_head.cls_out_channels
    if isinstance(output, Tensor):
        return output
    return torch.cat(
        [
            level.permute(0, 2, 3, 1).reshape(len(level), -1, classes)
            for level in output[0]
        ],
        dim=1,
    )


def surest(scores: Tensor, region: str | float) -> Tensor:
    """Locations that learn the teacher's scores.

    Args:
        scores: [N, L], the largest class score of each location.
        region: ``'sum'``: as many locations of an image as the sum of its scores says
            (Consistent-Teacher's count of boxes), which needs no number. A share:
            that part of all locations of the batch (Dense Teacher: 0.01), at least one.

    Returns:
        [N, L] bool.
    """
    if region == "sum":
        count = scores.sum(1).round()
        rank = scores.argsort(dim=1, descending=True, stable=True).argsort(1)
        return rank < count[:, None]
    chosen = torch.zeros_like(scores, dtype=torch.bool).flatten()
    count = max(1, round(region * scores.numel()))
    chosen[scores.flatten().topk(count).indices] = True
    return chosen.view_as(scores)


def dense_cls_loss(
    logits: Tensor, teacher_logits: Tensor, region: str | float = "sum"
) -> Tensor:
    """Quality focal loss against the teacher's scores.

    With p = sigmoid: ``BCE(z_S, p_T) |p_T - p_S|^2`` at the :func:`surest` locations,
    ``BCE(z_S, 0) p_S^2`` at the others, summed over classes and locations, divided by
    the sum of the surest locations' largest p_T (at least 1, which the release has
    not: nothing sure would blow the loss up).

    Args:
        logits: [N, L, C] of the student.
        teacher_logits: [N, L, C] at the same locations; detached.
        region: See :func:`surest`.

    Returns:
        Scalar.
    """
    logits, target = logits.float(), teacher_logits.detach().float().sigmoid()
    scores = target.amax(2)
    chosen = surest(scores, region)
    target = target * chosen[..., None]
    loss = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    loss = (loss * (target - logits.sigmoid()).square()).sum()
    return loss / scores[chosen].sum().clamp(min=1.0)


def soften_dense(
    losses: dict[str, Tensor],
    student: nn.Module,
    teacher: nn.Module,
    seen: FeatureTap,
    taught: FeatureTap,
    kept: list[int],
    weight: float,
    region: str | float,
) -> None:
    """Replace a dense head's class loss (DINO: the encoder's) by the teacher's scores.

    Args:
        losses: The student's, changed in place.
        student: See :func:`require_dense_head`.
        teacher: The same, in evaluation mode.
        seen: :func:`dense_tap` of the student's pass.
        taught: :func:`dense_tap` of the teacher's pass over views of one geometry.
        kept: Images of the teacher's batch that the student saw.
        weight: Of the loss, times the head's own ``loss_weight``.
        region: See :func:`surest`.
    """
    ours, theirs = dense_logits(student, seen), dense_logits(teacher, taught)[kept]
    head = student.bbox_head
    name = "enc_loss_cls" if isinstance(head, DINOHead) else "loss_cls"
    loss = dense_cls_loss(ours, theirs, region)
    losses[name] = weight * head.loss_cls.loss_weight * loss
