"""Mixing images, and what they are: mixup, CutMix boxes, masks.

Draws come from the global streams, which ``IterationSeedHook`` seeds in every step.
"""

import numpy as np
import torch
from torch import Tensor

from pld_mmdet.errors import UserError


def mixup(
    images: Tensor, targets: Tensor, alpha: float = 0.2
) -> tuple[Tensor, Tensor, float]:
    """Each image blended with another of the batch, and their labels likewise.

    Zhang et al. 2018: x = lam x_i + (1 - lam) x_j and the same of the labels, with one
    lam ~ Beta(alpha, alpha) a batch, as in the authors' code.

    Args:
        images: N x ..., any shape.
        targets: N x K probabilities.
        alpha: Of the Beta distribution [0.2, theirs on ImageNet]; 0 mixes nothing.

    Returns:
        Images, targets N x K, and lam.
    """
    lam = float(np.random.beta(alpha, alpha)) if alpha > 0 else 1.0
    other = torch.randperm(len(images)).to(images.device)
    blended = lam * images + (1 - lam) * images[other]
    return blended, lam * targets + (1 - lam) * targets[other], lam


def cutmix(
    images: Tensor, targets: Tensor, alpha: float = 1.0
) -> tuple[Tensor, Tensor, float]:
    """A box of each image replaced by another image's; labels by the area that is left.

    Yun et al. 2019, with one box a batch, as in the authors' code.

    Args:
        images: N x C x H x W.
        targets: N x K probabilities.
        alpha: Of the Beta distribution [1, theirs]; 0 mixes nothing.

    Returns:
        Images, targets N x K, and the share of an image that is left.
    """
    share = 1 - (float(np.random.beta(alpha, alpha)) if alpha > 0 else 1.0)
    top, bottom, left, right = cutmix_box(tuple(images.shape[-2:]), share)
    other = torch.randperm(len(images)).to(images.device)
    mixed = images.clone()
    mixed[..., top:bottom, left:right] = images[other, ..., top:bottom, left:right]
    size = images.shape[-2] * images.shape[-1]
    lam = 1 - (bottom - top) * (right - left) / size
    return mixed, lam * targets + (1 - lam) * targets[other], lam


def cutmix_box(size: tuple[int, int], share: float) -> tuple[int, int, int, int]:
    """A random box of the image's shape, cut off at the image's borders.

    Args:
        size: Height and width of the image.
        share: Of the image's area, before cutting off: 0 gives an empty box, 1 may
            give the whole image.

    Returns:
        Top, bottom, left, right in pixels; the ends are exclusive. With labels use the
        area that these say, not ``share``.
    """
    height, width = size
    tall, wide = (int(side * share**0.5) for side in size)
    y, x = np.random.randint(height), np.random.randint(width)
    top, left = y - tall // 2, x - wide // 2
    bottom, right = y + tall // 2, x + wide // 2
    return (
        max(top, 0),
        min(bottom, height),
        max(left, 0),
        min(right, width),
    )


def box_masks(count: int, size: tuple[int, int], area: float = 0.5) -> Tensor:
    """One random box an image, True inside (CutMix).

    Args:
        count: Images N.
        size: Height and width.
        area: The box's share of the image; its width is uniform between the narrowest
            that can have this area and the whole.

    Returns:
        N x H x W, bool.
    """
    height, width = size
    wide = np.random.uniform(area, 1, count)
    tall = area / wide
    left = np.random.uniform(size=count) * (1 - wide)
    top = np.random.uniform(size=count) * (1 - tall)
    rows = (np.arange(height) + 0.5) / height
    columns = (np.arange(width) + 0.5) / width
    inside_rows = (rows >= top[:, None]) & (rows < (top + tall)[:, None])
    inside_columns = (columns >= left[:, None]) & (columns < (left + wide)[:, None])
    return torch.from_numpy(inside_rows[:, :, None] & inside_columns[:, None])


def xor_boxes(
    count: int,
    size: tuple[int, int],
    area: tuple[float, float] = (0.25, 0.5),
    boxes: int = 3,
) -> Tensor:
    """Masks of several boxes that cancel where two of them lie (French et al. 2020).

    Each box's area is uniform in ``area``, its aspect log-uniform; then both sides are
    divided by the root of the number of boxes. It lies inside the image. A pixel is
    True inside an odd number of boxes.

    Args:
        count: Images N.
        size: Height and width.
        area: Smallest and largest share of a box, before the division [0.25, 0.5; the
            authors' code and that of CPS and MGD].
        boxes: Boxes of an image [3, as used by CPS and MGD].

    Returns:
        N x H x W, bool.
    """
    shares = np.random.uniform(*area, (count, boxes))
    tall = np.exp(np.random.uniform(size=shares.shape) * np.log(shares))
    sides = np.stack([tall, shares / tall], -1) / boxes**0.5
    sides = np.round(sides * np.array(size))  # N x boxes x 2 pixels
    first = np.round((np.array(size) - sides) * np.random.uniform(size=sides.shape))
    last = first + sides

    def inside(axis: int) -> np.ndarray:
        places = np.arange(size[axis])
        return (places >= first[..., axis, None]) & (places < last[..., axis, None])

    both = inside(0)[..., :, None] & inside(1)[..., None, :]
    return torch.from_numpy(both.sum(1) % 2 == 1)


def maybe_boxes(
    count: int,
    size: tuple[int, int],
    probability: float = 0.5,
    area: tuple[float, float] = (0.02, 0.4),
    ratio: float = 0.3,
) -> Tensor:
    """One box in some of the images, True inside (UniMatch's CutMix).

    The box's area is uniform in ``area``, height by width uniform between ``ratio`` and
    its inverse, its place uniform among those where it fits.

    Args:
        count: Images N.
        size: Height and width.
        probability: Of an image to have a box [0.5, the authors' code].
        area: Shares of the image [0.02, 0.4, ibid.].
        ratio: [0.3, ibid.].

    Returns:
        N x H x W, bool.

    Raises:
        UserError: No box of ten thousand fits.
    """
    height, width = size
    masks = torch.zeros(count, height, width, dtype=torch.bool)
    for mask in masks:
        if np.random.uniform() > probability:
            continue
        pixels = np.random.uniform(*area) * height * width
        for _ in range(10_000):  # a box of an extreme shape may not fit: draw again
            shape = np.random.uniform(ratio, 1 / ratio)
            wide, tall = int((pixels / shape) ** 0.5), int((pixels * shape) ** 0.5)
            left, top = np.random.randint(width), np.random.randint(height)
            if left + wide <= width and top + tall <= height:
                break
        else:
            raise UserError(
                f"maybe_boxes: no box of area={tuple(area)}, ratio={ratio} fits.",
                "Choose shares of the image below 1.",
            )
        mask[top : top + tall, left : left + wide] = True
    return masks


def mix(ours: Tensor, theirs: Tensor, masks: Tensor) -> Tensor:
    """``theirs`` where the mask is True, ``ours`` elsewhere.

    Args:
        ours: N x H x W or N x C x H x W.
        theirs: Of the same shape.
        masks: N x H x W, bool.
    """
    masks = masks.to(ours.device)
    if ours.ndim == 4:
        masks = masks[:, None]
    return torch.where(masks, theirs, ours)
