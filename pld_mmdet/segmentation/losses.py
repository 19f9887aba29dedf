"""Losses over pixels, each with its denominator in its name or argument.

The normalisation is where implementations of one formula differ most, by a factor of
10 to 10000 with partial labels: mmsegmentation's cross-entropy divides by all pixels,
ignored ones included, unless ``avg_non_ignore=True``.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

IGNORE = 255


def pixel_ce(
    logits: Tensor, targets: Tensor, weight: Tensor | None = None, over: str = "valid"
) -> Tensor:
    """Cross-entropy of label maps.

    Args:
        logits: N x C x H x W.
        targets: N x H x W, 255 for no label.
        weight: N x H x W, a factor of each pixel's loss; it does not enter the divisor.
        over: ``valid`` divides by the pixels with a label (at least one, so that a
            batch without labels costs nothing), ``all`` by every pixel.

    Returns:
        A scalar.
    """
    losses = F.cross_entropy(logits, targets, reduction="none", ignore_index=IGNORE)
    if weight is not None:
        losses = losses * weight
    count = targets.numel() if over == "all" else (targets != IGNORE).sum().clamp(min=1)
    return losses.sum() / count


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean of ``values`` [N, H, W] where ``mask`` is True; 0 where it never is."""
    return (values * mask).sum() / mask.sum().clamp(min=1)


def entropy(log_p: Tensor) -> Tensor:
    """Entropy in nats, N x H x W, of log-probabilities N x C x H x W."""
    return -(log_p.exp() * log_p).sum(1)


def soft_ce(log_p: Tensor, soft: Tensor) -> Tensor:
    """Cross-entropy, N x H x W, with probabilities N x C x H x W as target."""
    return -(soft * log_p).sum(1)


def uniform_ce(log_p: Tensor) -> Tensor:
    """Cross-entropy, N x H x W, with the uniform distribution as target.

    It is KL(uniform || p) plus the constant ln C.
    """
    return -log_p.mean(1)


@torch.no_grad()
def below_percentile(values: Tensor, percent: float, valid: Tensor) -> Tensor:
    """Where ``values`` lie below their percentile over the valid ones.

    Args:
        values: Any shape.
        percent: 0-100; 100 keeps every valid one.
        valid: Mask of the same shape.

    Returns:
        A mask, False where not valid.
    """
    if percent >= 100 or not valid.any():
        return valid
    known = values[valid].float().sort().values
    # torch.quantile refuses more than 2^24 values, and a batch of crops has more.
    place = percent / 100 * (len(known) - 1)
    low = int(place)
    high = min(low + 1, len(known) - 1)
    bound = known[low].lerp(known[high], place - low)
    return valid & (values < bound)
