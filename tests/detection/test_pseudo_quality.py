"""Pseudo labels against a truth that is small enough to count by hand."""

import json
import math

import pytest
import torch
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData

from pld_mmdet.detection.evaluation.pseudo_quality import PseudoLabelQuality
from pld_mmdet.detection.mean_teacher import PseudoLabels


def boxes(rows, labels, **extra):
    return InstanceData(
        bboxes=torch.tensor(rows).float().reshape(-1, 4),
        labels=torch.tensor(labels, dtype=torch.long),
        **extra,
    )


@pytest.fixture
def quality(tmp_path):
    truth = dict(
        images=[dict(id=1), dict(id=2)],
        categories=[dict(id=5, name="a"), dict(id=7, name="b")],
        annotations=[
            dict(image_id=1, category_id=5, bbox=[0, 0, 10, 10]),  # small, found
            dict(image_id=1, category_id=7, bbox=[50, 0, 20, 20]),  # medium, mined
            dict(image_id=1, category_id=7, bbox=[0, 50, 50, 50]),  # large, dropped
            dict(image_id=1, category_id=5, bbox=[80, 80, 9, 9], iscrowd=1),
        ],
    )
    path = tmp_path / "ann.json"
    path.write_text(json.dumps(truth))
    return PseudoLabelQuality(path, area_bounds=(16**2, 40**2))


def test_counted_by_hand(quality):
    double = lambda rows: [[2 * x for x in r] for r in rows]  # noqa: E731 (view is 2x)
    high = boxes(double([[0, 0, 10, 9], [80, 80, 89, 89]]), [0, 0])
    low = boxes(
        double([[0, 0, 1, 1], [0, 0, 1, 1]]),  # the decoded boxes count, not these
        [1, 0],
        decoded=torch.tensor(double([[50, 0, 70, 20], [50, 0, 70, 18]])).float(),
    )
    dropped = boxes(double([[0, 50, 50, 100], [0, 0, 10, 10]]), [1, 0])
    sample = DetDataSample(metainfo=dict(img_id=1, scale_factor=(2.0, 2.0)))
    empty = DetDataSample(metainfo=dict(img_id=2, scale_factor=(2.0, 2.0)))
    none = boxes([], [])
    quality.add(
        PseudoLabels([high, none], [low, none], [dropped, none]), [sample, empty]
    )
    summary = quality.summary()
    assert summary["high/per_image"] == 1.0
    assert summary["high/right_class"] == 0.5  # the crowd region is no object
    assert summary["low/on_object"] == 1.0
    assert summary["low/right_class"] == 0.5
    assert summary["low/on_missed"] == 0.5
    assert summary["dropped/right_class"] == 1.0
    assert summary["dropped/on_missed"] == 0.5
    assert summary["objects/count"] == 3
    assert summary["objects/found"] == pytest.approx(1 / 3)
    assert summary["objects/found/small"] == 1.0
    assert summary["objects/gained_by_low/medium"] == 1.0
    assert summary["objects/in_dropped/large"] == 1.0


def test_mean_teacher_has_high_boxes_only(quality):
    sample = DetDataSample(metainfo=dict(img_id=2, scale_factor=(1.0, 1.0)))
    quality.add(PseudoLabels([boxes([], [])]), [sample])
    summary = quality.summary()
    assert "low/per_image" not in summary
    assert math.isnan(summary["high/right_class"])
