"""A target representation without labels: Barlow Twins (Zbontar et al. 2021)."""

import torch
from torch import Tensor
from torch.nn import functional as F


def barlow_twins_loss(first: Tensor, second: Tensor, weight: float = 5e-3) -> Tensor:
    """Cross-correlation of two views' embeddings N x D, pulled to the identity.

    sum_i (1 - C_ii)^2 + weight sum_{i != j} C_ij^2; each column of an embedding has
    mean 0 and variance 1 over the batch.

    Args:
        first: Embeddings of one view of each image.
        second: Of another view.
        weight: lambda [5e-3, the paper's].
    """
    n = len(first)
    first, second = (
        F.batch_norm(z.float(), None, None, training=True) for z in (first, second)
    )
    correlation = first.T @ second / n
    own = correlation.diagonal()
    others = correlation.pow(2).sum() - own.pow(2).sum()
    return (own - 1).pow(2).sum() + weight * others


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
