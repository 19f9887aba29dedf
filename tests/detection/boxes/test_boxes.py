"""Boxes between views."""

import numpy as np
import pytest
import torch
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData

from pld_mmdet.detection.boxes.views import (
    inside_image,
    map_to_strong,
    project_boxes,
    view_matrix,
)
from pld_mmdet.errors import UserError

EYE = torch.eye(3)


def scale(sx, sy=None):
    return torch.diag(torch.tensor([sx, sx if sy is None else sy, 1.0]))


def flip(width):
    return torch.tensor([[-1.0, 0.0, width], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])


def test_scale_flip_and_extra_columns():
    boxes = torch.tensor([[10.0, 20.0, 30.0, 40.0, 0.9, 5.0]])
    doubled = project_boxes(boxes, EYE, scale(2.0), (200, 200))
    assert torch.equal(doubled, torch.tensor([[20.0, 40.0, 60.0, 80.0, 0.9, 5.0]]))
    flipped = project_boxes(boxes, EYE, flip(100.0), (100, 100))
    assert torch.equal(flipped[0, :4], torch.tensor([70.0, 20.0, 90.0, 40.0]))


def test_there_and_back():
    boxes = torch.rand(50, 4) * 40
    boxes[:, 2:] += boxes[:, :2] + 1
    matrix = flip(100.0) @ scale(0.37, 0.81)
    there = project_boxes(boxes, EYE, matrix, (1000, 1000))
    back = project_boxes(there, matrix, EYE, (1000, 1000))
    assert torch.allclose(back, boxes, atol=1e-3)


def test_rotation_gives_the_hull():
    quarter = torch.tensor([[0.0, -1.0, 50.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    box = torch.tensor([[10.0, 20.0, 30.0, 25.0]])
    assert torch.allclose(
        project_boxes(box, EYE, quarter, (50, 50)),
        torch.tensor([[25.0, 10.0, 30.0, 30.0]]),
    )


def test_clipped_to_the_view():
    box = [[-5.0, 10.0, 60.0, 90.0], [70.0, 70.0, 80.0, 80.0], [3.0, -7.0, 4.0, 9.0]]
    clipped = project_boxes(torch.tensor(box), EYE, EYE, (40, 50))  # height, width
    expected = [[0, 10, 50, 40], [50, 40, 50, 40], [3, 0, 4, 9]]
    assert clipped.tolist() == expected


def test_a_way_there_and_back_cancels_to_the_last_bit():
    """Single precision loses 1e-4 px on the way."""
    matrix = flip(1333.0) @ scale(0.37, 0.81)
    boxes = torch.tensor([[1001.3, 701.7, 1302.9, 799.1]])
    assert project_boxes(boxes, matrix, matrix, (800, 1333)).equal(boxes)


def test_no_box():
    assert project_boxes(torch.zeros(0, 6), EYE, scale(2.0), (9, 9)).shape == (0, 6)


def test_back_from_the_teacher_first_then_into_the_student():
    """Undoing 2x and 4x gives 5, 3, 10, 6; then 1 to the right and 2 down."""
    shift = torch.tensor([[1.0, 0.0, 1.0], [0.0, 1.0, 2.0], [0.0, 0.0, 1.0]])
    box = torch.tensor([[10.0, 12.0, 20.0, 24.0]])
    moved = project_boxes(box, scale(2.0, 4.0), shift, (90, 90))
    assert torch.allclose(moved, torch.tensor([[6.0, 5.0, 11.0, 8.0]]))


def test_every_corner_counts():
    """(x, y) -> (x - y + 10, x + y): the other two corners lie farthest left, right."""
    turn = torch.tensor([[1.0, -1.0, 10.0], [1.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    box = torch.tensor([[2.0, 3.0, 8.0, 5.0]])
    found = project_boxes(box, EYE, turn, (90, 90))
    assert found.tolist() == [[7.0, 5.0, 15.0, 13.0]]


def test_perspective_divides():
    """w = 1 + x / 10: 2 at x = 10 and 4 at x = 30."""
    lens = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.1, 0.0, 1.0]])
    box = torch.tensor([[10.0, 8.0, 30.0, 24.0]])
    found = project_boxes(box, EYE, lens, (90, 90))
    assert torch.allclose(found, torch.tensor([[5.0, 2.0, 7.5, 12.0]]))


def view(matrix=None, **meta):
    seen = dict(img_shape=(40, 50), ori_shape=(40, 50), scale_factor=(1.0, 1.0))
    seen |= dict(flip=False, flip_direction=None) | meta
    if matrix is not None:
        seen["homography_matrix"] = np.asarray(matrix, np.float32)
    return DetDataSample(metainfo=seen)


def test_boxes_end_where_the_strong_view_does():
    box = torch.tensor([[3.0, 5.0, 30.0, 35.0]])
    strong = view(scale(2.0), img_shape=(64, 48))
    assert map_to_strong(box, view(EYE), strong).tolist() == [[6, 10, 48, 64]]


def test_equal_views_change_nothing_and_a_view_as_it_was_needs_no_matrix():
    box = torch.tensor([[3.0, -5.0, 30.0, 35.0]])
    assert map_to_strong(box, view(flip(50.0)), view(flip(50.0))) is box
    mirrored = view(flip(50.0), flip=True)
    assert map_to_strong(box, view(), mirrored).tolist() == [[20, 0, 47, 35]]
    resized = view(scale_factor=(2.0, 2.0))
    for weak, strong in (mirrored, resized), (resized, mirrored):
        with pytest.raises(UserError, match="carry no homography_matrix"):
            map_to_strong(box, weak, strong)


@pytest.mark.parametrize(
    "change",
    [
        dict(img_shape=(40, 60)),
        dict(scale_factor=(1.2, 1.0)),
        dict(flip=True),
        dict(flip_direction="vertical"),
    ],
)
def test_views_that_differ_in_anything_need_matrices(change):
    box = torch.tensor([[3.0, 5.0, 30.0, 35.0]])
    resized = dict(img_shape=(20, 25), scale_factor=(0.5, 0.5))
    assert map_to_strong(box, view(**resized), view(**resized)) is box
    with pytest.raises(UserError, match="carry no homography_matrix"):
        map_to_strong(box, view(**resized), view(**resized | change))


def test_a_view_without_a_matrix_is_the_original_only_if_untouched():
    for seen in (view(), view(scale_factor=None)):
        assert view_matrix(seen).tolist() == np.eye(3).tolist()
    assert view_matrix(view(EYE * 2)).tolist() == (2 * np.eye(3)).tolist()
    for touched in (
        dict(img_shape=(20, 25)),
        dict(scale_factor=(1.01, 1.0)),
        dict(flip=True),
    ):
        assert view_matrix(view(**touched)) is None


def test_a_size_without_end_is_no_box():
    """Cut at the edge it would look like one."""
    rows = torch.tensor([[1.0, 2, torch.inf, 9], [4.0, 5, 6, 8]])
    found = InstanceData(bboxes=rows, labels=torch.tensor([2, 1]))
    assert inside_image(found, view()).labels.tolist() == [1]
