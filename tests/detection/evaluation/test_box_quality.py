"""How good boxes are as labels, and what true boxes in their place would be worth."""

import json

import pytest
import torch
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData

from pld_mmdet.detection.evaluation.box_quality import BoxQualityMetric, read_truth
from pld_mmdet.detection.evaluation.ceilings import CeilingMeanTeacher
from pld_mmdet.errors import UserError
from tests.detection.helpers import batch_of, fresh, give_confidence
from tests.helpers import tiny_faster_rcnn

CLASSES = ("car", "person", "bus")


@pytest.fixture
def truth(tmp_path):
    """Two images; classes in another order than the detector's; one crowd."""
    rows = [
        (4, 1, [0, 0, 20, 20], 0),
        (4, 2, [30, 0, 10, 30], 0),
        (4, 1, [50, 50, 8, 8], 0),
        (5, 2, [0, 0, 60, 60], 1),
    ]
    content = dict(
        images=[dict(id=4, file_name="0.png"), dict(id=5, file_name="1.png")],
        categories=[dict(id=1, name="person"), dict(id=2, name="car")],
        annotations=[
            dict(id=n, image_id=i, category_id=c, bbox=b, iscrowd=crowd, area=1)
            for n, (i, c, b, crowd) in enumerate(rows)
        ],
    )
    path = tmp_path / "truth.json"
    path.write_text(json.dumps(content))
    return str(path)


def test_labels_follow_the_names_and_crowds_are_left_out(truth):
    found = read_truth(truth, CLASSES)
    assert list(found) == [4]
    assert found[4][1].tolist() == [1, 0, 1]
    assert found[4][0][1].tolist() == [30, 0, 40, 30]


def sample(img_id, *rows):
    table = torch.tensor(rows, dtype=torch.float).reshape(-1, 6)
    found = dict(bboxes=table[:, :4], scores=table[:, 4], labels=table[:, 5].long())
    return dict(img_id=img_id, pred_instances=found)


def measured(truth, *samples, **settings):
    metric = BoxQualityMetric(truth, **settings)
    metric.dataset_meta = dict(classes=CLASSES)
    metric.process({}, samples)
    return metric.compute_metrics(metric.results)


def test_numbers_by_hand(truth):
    found = measured(
        truth,
        sample(
            4,
            [0, 0, 20, 19, 0.95, 1],  # right, IoU 0.95
            [0, 0, 20, 11, 0.92, 1],  # right at 0.5, IoU 0.55
            [30, 0, 40, 30, 0.91, 2],  # on a car, called bus
            [30, 0, 40, 30, 0.9, 0],  # right; 0.9 is not above 0.9
            [100, 0, 110, 30, 0.6, 0],  # on nothing
            [0, 0, 20, 20, 0.5, 1],  # not above 0.5
        ),
        sample(5, [0, 0, 60, 60, 0.97, 0]),  # no object in that image
    )
    assert found == pytest.approx(
        {
            "boxes/per_image@0.9": 2.0,
            "boxes/precision@0.9": 2 / 4,
            "boxes/precision75@0.9": 1 / 4,
            "boxes/recall@0.9": 1 / 3,
            "boxes/per_image@0.5": 3.0,
            "boxes/precision@0.5": 3 / 6,
            "boxes/precision75@0.5": 2 / 6,
            "boxes/recall@0.5": 2 / 3,
            "boxes/on_object@0.5-0.9": 1 / 2,
        }
    )


def test_no_box_at_all(truth):
    found = measured(truth, sample(4))
    assert found["boxes/per_image@0.9"] == 0
    assert found["boxes/recall@0.9"] == 0
    assert "boxes/precision@0.9" not in found


def test_an_overlap_at_a_limit_is_enough_and_an_object_of_another_class_is_one(truth):
    """IoU 0.75 and 0.5 exactly; thresholds in any order."""
    found = measured(
        truth,
        sample(
            4,
            [0, 0, 20, 15, 0.8, 1],  # right, IoU 0.75
            [30, 0, 40, 15, 0.7, 0],  # right, IoU 0.5
            [30, 0, 40, 15, 0.65, 2],  # on a car, called bus, IoU 0.5
        ),
        thresholds=(0.72, 0.6),
    )
    assert found == pytest.approx(
        {
            "boxes/per_image@0.72": 1.0,
            "boxes/precision@0.72": 1.0,
            "boxes/precision75@0.72": 1.0,
            "boxes/recall@0.72": 1 / 3,
            "boxes/per_image@0.6": 3.0,
            "boxes/precision@0.6": 2 / 3,
            "boxes/precision75@0.6": 1 / 3,
            "boxes/recall@0.6": 2 / 3,
            "boxes/on_object@0.6-0.72": 1.0,
        }
    )


def test_no_object_at_all_and_classes_that_nobody_asked_for(truth):
    assert measured(truth, sample(5, [0, 0, 60, 60, 0.97, 0])) == {
        "boxes/per_image@0.5": 1.0,
        "boxes/precision@0.5": 0.0,
        "boxes/precision75@0.5": 0.0,
        "boxes/per_image@0.9": 1.0,
        "boxes/precision@0.9": 0.0,
        "boxes/precision75@0.9": 0.0,
    }
    boxes, labels = read_truth(truth, ("bus", "car"))[4]
    assert boxes.tolist() == [[30, 0, 40, 30]]
    assert labels.tolist() == [1]


def ceiling(truth, kind, **kwargs):
    torch.manual_seed(0)
    model = CeilingMeanTeacher(
        tiny_faster_rcnn(),
        truth=dict(ann_file=truth, classes=CLASSES),
        kind=kind,
        hpl_threshold=0.5,
        **kwargs,
    )
    model.init_weights()
    give_confidence(model)
    return model.train()


def mended(truth, kind):
    """One confident box on the first object, one on nothing."""
    model = ceiling(truth, kind, small_area=100)
    found = InstanceData(
        bboxes=torch.tensor([[0.0, 0, 20, 18], [90, 90, 99, 99], [30, 0, 40, 30]]),
        scores=torch.tensor([0.9, 0.8, 0.2]),
        labels=torch.tensor([1, 2, 0]),
    )
    view = DetDataSample(
        metainfo=dict(
            img_path="/data/0.png", img_shape=(100, 100), ori_shape=(100, 100)
        )
    )
    sure = found[found.scores > model.hpl_threshold]
    (high,) = model.mended([sure], [view])
    return high


def test_true_boxes_in_the_place_of_the_teachers(truth):
    assert mended(truth, "all").bboxes[:, 0].tolist() == [0, 30, 50]
    hit = mended(truth, "hit")
    assert hit.bboxes.tolist() == [[0, 0, 20, 20]]
    assert hit.labels.tolist() == [1]
    small = mended(truth, "small")  # 8 x 8 is small, 20 x 20 and 10 x 30 are not
    assert small.bboxes[:, 0].tolist() == [0, 90, 50]
    assert small.labels.tolist() == [1, 2, 1]
    spared = mended(truth, "spared")
    assert len(spared) == 2
    assert spared.get("doubtful").bboxes[:, 0].tolist() == [30, 50]


@pytest.mark.parametrize("kind", ["all", "spared"])
def test_a_ceiling_trains(truth, kind):
    found = fresh(ceiling(truth, kind), batch_of(2))
    assert found["loss_cls"].isfinite()


def test_refusals(truth):
    with pytest.raises(UserError, match="kind="):
        ceiling(truth, "best")
    model = ceiling(truth, "all")
    batch = batch_of(1)
    batch["data_samples"]["weak"][0].set_metainfo(dict(img_path="other.jpg"))
    with pytest.raises(UserError, match=r"no image other\.jpg"):
        fresh(model, batch)
