"""Losses over pixels, each with its denominator in its name or argument.

The normalisation is where implementations of one formula differ most, by a factor of
10 to 10000 with partial labels: mmsegmentation's cross-entropy divides by all pixels,
ignored ones included, unless ``avg_non_ignore=True``.
"""

from torch import Tensor
from torch.nn import functional as F

IGNORE = 255
UNANNOTATED = 254  # nobody looked there: no label, but a pixel of the image


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


def uniform_ce(log_p: Tensor) -> Tensor:
    """Cross-entropy, N x H x W, with the uniform distribution as target.

    It is KL(uniform || p) plus the constant ln C.
    """
    return -log_p.mean(1)
