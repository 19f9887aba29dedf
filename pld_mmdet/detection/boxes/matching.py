"""Pairs between two sets of boxes."""

import torch
from mmdet.structures.bbox import bbox_overlaps
from scipy.optimize import linear_sum_assignment
from torch import Tensor


def match(cost: Tensor) -> tuple[Tensor, Tensor]:
    """One-to-one pairs of least total cost (Hungarian algorithm).

    Args:
        cost: [N, M], finite.

    Returns:
        Row and column of the min(N, M) pairs.
    """
    rows, columns = linear_sum_assignment(cost.cpu().numpy())
    return (
        torch.as_tensor(rows, device=cost.device),
        torch.as_tensor(columns, device=cost.device),
    )


def count_agreeing(
    boxes: Tensor,
    labels: Tensor,
    other_boxes: Tensor,
    other_labels: Tensor,
    min_iou: float = 0.5,
) -> Tensor:
    """How many boxes of two sets have a partner in the other one.

    Partners have the same class and an IoU of at least ``min_iou``; a box has one
    partner at most. The quotient of the two numbers is the F1 of either set against
    the other.

    Args:
        boxes: [N, 4].
        labels: [N].
        other_boxes: [M, 4] in the same pixels.
        other_labels: [M].
        min_iou: Least overlap of partners.

    Returns:
        [2] float: boxes with a partner (in both sets together), and N + M.
    """
    total = float(len(boxes) + len(other_boxes))
    overlap = bbox_overlaps(boxes.float(), other_boxes.float())
    overlap = overlap * (labels[:, None] == other_labels[None, :])
    overlap = overlap.where(overlap >= min_iou, 0.0)
    rows, columns = match(-overlap)
    pairs = (overlap[rows, columns] > 0).sum().item()
    return boxes.new_tensor([2.0 * pairs, total], dtype=torch.float)
