"""What a detector learns beside boxes, and what pseudo labels do not say of it."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from mmdet.structures import DetDataSample
from mmengine.structures import PixelData
from torch import Tensor, nn

_MASK_PARTS = ("mask_head", "point_head", "mask_iou_head")


def silence_semantic_heads(detector: nn.Module) -> None:
    """Give the semantic branch of HTC and its relatives a loss of 0, in place.

    It wants the class of every pixel, which boxes do not say. Its features still serve
    the other heads, and their losses still train it.
    """
    head = _semantic_head(detector)
    if head is not None:
        head.loss = _nothing


def _semantic_head(detector: nn.Module) -> nn.Module | None:
    return getattr(getattr(detector, "roi_head", None), "semantic_head", None)


def _nothing(prediction: Tensor, *args) -> Tensor:
    return prediction.sum() * 0.0


def loss_of_boxes(
    detector: nn.Module, inputs: Tensor, samples: list[DetDataSample]
) -> dict[str, Tensor]:
    """A detector's own losses, where boxes (and masks) are all the truth there is.

    A detector with a semantic branch gets maps that say nothing. A batch without one
    single box goes without the mask branch: not every mask head (PointRend's, for
    example) has a loss of nothing. ``loss_mask`` is then a zero on its parameters.

    Args:
        detector: Stock detector in training mode.
        inputs: N x 3 x H x W, preprocessed.
        samples: With ``gt_instances``.
    """
    if _semantic_head(detector) is not None:
        for sample in samples:
            blank = torch.full((1, 1, 1), 255, dtype=torch.long)
            sample.gt_sem_seg = PixelData(sem_seg=blank)
    roi_head = getattr(detector, "roi_head", None)
    if not getattr(roi_head, "with_mask", False) or any(
        len(sample.gt_instances) for sample in samples
    ):
        return detector.loss(inputs, samples)
    hidden = [
        p
        for name in _MASK_PARTS
        for p in getattr(roi_head, name, nn.Module()).parameters()
    ]
    with _without_masks(roi_head):
        losses = detector.loss(inputs, samples)
    losses["loss_mask"] = sum(p.sum() * 0.0 for p in hidden)
    return losses


@contextmanager
def _without_masks(roi_head: nn.Module) -> Iterator[None]:
    hidden = roi_head.mask_head
    roi_head._modules["mask_head"] = None
    try:
        yield
    finally:
        roi_head._modules["mask_head"] = hidden
