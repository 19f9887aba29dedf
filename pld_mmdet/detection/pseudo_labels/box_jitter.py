"""Soft Teacher's parts: jittered boxes, their spread, background by belief."""

import torch
import torch.nn.functional as F
from torch import Tensor

from pld_mmdet.detection.detectors.two_stage import own_class


def jitter_boxes(boxes: Tensor, noise: Tensor, fraction: float = 0.06) -> Tensor:
    """Move the four sides of boxes by noise in units of the box's own size.

    Args:
        boxes: [N, 4 + k], ``x1, y1, x2, y2`` in pixels; further columns are copied.
        noise: [T, N, 4], standard normal in the authors' code.
        fraction: Standard deviation as a share of width (x) and height (y), which count
            as one pixel at least. 0.06 in the authors' code.

    Returns:
        [T, N, 4 + k], not clipped to the image.

    Examples:
        >>> box = torch.tensor([[100.0, 200.0, 140.0, 280.0]])
        >>> jitter_boxes(box, torch.tensor([[[1.0, -1.0, 0.5, 2.0]]])).tolist()
        [[[102.4000015258789, 195.1999969482422, 141.1999969482422, 289.6000061035156]]]
    """
    size = (boxes[:, 2:4] - boxes[:, :2]).clamp(min=1.0).repeat(1, 2)  # w h w h
    moved = boxes[:, :4] + fraction * noise * size
    rest = boxes[:, 4:].expand(len(noise), -1, -1)
    return torch.cat([moved, rest], dim=2)


def box_uncertainty(refined: Tensor, labels: Tensor) -> Tensor:
    """How much a box moves when it is refined from jittered starts.

    The unbiased standard deviation of each coordinate over the draws, divided by the
    width (x) or height (y) of the *mean* refined box, one pixel at least. Its mean over
    the four coordinates is what Soft Teacher compares with 0.02.

    Args:
        refined: [T, N, 4C] class-specific or [T, N, 4] boxes in pixels, T >= 2.
        labels: [N], the class whose box counts; ignored for [T, N, 4].

    Returns:
        [N, 4].

    Raises:
        ValueError: Fewer than two draws have no spread.
    """
    if len(refined) < 2:
        raise ValueError(f"an uncertainty needs two draws or more, got {len(refined)}")
    refined = own_class(refined, labels)
    mean = refined.mean(0)
    size = (mean[:, 2:] - mean[:, :2]).clamp(min=1.0).repeat(1, 2)
    return refined.std(0) / size


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
