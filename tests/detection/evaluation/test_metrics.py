"""AP50 in all conventions: hand-worked numbers, rivals on random data, properties."""

import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmengine.evaluator import Evaluator

from pld_mmdet.detection.evaluation.ap50 import AP50Metric
from pld_mmdet.detection.evaluation.average_precision import (
    Detections,
    GroundTruth,
    coco_ap,
    paired_iou,
    voc_ap,
)
from pld_mmdet.errors import UserError

SQUARE = [10, 10, 30, 30]
FAR = [100, 100, 140, 150]


def truth(rows, ignore=()):
    """``rows``: (image, x1, y1, x2, y2, label)."""
    rows = np.array(rows, float).reshape(-1, 6)
    mask = np.zeros(len(rows), bool)
    mask[list(ignore)] = True
    area = (rows[:, 3:5] - rows[:, 1:3]).prod(1)
    return GroundTruth(
        rows[:, 0].astype(int), rows[:, 1:5], rows[:, 5].astype(int), mask, area
    )


def found(rows):
    """``rows``: (image, x1, y1, x2, y2, label, score)."""
    rows = np.array(rows, float).reshape(-1, 7)
    return Detections(
        rows[:, 0].astype(int), rows[:, 1:5], rows[:, 6], rows[:, 5].astype(int)
    )


def all_three(dets, gts, images=1, classes=1, **kwargs):
    points, area = voc_ap(dets, gts, classes, **kwargs)
    coco = coco_ap(dets, gts, images, classes)[0]
    return np.nanmean(coco), np.nanmean(points), np.nanmean(area)


def test_perfect_detector_is_one():
    gts = truth([[0, *SQUARE, 0], [0, *FAR, 0], [1, *FAR, 0]])
    dets = found([[0, *SQUARE, 0, 0.9], [0, *FAR, 0, 0.3], [1, *FAR, 0, 0.5]])
    assert all_three(dets, gts, images=2) == (1.0, 1.0, 1.0)


def test_one_of_two_ranked_first():
    gts = truth([[0, *SQUARE, 0], [0, *FAR, 0]])
    dets = found([[0, *SQUARE, 0, 0.9], [0, 200, 0, 220, 20, 0, 0.8]])
    coco, points, area = all_three(dets, gts)
    assert points == pytest.approx(6 / 11)  # recalls 0 .. 0.5 of eleven
    assert area == 0.5
    assert coco == pytest.approx(51 / 101)  # recalls 0 .. 0.50 of 101


def test_iou_of_exactly_half_counts_for_coco_only():
    gts = truth([[0, 0, 0, 10, 10, 0]])
    dets = found([[0, 0, 0, 10, 5, 0, 0.9]])
    assert all_three(dets, gts) == (1.0, 0.0, 0.0)
    above = found([[0, 0, 0, 10, 5.01, 0, 0.9]])
    assert all_three(above, gts) == (1.0, 1.0, 1.0)


def test_legacy_pixels_move_the_half():
    # 11 x 6 of 11 x 11 pixels is 0.545; without the +1 it is 0.5 and no match.
    gts, dets = truth([[0, 0, 0, 10, 10, 0]]), found([[0, 0, 0, 10, 5, 0, 0.9]])
    assert voc_ap(dets, gts, 1, legacy=True)[0][0] == 1.0
    assert paired_iou(dets.boxes, gts.boxes, legacy=True)[0] == pytest.approx(6 / 11)


def test_absent_class_is_excluded_not_zero():
    gts = truth([[0, *SQUARE, 1]])
    dets = found([[0, *SQUARE, 1, 0.9], [0, *FAR, 0, 0.95]])
    points, area = voc_ap(dets, gts, 3)
    coco = coco_ap(dets, gts, 1, 3)[0]
    for values in (points, area, coco):
        assert np.isnan(values[[0, 2]]).all()
        assert values[1] == 1.0


def test_crowd_counts_neither_way():
    gts = truth([[0, *SQUARE, 0], [0, *FAR, 0]], ignore=[1])
    dets = found([[0, *FAR, 0, 0.99], [0, *FAR, 0, 0.98], [0, *SQUARE, 0, 0.5]])
    assert all_three(dets, gts) == (1.0, 1.0, 1.0)
    only_crowd = truth([[0, *FAR, 0]], ignore=[0])
    assert np.isnan(voc_ap(dets, only_crowd, 1)[0]).all()


def test_second_detection_of_an_object_is_wrong():
    gts = truth([[0, *SQUARE, 0], [0, *FAR, 0]])
    twice = [[0, *SQUARE, 0, 0.9], [0, *SQUARE, 0, 0.8], [0, *FAR, 0, 0.7]]
    # precision 1 up to recall 0.5, 2/3 up to 1: (6 + 5 * 2/3) / 11
    points, area = voc_ap(found(twice), gts, 1)
    assert points[0] == pytest.approx((6 + 5 * 2 / 3) / 11)
    assert area[0] == pytest.approx(0.5 + 0.5 * 2 / 3)


def test_rounding_does_not_lose_a_recall_point():
    # 3 of 5 objects: as a float, 6 * 0.1 is above 3 / 5.
    gts = truth([[i, *SQUARE, 0] for i in range(5)])
    dets = found([[i, *SQUARE, 0, 0.9] for i in range(3)])
    assert voc_ap(dets, gts, 1)[0][0] == pytest.approx(7 / 11)


def scene(seed, images=24, classes=4, objects=97):
    """Random objects; detections are moved objects and noise. 97 is prime, so that no
    recall falls on a tenth, where mmdet's float thresholds err."""
    rng = np.random.default_rng(seed)
    total = objects * classes
    low = rng.uniform(0, 200, (total, 2))
    boxes = np.concatenate([low, low + rng.uniform(6, 120, (total, 2))], 1)
    gt = np.column_stack(
        [rng.integers(0, images, total), boxes, np.arange(total) % classes]
    )
    take = rng.integers(0, total, 2 * total)
    moved = gt[take, 1:5] + rng.normal(0, 6, (len(take), 4))
    moved[:, 2:] = np.maximum(moved[:, 2:], moved[:, :2] + 1)
    label = np.where(
        rng.random(len(take)) < 0.9, gt[take, 5], rng.integers(0, classes, len(take))
    )
    dets = np.column_stack([gt[take, 0], moved, label, rng.random(len(take))])
    return found(dets), truth(gt), images, classes


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_agrees_with_mmdet_eval_map(seed):
    from mmdet.evaluation.functional import eval_map

    dets, gts, images, classes = scene(seed)
    results = [
        [
            np.column_stack([dets.boxes, dets.scores])[
                (dets.image == i) & (dets.labels == c)
            ]
            for c in range(classes)
        ]
        for i in range(images)
    ]
    annotations = [
        dict(bboxes=gts.boxes[gts.image == i], labels=gts.labels[gts.image == i])
        for i in range(images)
    ]
    points, area = voc_ap(dets, gts, classes)
    for mode, ours in (("11points", points), ("area", area)):
        _, per_class = eval_map(
            results, annotations, iou_thr=0.5, eval_mode=mode, logger="silent", nproc=1
        )
        theirs = [float(np.asarray(row["ap"]).item()) for row in per_class]
        np.testing.assert_allclose(ours, theirs, atol=1e-6)


def test_backends_are_equal():
    dets, gts, images, classes = scene(3)
    gts.ignore[::7] = True
    tables = [
        coco_ap(dets, gts, images, classes, (20**2, 60**2), backend=name)
        for name in ("faster_coco_eval", "pycocotools")
    ]
    np.testing.assert_allclose(*tables, atol=1e-12)
    assert tables[0].max(1).min() > 0.02


def annotation_file(path, gts, images, names):
    rows = [
        dict(
            id=i + 1,
            image_id=int(gts.image[i]) + 500,
            category_id=int(gts.labels[i]) + 1,
            bbox=[*gts.boxes[i, :2], *(gts.boxes[i, 2:] - gts.boxes[i, :2])],
            area=float(gts.area[i]),
            iscrowd=int(gts.ignore[i]),
        )
        for i in range(len(gts.image))
    ]
    content = dict(
        images=[
            dict(id=i + 500, file_name=f"{i}.png", width=400, height=400)
            for i in range(images)
        ],
        categories=[dict(id=i + 1, name=name) for i, name in enumerate(names)],
        annotations=rows,
    )
    path.write_text(json.dumps(content))
    return str(path)


def samples(dets, images):
    return [
        dict(
            img_id=i + 500,
            ori_shape=(400, 400),
            pred_instances=dict(
                bboxes=torch.tensor(dets.boxes[dets.image == i], dtype=torch.float64),
                scores=torch.tensor(dets.scores[dets.image == i], dtype=torch.float64),
                labels=torch.tensor(dets.labels[dets.image == i]),
            ),
        )
        for i in range(images)
    ]


def evaluate(metric, rows, names):
    metric.dataset_meta = dict(classes=tuple(names))
    metric.process({}, rows)
    return metric.evaluate(len(rows))


NAMES = ["person", "car", "bus", "train"]


def test_agrees_with_mmdet_coco_metric(tmp_path):
    from mmdet.evaluation import CocoMetric

    dets, gts, images, _ = scene(4)
    gts.ignore[::9] = True
    path = annotation_file(tmp_path / "a.json", gts, images, NAMES)
    rows = samples(dets, images)
    ours = evaluate(AP50Metric(ann_file=path, backend="pycocotools"), rows, NAMES)
    # As an array: pycocotools' summary compares the list as a whole and fails.
    rival = CocoMetric(ann_file=path)
    rival.iou_thrs = np.array([0.5])
    theirs = evaluate(rival, rows, NAMES)
    assert ours["coco/AP50"] == pytest.approx(theirs["coco/bbox_mAP"], abs=6e-4)
    for size in "sml":
        name = {"s": "small", "m": "medium", "l": "large"}[size]
        assert ours[f"coco/AP50_{name}"] == pytest.approx(
            theirs[f"coco/bbox_mAP_{size}"], abs=6e-4
        )


def test_metric_by_config_name_and_table(tmp_path, caplog):
    dets, gts, images, _ = scene(5)
    path = annotation_file(tmp_path / "a.json", gts, images, [*NAMES, "tram"])
    names = [*NAMES, "tram"]
    evaluator = Evaluator(dict(type="pld_mmdet.AP50Metric", ann_file=path))
    evaluator.dataset_meta = dict(classes=names)
    evaluator.process(samples(dets, images), {})
    with caplog.at_level("INFO"):
        metrics = evaluator.evaluate(images)
    assert next(iter(metrics)) == "coco/AP50"
    assert {f"voc07/AP50/{name}" for name in NAMES} < metrics.keys()
    assert "coco/AP50/tram" not in metrics
    per_class = [metrics[f"voc07/AP50/{name}"] for name in NAMES]
    assert metrics["voc07/AP50"] == pytest.approx(np.mean(per_class))


def test_table_names_the_papers_convention(tmp_path):
    gts = truth([[0, *SQUARE, 0]])
    path = annotation_file(tmp_path / "a.json", gts, 1, ["car", "bus"])
    metric = AP50Metric(ann_file=path)
    columns = {key: np.array([0.5, math.nan]) for key in ("coco/AP50", "voc07/AP50")}
    columns["voc_area/AP50"] = np.array([0.25, math.nan])
    named = metric._name(columns, np.full((3, 2), math.nan), ["car", "bus"])
    table = metric._table(columns, named, ["car", "bus"], np.array([1, 0]))
    assert "Papers of this benchmark use voc07/AP50 = 50.0" in table
    assert "coco/AP50 = 50.0" in table
    assert "IoU > 0.5" in table
    bus = next(line for line in table.splitlines() if line.startswith("bus"))
    assert bus.split() == ["bus", "0", "-", "-", "-"]


def test_no_detection_is_zero_and_no_object_is_nan(tmp_path):
    gts = truth([[0, *SQUARE, 0], [2, *FAR, 1]])
    path = annotation_file(tmp_path / "a.json", gts, 3, NAMES)
    nothing = samples(found([]), 3)
    metrics = evaluate(AP50Metric(ann_file=path), nothing, NAMES)
    assert metrics["coco/AP50"] == metrics["voc07/AP50"] == 0.0
    assert metrics["coco/AP50_small"] == 0.0
    empty = annotation_file(tmp_path / "b.json", truth([]), 3, NAMES)
    rows = samples(found([[0, *SQUARE, 0, 0.9]]), 3)
    metrics = evaluate(AP50Metric(ann_file=empty), rows, NAMES)
    assert set(metrics) == {"coco/AP50", "voc07/AP50", "voc_area/AP50"}
    assert all(math.isnan(value) for value in metrics.values())


def test_nan_scores_are_left_out(tmp_path):
    gts = truth([[0, *SQUARE, 0]])
    path = annotation_file(tmp_path / "a.json", gts, 1, NAMES)
    rows = samples(found([[0, *SQUARE, 0, 0.9], [0, *FAR, 0, math.nan]]), 1)
    assert evaluate(AP50Metric(ann_file=path), rows, NAMES)["coco/AP50"] == 1.0


def test_order_of_images_and_repeats_change_nothing(tmp_path):
    dets, gts, images, _ = scene(6)
    dets.scores = np.round(dets.scores, 1)  # many ties
    path = annotation_file(tmp_path / "a.json", gts, images, NAMES)
    rows = samples(dets, images)
    forward = evaluate(AP50Metric(ann_file=path), rows, NAMES)
    backward = evaluate(AP50Metric(ann_file=path), [*rows[::-1], rows[0]], NAMES)
    assert forward == backward


@pytest.mark.parametrize(
    ("names", "says"),
    [
        (["person", "caar", "bus", "train"], "class 1 of the data set, 'caar'"),
        (["person", "bus", "car", "train"], "class 1 is 'bus' .* but 'car'"),
        ([], "names 0 classes"),
    ],
)
def test_other_class_names_stop(tmp_path, names, says):
    path = annotation_file(tmp_path / "a.json", truth([[0, *SQUARE, 0]]), 1, NAMES)
    with pytest.raises(UserError, match=says):
        evaluate(AP50Metric(ann_file=path), samples(found([]), 1), names)


def test_a_subset_of_the_classes_is_fine(tmp_path):
    gts = truth([[0, *SQUARE, 1], [0, *FAR, 3]])
    path = annotation_file(tmp_path / "a.json", gts, 1, NAMES)
    rows = samples(found([[0, *SQUARE, 0, 0.9]]), 1)
    metrics = evaluate(AP50Metric(ann_file=path), rows, ["car"])
    assert metrics["voc07/AP50"] == metrics["voc07/AP50/car"] == 1.0


def test_unknown_label_image_file_and_key_stop(tmp_path):
    path = annotation_file(tmp_path / "a.json", truth([[0, *SQUARE, 0]]), 1, NAMES)
    rows = samples(found([[0, *SQUARE, 7, 0.9]]), 1)
    with pytest.raises(UserError, match="class 7"):
        evaluate(AP50Metric(ann_file=path), rows, NAMES)
    with pytest.raises(UserError, match="501"):
        evaluate(AP50Metric(ann_file=path), samples(found([]), 2), NAMES)
    with pytest.raises(UserError, match="no annotation file"):
        evaluate(AP50Metric(ann_file="nowhere.json"), samples(found([]), 1), NAMES)
    with pytest.raises(UserError, match="not one of its numbers"):
        AP50Metric(ann_file=path, report="bbox_mAP")
    with pytest.raises(UserError, match="do not grow"):
        AP50Metric(ann_file=path, area_bounds=(96**2, 32**2))


coordinate = st.floats(0, 50, allow_nan=False, width=32)
box = st.tuples(coordinate, coordinate, st.floats(1, 40), st.floats(1, 40))
objects = st.lists(st.tuples(st.integers(0, 3), box, st.integers(0, 2)), max_size=12)
# On a grid: a score of 1e-22 would be rounded onto 0, and a tie has another order.
score = st.integers(0, 1000).map(lambda n: n / 1000)
scores = st.lists(score, min_size=12, max_size=12)


def rows_of(items):
    return [[i, x, y, x + w, y + h, label] for i, (x, y, w, h), label in items]


@settings(max_examples=60, deadline=None)
@given(objects, objects, scores)
def test_properties(true_items, found_items, values):
    gts = truth(rows_of(true_items))
    rows = [[*row, values[i]] for i, row in enumerate(rows_of(found_items))]
    dets = found(rows)
    points, area = voc_ap(dets, gts, 3)
    coco = coco_ap(dets, gts, 4, 3)
    for values_ in (points, area, coco[0]):
        occurring = values_[~np.isnan(values_)]
        assert ((occurring >= 0) & (occurring <= 1)).all()
        assert (np.isnan(values_) == (gts.counts(3) == 0)).all()
    # A monotone change of the scores, and wrong boxes of lower score, change nothing.
    noise = [[0, 900, 900, 910, 910, label, -1.0] for label in range(3)]
    squeezed = [[*row[:6], row[6] / 2 - 0.1] for row in rows]
    again = voc_ap(found(squeezed + noise), gts, 3)
    np.testing.assert_allclose(again, (points, area), equal_nan=True)
    # Answering with the truth is perfect when no two objects coincide.
    boxes = {tuple(row) for row in rows_of(true_items)}
    if len(boxes) == len(true_items):
        perfect = found([[*row, 0.5] for row in rows_of(true_items)])
        for values_ in voc_ap(perfect, gts, 3):
            np.testing.assert_allclose(values_[gts.counts(3) > 0], 1.0)
