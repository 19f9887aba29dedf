"""Mel and cepstral front end in torch; frames as a convolutional encoder has them."""

import math

import torch
from torch import Tensor
from torch.nn import functional as F


def log_mel(
    waves: Tensor,
    sample_rate: int = 16000,
    window: int = 400,
    hop: int = 320,
    bins: int = 40,
) -> Tensor:
    """Log energies of triangular mel filters, without padding at the ends.

    With the window and hop of a wave encoder's receptive field and stride there are
    exactly as many frames as that encoder has.

    Args:
        waves: [B, S].
        sample_rate: In Hz.
        window: Samples of a frame (Hann).
        hop: Samples between frames.
        bins: Mel filters from 20 Hz to half the sample rate.

    Returns:
        [B, T, bins] with T = (S - window) // hop + 1.
    """
    size = 1 << (window - 1).bit_length()
    frames = waves.unfold(-1, window, hop) * torch.hann_window(
        window, dtype=waves.dtype, device=waves.device
    )
    power = torch.fft.rfft(frames, size).abs().square()
    filters = mel_filters(bins, size, sample_rate).to(power)
    return (power @ filters.T).clamp(min=1e-10).log()


def mel_filters(bins: int, size: int, sample_rate: int) -> Tensor:
    """Triangles of height 1 whose corners are equally far apart in mel.

    mel = 2595 log10(1 + f / 700).

    Args:
        bins: Filters.
        size: Points of the Fourier transform.
        sample_rate: In Hz.

    Returns:
        [bins, size // 2 + 1].
    """
    top = 2595 * math.log10(1 + sample_rate / 2 / 700)
    low = 2595 * math.log10(1 + 20 / 700)
    corners = 700 * (10 ** (torch.linspace(low, top, bins + 2).double() / 2595) - 1)
    frequency = torch.linspace(0, sample_rate / 2, size // 2 + 1).double()
    rising = (frequency - corners[:-2, None]) / corners.diff()[:-1, None]
    falling = (corners[2:, None] - frequency) / corners.diff()[1:, None]
    return torch.minimum(rising, falling).clamp(min=0).float()


def mfcc(
    waves: Tensor,
    sample_rate: int = 16000,
    window: int = 400,
    hop: int = 320,
    bins: int = 40,
    coefficients: int = 13,
) -> Tensor:
    """Cepstral coefficients with first and second differences (HuBERT's iteration 1).

    Args:
        waves: [B, S].
        sample_rate: In Hz.
        window: Samples of a frame.
        hop: Samples between frames.
        bins: Mel filters.
        coefficients: C of the orthonormal cosine transform (type 2) that are kept.

    Returns:
        [B, T, 3 C].
    """
    mel = log_mel(waves, sample_rate, window, hop, bins)
    n = torch.arange(bins, dtype=torch.float64)
    basis = torch.cos(math.pi / bins * (n + 0.5) * n[:coefficients, None])
    basis *= math.sqrt(2 / bins)
    basis[0] /= math.sqrt(2)
    static = mel @ basis.T.to(mel)
    first = deltas(static)
    return torch.cat([static, first, deltas(first)], -1)


def mean_mfcc(waves: Tensor, **geometry) -> Tensor:
    """The mean of each coefficient over an utterance: what needs no network.

    Args:
        waves: [B, S].
        geometry: Of :func:`mfcc`.

    Returns:
        [B, 3 C].
    """
    return mfcc(waves, **geometry).mean(1)


def flat_log_mel(waves: Tensor, **geometry) -> Tensor:
    """The whole log-mel spectrogram as one vector: a linear reader of the raw input.

    Args:
        waves: [B, S].
        geometry: Of :func:`log_mel`.

    Returns:
        [B, T x bins].
    """
    return log_mel(waves, **geometry).flatten(1)


def deltas(features: Tensor) -> Tensor:
    """Slope of a line through five frames; the ends are repeated.

    Args:
        features: [B, T, C].
    """
    padded = F.pad(features.transpose(1, 2), (2, 2), mode="replicate").transpose(1, 2)
    near = padded[:, 3:-1] - padded[:, 1:-3]
    far = padded[:, 4:] - padded[:, :-4]
    return (near + 2 * far) / 10


def frame_geometry(kernels: tuple[int, ...], strides: tuple[int, ...]):
    """Receptive field and hop, in samples, of a stack of convolutions.

    Examples:
        >>> frame_geometry((10, 3, 3, 3, 3, 2, 2), (5, 2, 2, 2, 2, 2, 2))
        (400, 320)
    """
    window, hop = 1, 1
    for kernel, stride in zip(kernels, strides, strict=True):
        window += (kernel - 1) * hop
        hop *= stride
    return window, hop
