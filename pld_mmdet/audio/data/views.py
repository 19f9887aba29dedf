"""Random views of log-mel spectrograms: another sound behind it, stretched windows."""

import torch
from torch import Tensor
from torch.nn import functional as F


def log_mix(mel: Tensor, other: Tensor, share: Tensor) -> Tensor:
    """The sum of two sounds' energies, in logarithms (BYOL-A's log-mixup-exp).

    Args:
        mel: Log energies [B, ...].
        other: Of the background, of the same shape.
        share: Of the background [B], in 0 to 1.

    Returns:
        ``log((1 - share) exp(mel) + share exp(other))``.
    """
    share = share.view(-1, *[1] * (mel.dim() - 1)).to(mel)
    return torch.logaddexp(mel + torch.log1p(-share), other + share.log())


def with_background(mel: Tensor, ratio: float = 0.4) -> Tensor:
    """Another sound of the batch behind each, as loud as 0 to ``ratio`` of the energy.

    Args:
        mel: Log energies [B, bins, T].
        ratio: Largest share [0.4, BYOL-A].
    """
    share = ratio * torch.rand(len(mel), device=mel.device)
    other = torch.randperm(len(mel), device=mel.device)
    return log_mix(mel, mel[other], share)


def resized_window(
    mel: Tensor,
    canvas: tuple[float, float] = (1.0, 1.5),
    scale: tuple[float, float] = (0.6, 1.5),
) -> Tensor:
    """A window of another size in bins and in time, resized back (BYOL-A).

    The spectrogram lies in the middle of a canvas of zeros: make the mean zero before.

    Args:
        mel: [B, bins, T], normalised.
        canvas: Sizes of the canvas in bins and time, in those of the input.
        scale: Range of the window's sizes, cut to the canvas.
    """
    if not len(mel):
        return mel
    draw = torch.rand(2, 2, len(mel), device=mel.device, dtype=mel.dtype)
    size = (scale[0] + (scale[1] - scale[0]) * draw[0]).clamp(
        max=torch.tensor(canvas)[:, None].to(mel)
    )
    room = torch.tensor(canvas)[:, None].to(mel) - size
    middle = room * (2 * draw[1] - 1)  # in half inputs from the middle
    nothing = torch.zeros_like(middle[0])
    across = torch.stack([size[1], nothing, middle[1]], 1)
    down = torch.stack([nothing, size[0], middle[0]], 1)
    images = mel[:, None]
    theta = torch.stack([across, down], 1)
    grid = F.affine_grid(theta, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, mode="bicubic", align_corners=False)[:, 0]
