"""Which pseudo-labels are kept: masks over rows, and the numbers that make them.

Everything here is without gradient. Scores are per row, labels whole numbers.
"""

import torch
from torch import Tensor, nn

from pld_mmdet.distill._checks import same_shape, wide
from pld_mmdet.errors import UserError


@torch.no_grad()
def confident(logits: Tensor, threshold: float | Tensor) -> tuple[Tensor, Tensor]:
    """Labels, and where their probability reaches a threshold (FixMatch).

    Args:
        logits: [..., C].
        threshold: Probability; or [C], one for each class, which is asked by the label.

    Returns:
        Labels [...] and a mask [...].
    """
    scores, labels = wide(logits).softmax(-1).max(-1)
    if isinstance(threshold, Tensor) and threshold.dim():
        if threshold.shape != logits.shape[-1:]:
            raise UserError(
                f"confident: {tuple(threshold.shape)} thresholds for "
                f"{logits.shape[-1]} classes.",
                "Give one number, or one for each class.",
            )
        threshold = threshold.to(scores)[labels]
    return labels, scores >= threshold


@torch.no_grad()
def agreement(*logits: Tensor) -> tuple[Tensor, Tensor]:
    """Labels of the first network, and where all networks have the same.

    Args:
        *logits: [..., C] of each network.

    Returns:
        Labels [...] and a mask [...].

    Raises:
        UserError: No network, or shapes that differ.
    """
    if not logits:
        raise UserError("agreement: there are no logits.", "Give one or more.")
    same_shape("agreement", **{f"network {i}": z for i, z in enumerate(logits)})
    labels, *others = (z.argmax(-1) for z in logits)
    mask = torch.ones_like(labels, dtype=torch.bool)
    for other in others:
        mask &= other == labels
    return labels, mask


@torch.no_grad()
def margins(logits: Tensor) -> Tensor:
    """Probability of the best class minus that of the second, [..., C] -> [...].

    Raises:
        UserError: There is no second class.
    """
    if logits.shape[-1] < 2:
        raise UserError(
            f"margins: {logits.shape[-1]} class has no second.", "Give two or more."
        )
    best = wide(logits).softmax(-1).topk(2, dim=-1).values
    return best[..., 0] - best[..., 1]


@torch.no_grad()
def el2n(logits: Tensor, targets: Tensor) -> Tensor:
    """Length of ``softmax(z) - onehot`` (EL2N, Paul et al. 2021): high is hard.

    Args:
        logits: [N, C].
        targets: [N] labels.

    Returns:
        [N].
    """
    error = wide(logits).softmax(-1)
    error.scatter_add_(1, targets[:, None], -torch.ones_like(error[:, :1]))
    return error.norm(dim=1)


@torch.no_grad()
def quantile(values: Tensor, share: float) -> Tensor:
    """The value below which a share of all values lies, between neighbours linearly.

    As ``torch.quantile``, which refuses more than 2^24 values (a batch of crops has
    more).

    Args:
        values: Any shape, not empty.
        share: 0 (the smallest) to 1 (the largest).

    Returns:
        A scalar in float32.

    Raises:
        UserError: No value, or a share outside [0, 1].
    """
    if not values.numel() or not 0 <= share <= 1:
        raise UserError(
            f"quantile: no share {share} of {values.numel()} values.",
            "Give values, and a share between 0 and 1.",
        )
    known = values.flatten().float().sort().values
    place = share * (len(known) - 1)
    low = int(place)
    high = min(low + 1, len(known) - 1)
    return known[low].lerp(known[high], place - low)


@torch.no_grad()
def below_percentile(values: Tensor, percent: float, valid: Tensor) -> Tensor:
    """Where values lie below their percentile over the valid ones.

    Args:
        values: Any shape.
        percent: 0-100; 100 keeps every valid one.
        valid: Mask of the same shape.

    Returns:
        A mask, False where not valid.
    """
    if percent >= 100 or not valid.any():
        return valid
    return valid & (values < quantile(values[valid], percent / 100))


@torch.no_grad()
def class_quantiles(
    scores: Tensor, labels: Tensor, num_classes: int, share: float, empty: float = 1.0
) -> Tensor:
    """The quantile of each class's own scores: thresholds that keep 1 - share of it.

    Args:
        scores: [N].
        labels: [N]; rows outside 0..C-1 (background, unknown) are left out.
        num_classes: C.
        share: As of :func:`quantile`.
        empty: Threshold of a class without rows.

    Returns:
        [C] in float32.

    Raises:
        UserError: Shapes differ, or a share outside [0, 1].
    """
    same_shape("class_quantiles", scores=scores, labels=labels)
    thresholds = torch.full((num_classes,), float(empty), device=scores.device)
    for number in labels.unique().tolist():
        if 0 <= number < num_classes:
            thresholds[number] = quantile(scores[labels == number], share)
    return thresholds


@torch.no_grad()
def topk_per_class(scores: Tensor, labels: Tensor, k: int) -> Tensor:
    """The k best rows of each class; among equals the first ones.

    Args:
        scores: [N], high is good.
        labels: [N].
        k: Rows of a class; one with fewer keeps all.

    Returns:
        A mask [N].

    Raises:
        UserError: Shapes differ, or a negative k.
    """
    same_shape("topk_per_class", scores=scores, labels=labels)
    if k < 0:
        raise UserError(f"topk_per_class: k={k} is below 0.", "Give 0 or more.")
    order = scores.argsort(descending=True, stable=True)
    by_class = labels[order].argsort(stable=True)
    order, sorted_labels = order[by_class], labels[order][by_class]
    _, counts = sorted_labels.unique_consecutive(return_counts=True)
    start = (counts.cumsum(0) - counts).repeat_interleave(counts)
    rank = torch.arange(len(order), device=order.device) - start
    mask = torch.zeros_like(order, dtype=torch.bool)
    mask[order] = rank < k
    return mask


class MeanThresholds(nn.Module):
    """One threshold for each class that follows the mean score of its rows (an EMA).

    ``tau_c <- keep tau_c + (1 - keep) mean score of the batch's rows of class c``; a
    class without rows keeps its threshold. All state is a buffer.

    Args:
        num_classes: C.
        keep: Share of the old threshold that stays, in [0, 1].
        start: Threshold of every class at the beginning.

    Attributes:
        thresholds: [C].

    Raises:
        UserError: A keep rate outside [0, 1].

    Examples:
        >>> tau = MeanThresholds(num_classes=2, keep=0.75, start=0.0)
        >>> tau.update(torch.tensor([0.5, 1.0]), torch.tensor([0, 0]))
        >>> tau.thresholds.tolist()
        [0.1875, 0.0]
    """

    thresholds: Tensor

    def __init__(self, num_classes: int, keep: float, start: float = 0.0) -> None:
        super().__init__()
        if not 0.0 <= keep <= 1.0:
            raise UserError(
                f"MeanThresholds: keep={keep} is no share.", "Choose 0 to 1, e.g. 0.9."
            )
        self.keep = keep
        self.register_buffer("thresholds", torch.full((num_classes,), float(start)))

    @torch.no_grad()
    def update(self, scores: Tensor, labels: Tensor) -> None:
        """Follow one batch: scores [N] of rows with labels [N] in 0..C-1."""
        same_shape("MeanThresholds", scores=scores, labels=labels)
        scores = scores.to(self.thresholds)
        count = torch.bincount(labels, minlength=len(self.thresholds))
        total = torch.zeros_like(self.thresholds).index_add_(0, labels, scores)
        moved = self.thresholds.lerp(total / count.clamp(min=1), 1.0 - self.keep)
        self.thresholds.copy_(torch.where(count > 0, moved, self.thresholds))

    @torch.no_grad()
    def reached(self, scores: Tensor, labels: Tensor) -> Tensor:
        """Mask [N]: where a score reaches the threshold of its label."""
        same_shape("MeanThresholds", scores=scores, labels=labels)
        return scores.to(self.thresholds) >= self.thresholds[labels]
