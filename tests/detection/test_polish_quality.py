"""Filters and polishing against a truth that is counted by hand."""

import pytest
import torch
from mmengine.structures import InstanceData

from pld_mmdet.detection.polish_quality import FilterQuality, PolishGain


def boxes(rows, labels, **extra):
    return InstanceData(
        bboxes=torch.tensor(rows).float().reshape(-1, 4),
        labels=torch.tensor(labels, dtype=torch.long),
        **extra,
    )


OBJECTS = torch.tensor([[0.0, 0, 10, 10], [20.0, 20, 40, 40]])
LABELS = torch.tensor([0, 1])
NONE = torch.zeros(0, 4), torch.zeros(0, dtype=torch.long)


def test_filters_counted_by_hand():
    quality = FilterQuality()
    found = boxes([[0, 0, 10, 6], [20, 20, 40, 40], [50, 50, 60, 60]], [0, 0, 1])
    quality.add({"found": found, "cls": boxes([[0, 0, 10, 8]], [0])}, OBJECTS, LABELS)
    quality.add({"found": boxes([], []), "cls": boxes([[0, 0, 9, 9]], [0])}, *NONE)
    summary = quality.summary()
    assert summary["found/per_image"] == 1.5
    assert summary["found/iou"] == pytest.approx((0.6 + 1.0) / 3)
    assert summary["found/precision50"] == pytest.approx(1 / 3)  # one of a wrong class
    assert summary["found/precision75"] == 0.0
    assert summary["found/recall50"] == 0.5
    assert summary["cls/precision75"] == 0.5  # the other image has no object
    assert summary["cls/recall75"] == 0.5


def test_polishing_counted_by_hand():
    gain = PolishGain(bands=(0.3, 0.5, 0.9, 1.0))
    judged = boxes([[0, 0, 10, 4], [20, 20, 40, 40], [70, 70, 80, 80]], [1, 1, 0])
    judged.polished = torch.tensor(
        [[0.0, 0, 10, 8], [20.0, 20, 40, 30], [0.0, 0, 10, 10]]
    )
    judged.new_labels = torch.tensor([0, 1, 0])
    gain.add(judged, OBJECTS, LABELS)
    gain.add(boxes([], []), OBJECTS, LABELS)
    summary = gain.summary()
    assert summary["0.3-0.5/boxes"] == 1
    assert summary["0.3-0.5/iou_before"] == pytest.approx(0.4)
    assert summary["0.3-0.5/iou_after"] == pytest.approx(0.8)
    assert summary["0.3-0.5/class_before"] == 0.0
    assert summary["0.3-0.5/class_after"] == 1.0
    assert summary["0.9-1.0/iou_after"] == pytest.approx(0.5)  # 1 belongs to the last
    assert summary["0.5-0.9/boxes"] == 0
    assert "0.5-0.9/iou_after" not in summary
    assert summary["all/boxes"] == 2
    assert summary["nowhere/boxes"] == 1  # though it was moved onto an object


def test_what_has_no_polisher_has_no_number():
    gain = PolishGain()
    gain.add(boxes([[0, 0, 10, 9]], [0]), OBJECTS, LABELS)
    gain.add(boxes([[0, 0, 10, 9]], [0]), *NONE)
    summary = gain.summary()
    assert summary["0.9-1.0/iou_before"] == pytest.approx(0.9)
    assert summary["nowhere/boxes"] == 1
    assert not any(name.endswith("_after") for name in summary)
