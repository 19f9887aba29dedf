"""Random views of image batches in torch alone: weak, strong, two at a time.

Each image of a batch has its own draw. The draws come from torch's stream, which
``IterationSeedHook`` seeds in every step: a resumed run sees the same views. Images are
N x C x H x W; where colours are changed they lie in [0, 1].
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

_LUMA = (0.299, 0.587, 0.114)  # of R, G, B (ITU-R BT.601)


def random_view(images: Tensor, shift: int = 1, noise: float = 0.1) -> Tensor:
    """Each image moved by up to ``shift`` pixels, scaled by 0.6 to 1.4, with noise.

    For digits of 8 x 8 pixels: stronger crops or flips would change what they show.

    Args:
        images: N x C x H x W.
        shift: Of rows and columns; zeros move in.
        noise: Standard deviation.
    """
    moved = shifted(F.pad(images, [shift] * 4), shift)
    scale = 0.6 + 0.8 * torch.rand(len(images), 1, 1, 1, device=images.device)
    return moved * scale + noise * torch.randn_like(moved)


def weak(images: Tensor, shift: int = 4, flip: float = 0.5) -> Tensor:
    """Move by up to ``shift`` pixels, reflected at the border, and mirror at random.

    FixMatch's weak view (Sohn et al. 2020, 2.3) [shift: an eighth of 32 pixels].

    Args:
        images: N x C x H x W.
        shift: Of rows and columns, below H and W.
        flip: Probability of a mirror image.
    """
    return mirrored(shifted(F.pad(images, [shift] * 4, mode="reflect"), shift), flip)


def strong(
    images: Tensor,
    shift: int = 4,
    flip: float = 0.5,
    colour: float = 0.4,
    degrees: float = 20.0,
    scale: float = 0.2,
    cutout: float = 0.4,
) -> Tensor:
    """A weak view, turned and scaled, in other colours, with a square blanked.

    In the manner of RandAugment and Cutout, which are FixMatch's; the set of operations
    is ours: those of them that run on a whole batch.

    Args:
        images: N x C x H x W in [0, 1].
        shift: See :func:`weak`.
        flip: See :func:`weak`.
        colour: See :func:`recoloured`.
        degrees: See :func:`turned`.
        scale: See :func:`turned`.
        cutout: See :func:`blanked`.
    """
    images = turned(weak(images, shift, flip), degrees, scale)
    return blanked(recoloured(images, colour), cutout)


def contrasted(
    images: Tensor,
    area: tuple[float, float] = (0.08, 1.0),
    colour: float = 0.4,
    grey_share: float = 0.2,
) -> Tensor:
    """A view for contrastive learning: crop, mirror, other colours, sometimes grey.

    SimCLR's (Chen et al. 2020, appendix A) without blur and without a change of hue;
    four of five images change their colours.

    Args:
        images: N x C x H x W in [0, 1].
        area: See :func:`resized_crop`.
        colour: See :func:`recoloured`.
        grey_share: Probability of a grey image.
    """
    images = mirrored(resized_crop(images, area))
    chance = torch.rand(2, len(images), 1, 1, 1, device=images.device)
    images = torch.where(chance[0] < 0.8, recoloured(images, colour), images)
    return torch.where(chance[1] < grey_share, grey(images), images)


def blurred(
    images: Tensor,
    share: float = 0.5,
    sigma: tuple[float, float] = (0.1, 2.0),
    width: float = 0.1,
) -> Tensor:
    """A Gaussian of random width laid on some of the images (SimCLR, appendix A).

    Args:
        images: N x C x H x W.
        share: Probability that an image is blurred.
        sigma: Range of its deviation in pixels, uniform.
        width: Of the kernel, as a share of H; made odd, 3 pixels at least.
    """
    n, channels, height, _ = images.shape
    if not n:
        return images
    chance = torch.rand(2, n, 1, device=images.device, dtype=images.dtype)
    deviation = sigma[0] + (sigma[1] - sigma[0]) * chance[0]
    half = max(1, round(width * height) // 2)
    place = torch.arange(-half, half + 1, device=images.device)
    kernel = (-0.5 * (place / deviation) ** 2).exp()
    kernel = (kernel / kernel.sum(1, keepdim=True)).repeat_interleave(channels, 0)
    found = F.pad(images, [half] * 4, mode="reflect").flatten(0, 1)[None]
    found = F.conv2d(found, kernel[:, None, None], groups=n * channels)
    found = F.conv2d(found, kernel[:, None, :, None], groups=n * channels)
    return torch.where(
        chance[1][..., None, None] < share, found.view_as(images), images
    )


def two_views(
    images: Tensor, view: Callable[[Tensor], Tensor] = strong
) -> tuple[Tensor, Tensor]:
    """Two independent views of each image.

    Args:
        images: N x C x H x W.
        view: Makes one.
    """
    return view(images), view(images)


def mirrored(images: Tensor, probability: float = 0.5) -> Tensor:
    """Left and right exchanged in some of the images."""
    chosen = torch.rand(len(images), 1, 1, 1, device=images.device) < probability
    return torch.where(chosen, images.flip(-1), images)


def turned(images: Tensor, degrees: float = 20.0, scale: float = 0.2) -> Tensor:
    """Turned about the middle and scaled; what lies outside is reflected.

    Args:
        images: N x C x H x W.
        degrees: Largest turn to either side.
        scale: Largest change of the size, as a share of it.
    """
    angle, size = _uniform(len(images), 2, images).unbind(1)
    angle, size = angle * math.radians(degrees), 1 + size * scale
    ratio = images.shape[-2] / images.shape[-1]
    cos, sin = angle.cos() / size, angle.sin() / size
    nothing = torch.zeros_like(cos)
    theta = torch.stack([cos, sin * ratio, nothing, -sin / ratio, cos, nothing], 1)
    return _sampled(images, theta.view(-1, 2, 3))


def resized_crop(
    images: Tensor,
    area: tuple[float, float] = (0.2, 1.0),
    ratio: tuple[float, float] = (3 / 4, 4 / 3),
) -> Tensor:
    """A window of random area and shape of each image, at the image's own size.

    Szegedy et al. 2015. Sampled bilinearly between pixels, and a window that would be
    longer than the image is cut to it instead of drawn again.

    Args:
        images: N x C x H x W.
        area: Range of the window's share of the image.
        ratio: Range of its width / height, as shares of the image's.
    """
    n = len(images)
    draw = torch.rand(n, 4, device=images.device, dtype=images.dtype)
    share = area[0] + (area[1] - area[0]) * draw[:, 0]
    low, high = map(math.log, ratio)
    shape = (low + (high - low) * draw[:, 1]).exp()
    wide = (share * shape).sqrt().clamp(max=1)
    tall = (share / shape).sqrt().clamp(max=1)
    # the middle of the window, in half sizes from the image's middle
    x = (1 - wide) * (2 * draw[:, 2] - 1)
    y = (1 - tall) * (2 * draw[:, 3] - 1)
    nothing = torch.zeros_like(x)
    theta = torch.stack([wide, nothing, x, nothing, tall, y], 1)
    return _sampled(images, theta.view(-1, 2, 3))


def drawn_windows(
    count: int, area: tuple[float, float] = (0.08, 1.0)
) -> tuple[Tensor, Tensor]:
    """Windows and flips that are kept, to be looked through again: :func:`replayed`.

    Args:
        count: N.
        area: Range of a window's share of the image; its aspect is 3/4 to 4/3.

    Returns:
        Boxes [N, 4] (top, left, height, width as shares of the sides), flips [N] bool.
    """
    share = torch.empty(count).uniform_(*area)
    ratio = torch.empty(count).uniform_(-1, 1).mul(0.2876820724517809).exp()
    tall = (share / ratio).sqrt().clamp(max=1)
    wide = (share * ratio).sqrt().clamp(max=1)
    top, left = torch.rand(2, count)
    boxes = torch.stack([top * (1 - tall), left * (1 - wide), tall, wide], 1)
    return boxes, torch.rand(count) < 0.5


def replayed(images: Tensor, boxes: Tensor, flips: Tensor) -> Tensor:
    """Stored crops, at the images' own size, bilinear.

    Args:
        images: N x 3 x H x W.
        boxes: [N, 4]: top, left, height, width as shares of the image's sides.
        flips: [N], bool: mirrored.
    """
    if not len(images):
        return images
    top, left, tall, wide = boxes.to(images).unbind(1)
    sign = 1 - 2 * flips.to(images)
    nothing = torch.zeros_like(top)
    across = torch.stack([wide * sign, nothing, 2 * left + wide - 1], 1)
    down = torch.stack([nothing, tall, 2 * top + tall - 1], 1)
    grid = F.affine_grid(
        torch.stack([across, down], 1), list(images.shape), align_corners=False
    )
    return F.grid_sample(images, grid, padding_mode="border", align_corners=False)


def recoloured(images: Tensor, strength: float = 0.4) -> Tensor:
    """Brightness, contrast and, of RGB, saturation changed, in this order.

    Args:
        images: N x C x H x W in [0, 1].
        strength: The three factors are uniform in 1 +- this.
    """
    factors = 1 + strength * _uniform(len(images), 3, images)
    bright, contrast, saturate = factors[:, :, None, None, None].unbind(1)
    images = (images * bright).clamp(0, 1)
    middle = grey(images).mean((2, 3), keepdim=True)
    images = (middle + contrast * (images - middle)).clamp(0, 1)
    if images.shape[1] != 3:
        return images
    without = grey(images)
    return (without + saturate * (images - without)).clamp(0, 1)


def grey(images: Tensor) -> Tensor:
    """N x C x H x W -> N x 1 x H x W: luma of RGB, else the mean of the channels."""
    if images.shape[1] != 3:
        return images.mean(1, keepdim=True)
    return (images * images.new_tensor(_LUMA).view(1, 3, 1, 1)).sum(1, keepdim=True)


def blanked(images: Tensor, side: float = 0.4, value: float = 0.5) -> Tensor:
    """A square of each image in one grey (Cutout, DeVries and Taylor 2017).

    Its middle is anywhere in the image, so part of it may lie outside.

    Args:
        images: N x C x H x W.
        side: Share of the image's sides.
        value: The grey.
    """
    height, width = images.shape[-2:]
    middle = torch.rand(2, len(images), 1, device=images.device)
    rows = (torch.arange(height, device=images.device) + 0.5) / height
    columns = (torch.arange(width, device=images.device) + 0.5) / width
    inside_rows = (rows - middle[0]).abs() < side / 2
    inside_columns = (columns - middle[1]).abs() < side / 2
    inside = inside_rows[:, :, None] & inside_columns[:, None]
    return images.masked_fill(inside[:, None], value)


def shifted(padded: Tensor, shift: int) -> Tensor:
    """A window of each padded image, ``shift`` pixels smaller on every side."""
    n, _, height, width = padded.shape
    device = padded.device
    corner = torch.randint(2 * shift + 1, (2, n, 1), device=device)
    rows = corner[0] + torch.arange(height - 2 * shift, device=device)
    columns = corner[1] + torch.arange(width - 2 * shift, device=device)
    sample = torch.arange(n, device=device)[:, None, None]
    moved = padded[sample, :, rows[:, :, None], columns[:, None, :]]
    return moved.permute(0, 3, 1, 2)


def _uniform(rows: int, columns: int, like: Tensor) -> Tensor:
    """Uniform in -1 to 1, of the device and type of ``like``."""
    return 2 * torch.rand(rows, columns, device=like.device, dtype=like.dtype) - 1


def _sampled(images: Tensor, theta: Tensor) -> Tensor:
    if not len(images):  # affine_grid refuses it
        return images
    grid = F.affine_grid(theta, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, padding_mode="reflection", align_corners=False)
