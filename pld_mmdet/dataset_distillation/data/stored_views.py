"""Views of distilled images that are kept with their labels and played again."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from pld_mmdet.dataset_distillation.data.folders import LABELS, read_distilled
from pld_mmdet.errors import UserError
from pld_mmdet.registry import DATASETS
from pld_mmdet.shared.mixing import cutmix_box
from pld_mmdet.shared.views import drawn_windows, replayed


def draw_views(
    count: int,
    epochs: int,
    batch: int,
    size: tuple[int, int],
    area: tuple[float, float] = (0.08, 1.0),
    alpha: float = 1.0,
) -> dict[str, Tensor]:
    """Order, crop, flip and CutMix of every image in every epoch.

    Args:
        count: Images m.
        epochs: E.
        batch: Images of a batch; CutMix takes one box and one permutation a batch.
        size: Height and width.
        area: Of the crops.
        alpha: Of CutMix's Beta distribution [1].

    Returns:
        ``order`` [E, m] image numbers; ``boxes`` [E, m, 4] and ``flips`` [E, m] of the
        image at each place; ``other`` [E, m] the place whose view fills the box;
        ``cuts`` [E, m, 4] the box in pixels: top, bottom, left, right.
    """
    order = torch.stack([torch.randperm(count) for _ in range(epochs)])
    boxes, flips = drawn_windows(epochs * count, area)
    other = torch.empty(epochs, count, dtype=torch.long)
    cuts = torch.empty(epochs, count, 4, dtype=torch.int16)
    for epoch in range(epochs):
        for places in torch.arange(count).split(batch):
            share = 1 - float(np.random.beta(alpha, alpha))
            cuts[epoch, places] = torch.tensor(
                cutmix_box(size, share), dtype=torch.int16
            )
            other[epoch, places] = places[torch.randperm(len(places))]
    boxes, flips = boxes.view(epochs, count, 4), flips.view(epochs, count)
    return dict(order=order, boxes=boxes, flips=flips, other=other, cuts=cuts)


def views_of(
    images: Tensor, stored: dict[str, Tensor], epoch: int, places: Tensor
) -> Tensor:
    """The views at some places of an epoch, from the images themselves.

    Args:
        images: m x C x H x W.
        stored: See :func:`draw_views`.
        epoch: Number of the epoch.
        places: [N] places in its order, 0 to m - 1.

    Returns:
        N x C x H x W.
    """

    def cropped(at: Tensor) -> Tensor:
        number = stored["order"][epoch, at].to(images.device)
        boxes, flips = stored["boxes"][epoch, at], stored["flips"][epoch, at]
        return replayed(images[number], boxes.to(images), flips.to(images.device))

    views, others = cropped(places), cropped(stored["other"][epoch, places])
    for row, cut in enumerate(stored["cuts"][epoch, places].tolist()):
        top, bottom, left, right = cut
        views[row, :, top:bottom, left:right] = others[row, :, top:bottom, left:right]
    return views


@DATASETS.register_module()
class StoredViews(Dataset):
    """Batches of views, ``dict(inputs=n x C x H x W, targets=n x K)``.

    Sample i is a whole batch as it was labelled, since labels by batch statistics
    belong to their batch; the last one of an epoch may be smaller. Read it in order
    with ``batch_size=1`` (``ResumableSampler(shuffle=False)``).

    Args:
        file: A folder that ``CVDD`` wrote.

    Raises:
        UserError: The set has no stored views.
    """

    def __init__(self, file: str | Path) -> None:
        found = read_distilled(file)
        if "views" not in found or "batch" not in found["about"]:
            raise UserError(
                f"{Path(file) / LABELS} has no stored views.",
                "Name a folder of CV-DD, or take pld_mmdet.DistilledPairs.",
            )
        self.images, self.labels, self.stored = found["images"], found["views"], found
        self.batches = torch.arange(len(self.images)).split(found["about"]["batch"])
        self.metainfo = {"classes": tuple(found["names"])}

    def __len__(self) -> int:
        return len(self.labels) * len(self.batches)

    def __getitem__(self, index: int) -> dict:
        epoch, number = divmod(int(index), len(self.batches))
        places = self.batches[number]
        return {
            "inputs": views_of(self.images, self.stored, epoch, places),
            "targets": self.labels[epoch, places].float(),
        }
