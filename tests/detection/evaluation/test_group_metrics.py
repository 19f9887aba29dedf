"""Means over base and novel classes, at one IoU and over ten."""

import math

import pytest

from pld_mmdet.detection.evaluation.ap50 import AP50Metric
from pld_mmdet.detection.evaluation.average_precision import COCO_IOUS
from pld_mmdet.detection.evaluation.groups import GroupAP50Metric
from pld_mmdet.errors import UserError
from tests.detection.evaluation.test_metrics import (
    NAMES,
    annotation_file,
    evaluate,
    found,
    samples,
    scene,
    truth,
)

GROUPS = dict(base=["person", "car"], novel=["bus", "train"])


@pytest.mark.parametrize("backend", ["faster_coco_eval", "pycocotools"])
def test_hand_worked(tmp_path, backend):
    gts = truth([[0, 0, 0, 100, 100, 0], [0, 200, 0, 300, 100, 2]])
    # IoU 0.72: right at 0.50, ..., 0.70, five of the ten thresholds
    dets = found([[0, 0, 0, 100, 100, 0, 0.9], [0, 200, 0, 300, 72, 2, 0.8]])
    path = annotation_file(tmp_path / "a.json", gts, 1, NAMES)
    metric = GroupAP50Metric(GROUPS, ann_file=path, average=True, backend=backend)
    metrics = evaluate(metric, samples(dets, 1), NAMES)
    assert metrics["coco/AP_base"] == pytest.approx(1.0)  # car does not occur
    assert metrics["coco/AP_novel"] == pytest.approx(0.5)
    assert metrics["coco/AP"] == pytest.approx(0.75)
    assert metrics["coco/AP/bus"] == pytest.approx(0.5)
    assert metrics["coco/AP50_novel"] == pytest.approx(1.0)
    assert "coco/AP/train" not in metrics


def test_average_agrees_with_mmdet(tmp_path):
    from mmdet.evaluation import CocoMetric

    assert COCO_IOUS[0] == 0.5
    assert COCO_IOUS[-1] == 0.95
    dets, gts, images, _ = scene(4)
    path = annotation_file(tmp_path / "a.json", gts, images, NAMES)
    rows = samples(dets, images)
    ours = evaluate(AP50Metric(ann_file=path, average=True), rows, NAMES)
    theirs = evaluate(CocoMetric(ann_file=path), rows, NAMES)
    assert ours["coco/AP"] == pytest.approx(theirs["coco/bbox_mAP"], abs=6e-4)
    assert ours["coco/AP50"] == pytest.approx(theirs["coco/bbox_mAP_50"], abs=6e-4)


def test_the_average_must_be_asked_for(tmp_path):
    gts = truth([[0, 0, 0, 9, 9, 0]])
    path = annotation_file(tmp_path / "a.json", gts, 1, NAMES)
    metrics = evaluate(GroupAP50Metric(GROUPS, ann_file=path), [], NAMES)
    assert "coco/AP" not in metrics
    assert math.isnan(metrics["coco/AP50_novel"])
    with pytest.raises(UserError, match="with average=True"):
        GroupAP50Metric(GROUPS, ann_file=path, report="coco/AP")
    headline = AP50Metric(path, report="coco/AP", average=True)
    assert next(iter(evaluate(headline, [], NAMES))) == "coco/AP"


def test_groups_that_do_not_fit(tmp_path):
    path = annotation_file(tmp_path / "a.json", truth([]), 1, NAMES)
    with pytest.raises(UserError, match="'small' is empty or has the name"):
        GroupAP50Metric(dict(small=["car"]), ann_file=path)
    metric = GroupAP50Metric(dict(novel=["tram"]), ann_file=path)
    with pytest.raises(UserError, match="'tram', which is no class"):
        evaluate(metric, [], NAMES)
