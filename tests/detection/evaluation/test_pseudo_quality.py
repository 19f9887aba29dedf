"""Pseudo labels against a truth that is small enough to count by hand."""

import json
import math
from pathlib import Path

import pytest
import torch
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData

from pld_mmdet.detection.evaluation.pseudo_quality import PseudoLabelQuality
from pld_mmdet.detection.mean_teacher import PseudoLabels
from pld_mmdet.errors import UserError


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


def named(tmp_path, *names, file="b.png") -> Path:
    path = tmp_path / "truth.json"
    content = dict(
        images=[dict(id=1, file_name=file)],
        categories=[dict(id=n, name=name) for n, name in enumerate(names)],
        annotations=[
            dict(image_id=1, category_id=n, bbox=[0, 0, 9 + n, 9])
            for n in range(len(names))
        ],
    )
    path.write_text(json.dumps(content))
    return path


def test_labels_go_by_name_and_not_by_the_order_of_a_file(tmp_path):
    path = named(tmp_path, "bus", "dog", "car")
    sample = DetDataSample(metainfo=dict(img_id=1, img_path="images/b.png"))
    found, labels = PseudoLabelQuality(path, classes=("car", "bus")).objects(sample)
    assert labels.tolist() == [1, 0]  # the dog is none of the detector's
    assert found[:, 2].tolist() == [9.0, 11.0]
    assert PseudoLabelQuality(path).objects(sample)[1].tolist() == [0, 1, 2]
    with pytest.raises(UserError, match=r"truth.json has no category 'cat'"):
        PseudoLabelQuality(path, classes=("car", "cat"))


def test_a_truth_of_other_images_is_refused(tmp_path):
    quality = PseudoLabelQuality(named(tmp_path, "car"))
    for number, path, words in (
        (1, "images/c.png", "is b.png there"),
        (2, "images/b.png", "images/b.png .id 2. is not there"),
    ):
        sample = DetDataSample(metainfo=dict(img_id=number, img_path=path))
        with pytest.raises(UserError, match=f"of other images: .*{words}"):
            quality.add(PseudoLabels([boxes([], [])]), [sample])


def test_mean_teacher_has_high_boxes_only(quality):
    sample = DetDataSample(metainfo=dict(img_id=2, scale_factor=(1.0, 1.0)))
    quality.add(PseudoLabels([boxes([], [])]), [sample])
    summary = quality.summary()
    assert "low/per_image" not in summary
    assert math.isnan(summary["high/right_class"])
