"""Views for a target representation without labels (Barlow Twins)."""

import torch
from torch import Tensor
from torch.nn import functional as F


def random_view(images: Tensor, shift: int = 1, noise: float = 0.1) -> Tensor:
    """Each image moved by up to ``shift`` pixels, scaled by 0.6 to 1.4, with noise.

    For digits of 8 x 8 pixels: stronger crops or flips would change what they show.

    Args:
        images: N x C x H x W.
        shift: Of rows and columns; zeros move in.
        noise: Standard deviation.
    """
    n, _, height, width = images.shape
    padded = F.pad(images, [shift] * 4)
    corner = torch.randint(2 * shift + 1, (2, n, 1), device=images.device)
    rows = corner[0] + torch.arange(height, device=images.device)
    columns = corner[1] + torch.arange(width, device=images.device)
    sample = torch.arange(n, device=images.device)[:, None, None]
    moved = padded[sample, :, rows[:, :, None], columns[:, None, :]]
    moved = moved.permute(0, 3, 1, 2)
    scale = 0.6 + 0.8 * torch.rand(n, 1, 1, 1, device=images.device)
    return moved * scale + noise * torch.randn_like(moved)
