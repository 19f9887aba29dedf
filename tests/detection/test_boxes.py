"""Boxes between views."""

import torch

from pld_mmdet.detection.boxes import project_boxes

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
    box = torch.tensor([[-5.0, 10.0, 60.0, 90.0], [70.0, 70.0, 80.0, 80.0]])
    clipped = project_boxes(box, EYE, EYE, (40, 50))  # height 40, width 50
    assert torch.equal(
        clipped, torch.tensor([[0.0, 10.0, 50.0, 40.0], [50.0, 40.0, 50.0, 40.0]])
    )


def test_no_box():
    assert project_boxes(torch.zeros(0, 6), EYE, scale(2.0), (9, 9)).shape == (0, 6)
