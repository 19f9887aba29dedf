"""Confident near objects as small ones: four images at half their size (MixPL).

MixPL (Czm369/MixPL, 9f2176a3) tiles cached images into one; every 30-80 px object
becomes one of 15-40 px, with the recall of the larger ones. Deviations: the tiles come
from the batch itself, repeated where it has fewer than four images (a cache would be
one more state, and the teacher's view of a tile is at hand), the scale is 0.5 instead
of a drawn one, and a *veil* adds the fog of twice the distance: in
I = J t + A (1 - t) the transmission t becomes t^2, and
J t^2 + A (1 - t^2) = t I + (1 - t) A.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData
from torch import Tensor

from pld_mmdet.detection.pseudo_labels.ignore_band import KEY as DOUBTFUL

BRIGHTEST = 0.01  # share of a tile's pixels whose mean is the airlight


def veil(image: Tensor, transmission: float) -> Tensor:
    """Blend an image [3, H, W] with its airlight: ``t I + (1 - t) A``.

    A is the mean of the brightest 1 % of the pixels. Without fog it is less contrast.
    The same in pixels and in normalised values.
    """
    pixels = image.flatten(1)
    count = max(1, round(BRIGHTEST * pixels.shape[1]))
    brightest = pixels.sum(0).topk(count).indices
    light = pixels[:, brightest].mean(1)
    return transmission * image + (1.0 - transmission) * light[:, None, None]


@dataclass
class Tile:
    """Where an image went: its number, its corner in the mosaic, mirrored or not."""

    image: int
    left: int
    top: int
    flip: bool


@dataclass
class Mosaic:
    """One image made of four.

    Attributes:
        inputs: [1, 3, 2h, 2w].
        sample: Its data sample with the boxes as ground truth.
        tiles: The four tiles.
        size: (h, w) of a tile.
    """

    inputs: Tensor
    sample: DetDataSample
    tiles: list[Tile]
    size: tuple[int, int]

    def to_weak(self, rois: Tensor) -> Tensor:
        """RoIs [R, 5] of the mosaic as RoIs of the images they come from.

        A box belongs to the tile of its centre; what lies outside of it is cut.
        """
        height, width = self.size
        centre = (rois[:, 1:3] + rois[:, 3:5]) / 2
        column = (centre[:, 0] >= width).long()
        row = (centre[:, 1] >= height).long()
        which = (2 * row + column).clamp(0, 3)
        table = [[t.image, t.left, t.top, float(t.flip)] for t in self.tiles]
        image, left, top, flip = rois.new_tensor(table)[which].unbind(1)
        x = (rois[:, [1, 3]] - left[:, None]).clamp(0, width)
        y = (rois[:, [2, 4]] - top[:, None]).clamp(0, height)
        x = torch.where(flip[:, None] > 0, (width - x).flip(1), x)
        boxes = torch.stack([x[:, 0], y[:, 0], x[:, 1], y[:, 1]], 1) * 2.0
        return torch.cat([image[:, None], boxes], 1)


def make_mosaic(
    inputs: Tensor,
    high: list[InstanceData],
    order: list[int],
    flips: list[bool],
    transmissions: list[float] | None = None,
    least_height: float = 7.0,
) -> Mosaic:
    """Tile four images of a batch at half their size.

    Args:
        inputs: [N, 3, H, W] weak views, preprocessed.
        high: Their confident boxes in pixels, each perhaps with the doubtful ones
            (:func:`~.ignore_band.mark_doubtful`), which the mosaic ignores.
        order: Four image numbers: top left, top right, bottom left, bottom right.
        flips: Which tiles are mirrored.
        transmissions: Of each tile's veil; None leaves the tiles as they are.
        least_height: Boxes lower than this (pixels, after shrinking) are left out.
    """
    small = F.avg_pool2d(inputs, 2)
    height, width = small.shape[-2:]
    canvas = small.new_zeros(1, small.shape[1], 2 * height, 2 * width)
    tiles, objects, spared = [], [], []
    for n, (image, flip) in enumerate(zip(order, flips, strict=True)):
        top, left = n // 2 * height, n % 2 * width
        tile = Tile(image, left, top, flip)
        tiles.append(tile)
        piece = small[image].flip(-1) if flip else small[image]
        if transmissions is not None:
            piece = veil(piece, transmissions[n])
        canvas[0, :, top : top + height, left : left + width] = piece
        found = high[image]
        placed = _placed(found, tile, width)
        tall = placed.bboxes[:, 3] - placed.bboxes[:, 1] >= least_height
        objects.append(placed[tall])
        if DOUBTFUL in found:
            spared.append(_placed(found.get(DOUBTFUL), tile, width))
    shape = tuple(canvas.shape[-2:])
    sample = DetDataSample(
        metainfo=dict(
            img_shape=shape,
            ori_shape=shape,
            pad_shape=shape,
            batch_input_shape=shape,
            scale_factor=(1.0, 1.0),
        ),
        gt_instances=InstanceData.cat(objects),
    )
    if spared:
        sample.ignored_instances = InstanceData.cat(spared)
    return Mosaic(canvas, sample, tiles, (height, width))


def _placed(found: InstanceData, tile: Tile, width: int) -> InstanceData:
    """Boxes and labels where they lie in the mosaic; ``width`` is a tile's."""
    boxes = found.bboxes / 2.0
    if tile.flip:
        left, top, right, bottom = boxes.unbind(1)
        boxes = torch.stack([width - right, top, width - left, bottom], 1)
    corner = boxes.new_tensor([tile.left, tile.top, tile.left, tile.top])
    return InstanceData(bboxes=boxes + corner, labels=found.labels)


def draw_mosaic(
    inputs: Tensor,
    high: list[InstanceData],
    veil_range: tuple[float, float] | None,
    least_height: float,
    images: list[int],
) -> Mosaic:
    """A mosaic in random order, each image mirrored or not, each with its veil.

    Args:
        inputs: See :func:`make_mosaic`.
        high: Likewise.
        veil_range: Of the transmissions; None for no veil.
        least_height: See :func:`make_mosaic`.
        images: Numbers of those that may be in it.
    """
    images = [images[n] for n in torch.randperm(len(images)).tolist()]
    order = [images[n % len(images)] for n in range(4)]
    flips = (torch.rand(4) < 0.5).tolist()
    transmissions = None
    if veil_range is not None:
        low, high_end = veil_range
        transmissions = (low + (high_end - low) * torch.rand(4)).tolist()
    return make_mosaic(inputs, high, order, flips, transmissions, least_height)
