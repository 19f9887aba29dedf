"""Boxes between the views of one image."""

import numpy as np
import torch
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData
from torch import Tensor

from pld_mmdet.errors import UserError


def project_boxes(
    boxes: Tensor,
    teacher_matrix: Tensor,
    student_matrix: Tensor,
    shape: tuple[int, int],
) -> Tensor:
    """Carry boxes from the teacher's view to the student's.

    The four corners go through ``student_matrix @ inv(teacher_matrix)``; the result is
    their axis-parallel hull, clipped to the student's image.

    Args:
        boxes: [N, 4 + k], ``x1, y1, x2, y2`` in pixels of the teacher's view; further
            columns (scores, labels) are copied.
        teacher_matrix: [3, 3], homography original image -> teacher's view.
        student_matrix: [3, 3], homography original image -> student's view.
        shape: Height and width of the student's view in pixels.

    Returns:
        [N, 4 + k] boxes in the student's view, order unchanged. A box that lies
        outside the view collapses to zero width or height on its border.
    """
    # Inverted in double precision: a scale of 0.3 and its inverse should cancel.
    matrix = student_matrix.double() @ torch.linalg.inv(teacher_matrix.double())
    x1, y1, x2, y2 = boxes[:, :4].double().unbind(1)
    one = torch.ones_like(x1)
    corners = torch.stack(
        [
            torch.stack([x1, y1, one], 1),
            torch.stack([x2, y1, one], 1),
            torch.stack([x2, y2, one], 1),
            torch.stack([x1, y2, one], 1),
        ],
        dim=1,
    )  # N x 4 corners x 3
    mapped = corners @ matrix.T.to(boxes.device)
    mapped = mapped[..., :2] / mapped[..., 2:]
    hull = torch.cat([mapped.amin(1), mapped.amax(1)], dim=1).to(boxes.dtype)
    height, width = shape
    hull[:, 0::2] = hull[:, 0::2].clamp(0, width)
    hull[:, 1::2] = hull[:, 1::2].clamp(0, height)
    return torch.cat([hull, boxes[:, 4:]], dim=1)


def map_to_strong(boxes: Tensor, weak: DetDataSample, strong: DetDataSample) -> Tensor:
    """Carry [N, 4] boxes of the weak view to the strong view of the same image."""
    ours, theirs = view_matrix(weak), view_matrix(strong)
    if ours is None or theirs is None:
        same = all(
            weak.get(key) == strong.get(key)
            for key in ("img_shape", "scale_factor", "flip", "flip_direction")
        )
        if same:
            return boxes
        raise UserError(
            "The weak and the strong view differ in geometry, but their data samples "
            "carry no homography_matrix.",
            "Add 'homography_matrix' to meta_keys of both PackDetInputs.",
        )
    if np.array_equal(ours, theirs):
        return boxes
    return project_boxes(
        boxes, torch.as_tensor(ours), torch.as_tensor(theirs), strong.img_shape[:2]
    )


def into_input(instances: InstanceData, sample: DetDataSample) -> InstanceData:
    """Detections of ``predict(rescale=False)`` in pixels of the network's input.

    CornerNet and CenterNet test on an image with a border around it and take the border
    off again, whatever ``rescale`` says; a student sees it, and its truth has to fit.

    Args:
        instances: Of one image; its ``bboxes`` are replaced where there is a border.
        sample: With ``border`` (top, bottom, left, right in pixels) or without.
    """
    border = sample.get("border")
    if border is not None:
        top, _, left, _ = (float(edge) for edge in border)
        shift = instances.bboxes.new_tensor([left, top, left, top])
        instances.bboxes = instances.bboxes + shift
    return instances


def inside_image(instances: InstanceData, sample: DetDataSample) -> InstanceData:
    """Boxes cut at the edges of their image; what has no size left is left out.

    Two-stage detectors do this themselves. Others (YOLOv3) answer with boxes that reach
    out of the image or lie outside, and their losses stumble over such a truth; so do
    all over one that is not finite.
    """
    height, width = sample.img_shape[:2]
    boxes = instances.bboxes
    limit = boxes.new_tensor([width, height, width, height])
    instances.bboxes = boxes.clamp(min=0).minimum(limit)
    sound = (instances.bboxes[:, 2:] > instances.bboxes[:, :2]).all(1)
    sound &= boxes.isfinite().all(1)
    return instances[sound]


def view_matrix(sample: DetDataSample) -> np.ndarray | None:
    """Homography original -> view. mmdet writes none until a transform moves pixels."""
    matrix = sample.get("homography_matrix")
    untouched = (
        sample.get("img_shape") == sample.get("ori_shape")
        and tuple(sample.get("scale_factor") or (1.0, 1.0)) == (1.0, 1.0)
        and not sample.get("flip")
    )
    return np.eye(3, dtype=np.float32) if matrix is None and untouched else matrix
