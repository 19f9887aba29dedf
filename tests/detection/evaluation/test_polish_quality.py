"""Filters and polishing against a truth that is counted by hand, and their picture."""

import json

import cv2
import numpy as np
import pytest
import torch
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData

from pld_mmdet.detection.dual_polish import DualPolishTeacher
from pld_mmdet.detection.evaluation.polish_quality import FilterQuality, PolishGain
from pld_mmdet.detection.evaluation.pseudo_quality import measure, over_checkpoints
from pld_mmdet.report.polishing import draw
from tests.detection.helpers import give_confidence
from tests.helpers import tiny_faster_rcnn


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


def test_boxes_that_share_an_object_and_overlaps_at_a_limit():
    """IoU 1, 0.5 and 0.57 with one object: three boxes, one object found."""
    quality = FilterQuality(min_ious=(0.5, 0.57))
    rows = [[0, 0, 10, 10], [0, 0, 10, 5], [0, 0, 10, 5.7]]
    quality.add({"found": boxes(rows, [0, 0, 0])}, OBJECTS, LABELS)
    assert quality.summary() == pytest.approx(
        {
            "found/per_image": 3.0,
            "found/iou": 2.07 / 3,
            "found/precision50": 1.0,
            "found/recall50": 1 / 2,
            "found/precision57": 2 / 3,
            "found/recall57": 1 / 2,
        }
    )
    nothing = FilterQuality()
    nothing.add({"found": boxes([], [])}, *NONE)
    assert nothing.summary() == {"found/per_image": 0.0}


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


def test_edges_of_the_bands_and_a_box_that_is_polished_onto_another_object():
    """IoU before 0.25 and 0.5: each belongs to the band that begins there."""
    gain = PolishGain(bands=(0.25, 0.5, 1.0))
    judged = boxes([[0, 0, 10, 2.5], [0, 0, 10, 5], [0, 0, 10, 2]], [0, 0, 0])
    own = torch.tensor([[0.0, 0, 10, 6], [20, 20, 40, 40], [0, 0, 10, 10]])
    judged.polished = own
    gain.add(judged, OBJECTS, LABELS)
    summary = gain.summary()
    assert summary["0.2-0.5/boxes"] == summary["0.5-1.0/boxes"] == 1
    assert summary["0.2-0.5/iou_after"] == pytest.approx(0.6)
    assert summary["0.5-1.0/iou_after"] == 0.0  # not on the object it was on
    assert summary["all/boxes"] == 2
    assert summary["all/iou_before"] == pytest.approx(0.375)
    assert {n for n in summary if n.startswith("nowhere")} == {"nowhere/boxes"}
    assert summary["nowhere/boxes"] == 1


def test_what_has_no_polisher_has_no_number():
    gain = PolishGain()
    gain.add(boxes([[0, 0, 10, 9]], [0]), OBJECTS, LABELS)
    gain.add(boxes([[0, 0, 10, 9]], [0]), *NONE)
    summary = gain.summary()
    assert summary["0.9-1.0/iou_before"] == pytest.approx(0.9)
    assert summary["nowhere/boxes"] == 1
    assert not any(name.endswith("_after") for name in summary)


@pytest.fixture
def scene(tmp_path):
    """Three images in batches of two and one, with the file of all their boxes."""
    generator = np.random.default_rng(0)
    samples, images, annotations = [], [], []
    for n in range(3):
        path = tmp_path / f"{n}.png"
        cv2.imwrite(str(path), generator.integers(0, 255, (64, 64, 3), np.uint8))
        images.append(dict(id=n, file_name=path.name))
        annotations.append(dict(image_id=n, category_id=1, bbox=[8, 8, 40, 30]))
        meta = dict(img_id=n, img_path=str(path), scale_factor=(1.0, 1.0))
        meta |= dict(img_shape=(64, 64), ori_shape=(64, 64))
        samples.append(DetDataSample(metainfo=meta))
    classes = [dict(id=n, name=str(n)) for n in range(3)]
    truth = dict(images=images, annotations=annotations, categories=classes)
    (tmp_path / "truth.json").write_text(json.dumps(truth))
    pixels = [
        torch.from_numpy(cv2.imread(s.img_path)).permute(2, 0, 1) for s in samples
    ]
    loader = [
        dict(inputs=pixels[:2], data_samples=samples[:2]),
        dict(inputs=pixels[2:], data_samples=samples[2:]),
    ]
    return loader, tmp_path / "truth.json"


@pytest.mark.parametrize("off", [None, "polish_boxes", "polish_categories"])
def test_all_numbers_of_a_network_and_the_picture(scene, off):
    torch.manual_seed(0)
    switched = {off: False} if off else {}
    model = DualPolishTeacher(
        tiny_faster_rcnn(norm="frozen"), hidden_channels=32, **switched
    )
    model.init_weights()
    give_confidence(model)
    if off != "polish_boxes":  # a polisher that changes no box
        last = model.polish_teacher.box.layers[-1]
        torch.nn.init.zeros_(last.weight)
        torch.nn.init.zeros_(last.bias)
    loader, truth = scene
    numbers, images = measure(model.eval(), loader, truth, (32**2, 96**2), polish=True)
    assert numbers["found/per_image"] > 0
    assert numbers["jittered/all/boxes"] > 20
    assert numbers["jittered/all/class_before"] == 1.0
    polished = off != "polish_boxes"
    assert ("polish/all/iou_after" in numbers) == polished
    assert ("jittered/all/class_after" in numbers) == (off != "polish_categories")
    assert len(images) == (3 if polished else 0)
    if polished:
        before, after = (numbers[f"jittered/all/iou_{m}"] for m in ("before", "after"))
        assert before == pytest.approx(after, abs=1e-4)
        assert torch.allclose(images[0].before, images[0].after, atol=1e-3)
        again, _ = measure(model, loader, truth, (32**2, 96**2), polish=True)
        assert again == numbers
        png = draw(images, *over_checkpoints([numbers, again]))
        picture = cv2.imdecode(np.frombuffer(png, np.uint8), 1)
        assert picture.shape[1] == 1320
        assert picture[:, :800].mean() < 240  # the photos are on it


def test_spread_over_checkpoints():
    mean, spread = over_checkpoints([{"a": 0.1, "b": 1.0}, {"a": 0.3}])
    assert mean == {"a": pytest.approx(0.2)}
    assert spread == {"a": pytest.approx(0.141421, abs=1e-6)}
    assert over_checkpoints([{"a": 0.1}])[1] == {"a": 0.0}
