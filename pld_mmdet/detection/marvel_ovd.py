"""MarvelOVD: open-vocabulary detection from CLIP's noisy boxes (ECCV 2024).

CLIP's candidate boxes are corrected online by the detector that learns from them.
Numbers follow the specification of the released code (wkfdb/MarvelOVD, commit e9615e0);
:class:`MarvelOVD` lists what differs.
"""

import torch
from torch import Tensor

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
