"""Masks for mixing by what is in the images: ClassMix's classes."""

import torch
from torch import Tensor

from pld_mmdet.segmentation.learners.losses import IGNORE


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
