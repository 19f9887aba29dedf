"""CoTTA's random views of an image batch, in torch alone."""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

_LUMA = (0.299, 0.587, 0.114)


def _uniform(low: float, high: float) -> float:
    return torch.empty(()).uniform_(low, high).item()


def _grey(x: Tensor) -> Tensor:
    """N x C x H x W -> N x 1 x H x W; a grey image is its own."""
    if x.shape[1] != 3:
        return x.mean(1, keepdim=True)
    return (x * x.new_tensor(_LUMA).view(1, 3, 1, 1)).sum(1, keepdim=True)


def _mix(x: Tensor, other: Tensor, factor: float) -> Tensor:
    return (factor * x + (1 - factor) * other).clamp(0, 1)


def shift_hue(x: Tensor, turns: float) -> Tensor:
    """Turn the hue of N x 3 x H x W images in [0, 1]; saturation and value stay.

    Args:
        x: Images.
        turns: Share of a full turn, -0.5 to 0.5.
    """
    value, least = x.amax(1), x.amin(1)
    chroma = value - least
    red, green, blue = x.unbind(1)
    scale = chroma.clamp(min=1e-12)
    hue = torch.where(
        value == red,
        (green - blue) / scale,
        torch.where(
            value == green, 2 + (blue - red) / scale, 4 + (red - green) / scale
        ),
    )
    hue = hue + 6 * turns
    # The inverse for channel n is value - chroma * clamp(min(k, 4 - k), 0, 1).
    k = (hue[:, None] + hue.new_tensor([5.0, 3.0, 1.0]).view(1, 3, 1, 1)) % 6
    share = torch.minimum(k, 4 - k).clamp(0, 1)
    return value[:, None] - chroma[:, None] * share


class CoTTAViews:
    """One random view of a batch; the draw is the same for all its images.

    Clip; jitter brightness, contrast, saturation, hue and gamma in random order; repeat
    the border by half the size; rotate, move and scale; blur; crop the centre; flip;
    add noise; clip (released code: cifar/my_transforms.py and get_tta_transforms).
    Saturation and hue need three channels and are left out for others.

    Args:
        brightness: Range of the factor.
        contrast: Range of the factor, about the mean grey of each image.
        saturation: Range of the factor.
        hue: Range in turns.
        gamma: Range of the exponent.
        degrees: Largest rotation to either side.
        translate: Largest move, as a share of the padded size; whole pixels.
        scale: Range of the magnification.
        sigma: Range of the 5 x 5 blur in pixels.
        flip: Probability of a mirror image.
        noise: Standard deviation of the noise.
    """

    def __init__(
        self,
        brightness: tuple[float, float] = (0.6, 1.4),
        contrast: tuple[float, float] = (0.7, 1.3),
        saturation: tuple[float, float] = (0.5, 1.5),
        hue: tuple[float, float] = (-0.06, 0.06),
        gamma: tuple[float, float] = (0.7, 1.3),
        degrees: float = 15.0,
        translate: float = 1 / 16,
        scale: tuple[float, float] = (0.9, 1.1),
        sigma: tuple[float, float] = (0.001, 0.5),
        flip: float = 0.5,
        noise: float = 0.005,
    ) -> None:
        self.brightness, self.contrast, self.saturation = (
            brightness,
            contrast,
            saturation,
        )
        self.hue, self.gamma, self.degrees = hue, gamma, degrees
        self.translate, self.scale, self.sigma = translate, scale, sigma
        self.flip, self.noise = flip, noise

    def __call__(self, x: Tensor) -> Tensor:
        """N x C x H x W in [0, 1] -> the same shape."""
        x = self._move(self._jitter(x.clamp(0, 1)))
        if torch.rand(()) < self.flip:
            x = x.flip(-1)
        return (x + self.noise * torch.randn_like(x)).clamp(0, 1)

    def _jitter(self, x: Tensor) -> Tensor:
        for number in torch.randperm(5).tolist():
            if number == 0:
                x = (x * _uniform(*self.brightness)).clamp(0, 1)
            elif number == 1:
                mean = _grey(x).mean((1, 2, 3), keepdim=True)
                x = _mix(x, mean, _uniform(*self.contrast))
            elif number == 2 and x.shape[1] == 3:
                x = _mix(x, _grey(x), _uniform(*self.saturation))
            elif number == 3 and x.shape[1] == 3:
                x = shift_hue(x, _uniform(*self.hue))
            elif number == 4:
                x = x.clamp(min=1e-8) ** _uniform(*self.gamma)
        return x

    def _move(self, x: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        top, left = height // 2, width // 2
        x = F.pad(x, (left, left, top, top), mode="replicate")
        x = _blur(self._affine(x), _uniform(*self.sigma))
        return x[..., top : top + height, left : left + width]

    def _affine(self, x: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        angle = math.radians(_uniform(-self.degrees, self.degrees))
        most = self.translate * width, self.translate * height
        dx, dy = (round(_uniform(-m, m)) for m in most)
        size = _uniform(*self.scale)
        # Where each pixel of the result comes from, in pixels about the centre:
        # R(-angle)/size (p - d). affine_grid wants it in half sizes.
        cos, sin = math.cos(angle) / size, math.sin(angle) / size
        ratio = height / width
        theta = x.new_tensor(
            [
                [cos, sin * ratio, -2 * (cos * dx + sin * dy) / width],
                [-sin / ratio, cos, -2 * (-sin * dx + cos * dy) / height],
            ]
        )
        grid = F.affine_grid(
            theta.expand(len(x), 2, 3), list(x.shape), align_corners=False
        )
        return F.grid_sample(x, grid, align_corners=False)


def _blur(x: Tensor, sigma: float) -> Tensor:
    """5 x 5 Gaussian of ``sigma`` pixels, borders reflected."""
    place = torch.arange(-2.0, 3.0, device=x.device, dtype=x.dtype)
    kernel = (-(place**2) / (2 * sigma**2)).softmax(0)
    channels = x.shape[1]
    x = F.pad(x, (2, 2, 2, 2), mode="reflect")
    x = F.conv2d(x, kernel.expand(channels, 1, 1, 5), groups=channels)
    return F.conv2d(
        x, kernel.view(1, 1, 5, 1).expand(channels, 1, 5, 1), groups=channels
    )
