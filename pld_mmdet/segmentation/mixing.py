"""Mixing images and label maps by masks: CutMix boxes, ClassMix classes."""

import numpy as np
import torch
from torch import Tensor

from pld_mmdet.segmentation.losses import IGNORE


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


def class_masks(targets: Tensor) -> Tensor:
    """Where a random half of the classes is, drawn anew for each image (ClassMix).

    The classes are those of the whole batch, as in the code of DACS and its followers,
    so an image may lack some that were drawn for it. 255 is no class (there it is one).

    Args:
        targets: N x H x W.

    Returns:
        N x H x W, bool.
    """
    present = targets.unique()
    present = present[present != IGNORE]
    half = (len(present) + 1) // 2
    chosen = [
        present[torch.randperm(len(present))[:half].to(present.device)] for _ in targets
    ]
    return torch.stack([torch.isin(t, c) for t, c in zip(targets, chosen, strict=True)])


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
