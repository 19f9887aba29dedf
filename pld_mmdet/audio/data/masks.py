"""Which frames are hidden, and the mean over those that are real."""

import torch
from torch import Tensor
from torch.nn import functional as F


def pooled(hidden: Tensor, real: Tensor | None = None) -> Tensor:
    """Mean over the real frames: [B, T, D] -> [B, D]."""
    if real is None:
        return hidden.mean(1)
    weight = real[..., None].to(hidden.dtype)
    return (hidden * weight).sum(1) / weight.sum(1).clamp(min=1)


def span_mask(
    waves: Tensor, frames: int, share: float, length: int, real: Tensor | None = None
) -> Tensor:
    """Random spans of frames, as HuBERT masks them; spans may overlap.

    An utterance of T frames gets floor(share T / length + u) spans, u uniform, at
    different starts.

    Args:
        waves: Tells batch size and device.
        frames: T.
        share: Frames under spans before overlaps.
        length: Frames of a span.
        real: [B, T] frames that are no padding [all].

    Returns:
        [B, T], True where masked.
    """
    batch, where = len(waves), waves.device
    total = torch.full((batch,), frames, device=where) if real is None else real.sum(1)
    spans = (share * total / length + torch.rand(batch, device=where)).floor()
    score = torch.rand(batch, frames, device=where)
    place = torch.arange(frames, device=where)
    score = score.masked_fill(place > (total - length)[:, None], 2.0)
    rank = score.argsort(1).argsort(1)
    begins = (rank < spans[:, None]) & (score < 2.0)
    count = begins.cumsum(1)
    # a frame is masked if a span began within the last `length` frames
    before = F.pad(count, (length, 0))[:, :frames]
    return count > before
