"""Losses whose gradient is given, and the structural similarity of pictures."""

import torch
from torch import Tensor
from torch.nn import functional as F


def score_gradient_loss(x: Tensor, grad: Tensor) -> Tensor:
    """sum (x - sg[x - grad])^2, whose gradient in x is 2 grad.

    Args:
        x: What is moved, N x ...
        grad: Against which direction, of the same shape; detached here.

    Returns:
        A scalar.
    """
    return (x - (x - grad).detach()).square().sum()


def ssim(a: Tensor, b: Tensor) -> Tensor:
    """Structural similarity (Wang et al. 2004) as Gaussian splatting's codes take it.

    Windows of 11 x 11 weighted by a Gaussian of std 1.5, at every pixel and with zeros
    around; means, variances and covariance m, v, c of a window and channel give ``(2
    m_a m_b + C1) (2 c + C2) / ((m_a^2 + m_b^2 + C1) (v_a + v_b + C2))``, C1 = 0.01^2,
    C2 = 0.03^2.

    Args:
        a: Pictures N x C x H x W of values in [0, 1].
        b: Likewise.

    Returns:
        The mean over windows and channels of each picture, [N]: 1 where they are one.
    """
    n, channels = a.shape[:2]
    place = torch.arange(11, device=a.device, dtype=a.dtype) - 5
    bell = (-(place**2) / (2 * 1.5**2)).exp()
    window = torch.outer(bell, bell)
    window = (window / window.sum()).expand(channels, 1, 11, 11)
    parts = torch.cat([a, b, a * a, b * b, a * b])
    means = F.conv2d(parts, window, padding=5, groups=channels)
    m_a, m_b, aa, bb, ab = means.unflatten(0, (5, n))
    one, two = 0.01**2, 0.03**2
    alike = (2 * m_a * m_b + one) * (2 * (ab - m_a * m_b) + two)
    apart = (m_a**2 + m_b**2 + one) * (aa - m_a**2 + bb - m_b**2 + two)
    return (alike / apart).flatten(1).mean(1)
