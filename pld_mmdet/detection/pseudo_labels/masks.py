"""Masked views with honest labels (MIC, lhoyer/MIC 2f932a98; MixPL's covered boxes)."""

import torch
import torch.nn.functional as F
from mmengine.structures import InstanceData
from torch import Tensor


def draw_mask(shape: tuple[int, int], block: int, share: tuple[float, float]) -> Tensor:
    """Bool [H, W]: square blocks of ``block`` pixels, a drawn share of them hidden."""
    rows, columns = (-(-side // block) for side in shape)
    low, high = share
    hidden = torch.rand(rows, columns) < low + (high - low) * torch.rand(())
    mask = hidden.repeat_interleave(block, 0).repeat_interleave(block, 1)
    return mask[: shape[0], : shape[1]]


def covered_share(boxes: Tensor, mask: Tensor) -> Tensor:
    """How much of each box [N, 4] lies under a mask [H, W]: [N] in 0..1."""
    height, width = mask.shape
    total = F.pad(mask.to(boxes.dtype).cumsum(0).cumsum(1), (1, 0, 1, 0))
    corners = boxes.round().long()
    x1, x2 = corners[:, 0].clamp(0, width), corners[:, 2].clamp(0, width)
    y1, y2 = corners[:, 1].clamp(0, height), corners[:, 3].clamp(0, height)
    inside = total[y2, x2] - total[y1, x2] - total[y2, x1] + total[y1, x1]
    return inside / ((x2 - x1) * (y2 - y1)).clamp(min=1)


def visible(
    instances: InstanceData, mask: Tensor, most_covered: float = 0.7
) -> InstanceData:
    """Boxes that are covered by less than ``most_covered`` (MixPL: 0.7)."""
    return instances[covered_share(instances.bboxes, mask) < most_covered]
