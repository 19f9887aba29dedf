"""Training data without what it is to teach is refused before the first step."""

import json
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from mmdet.datasets import CocoDataset
from mmengine.dataset import ConcatDataset
from mmengine.runner import Runner

from pld_mmdet.detection.loops.adabn import AdaBNLoop
from pld_mmdet.detection.lpld import LPLD
from pld_mmdet.detection.mean_teacher import MeanTeacherSFOD
from pld_mmdet.detection.soft_teacher import BoxJitterSoftTeacher
from pld_mmdet.engine.data.labels import require_boxes
from pld_mmdet.engine.data.seeding import SeededDataset
from pld_mmdet.engine.run.runner import SafeRunner
from pld_mmdet.errors import UserError

LOADED = (dict(type="LoadImageFromFile"), dict(type="LoadAnnotations", with_bbox=True))
BOX = dict(image_id=2, category_id=1, bbox=[3, 5, 8, 11], area=88, iscrowd=0)


def described(folder, name, *boxes, classes=("car",), pipeline=LOADED, **kwargs):
    """A data set of two images of 20 x 30 pixels and these boxes, as a config."""
    cv2.imwrite(str(folder / "a.png"), np.zeros((20, 30, 3), np.uint8))
    images = [dict(id=n, file_name="a.png", width=30, height=20) for n in (1, 2)]
    rows = [dict(box, id=n) for n, box in enumerate(boxes, 1)]
    content = dict(images=images, annotations=rows, categories=[dict(id=1, name="car")])
    (folder / name).write_text(json.dumps(content))
    return dict(
        type="mmdet.CocoDataset",
        data_root=str(folder),
        ann_file=name,
        data_prefix=dict(img=""),
        metainfo=dict(classes=classes),
        pipeline=[dict(step, _scope_="mmdet") for step in pipeline],
        **kwargs,
    )


def made(*args, **kwargs):
    described_as = described(*args, **kwargs)
    described_as.pop("type")
    return CocoDataset(**described_as)


@pytest.mark.parametrize("box", [None, dict(BOX, iscrowd=1)])
def test_no_box_at_all_is_refused(tmp_path, box):
    """A crowd is no object either: mmdet ignores it."""
    data = made(tmp_path, "none.json", *([box] if box else []))
    for wrapped in (data, SeededDataset(data), SeededDataset(ConcatDataset([data]))):
        with pytest.raises(UserError, match=r"No image .*none\.json; 2 images"):
            require_boxes(wrapped)


def test_boxes_of_other_classes_are_none(tmp_path):
    data = made(tmp_path, "other.json", BOX, classes=("bus",))
    with pytest.raises(UserError, match="other classes are passed over"):
        require_boxes(data)


def test_one_box_anywhere_is_enough(tmp_path):
    """The second image has it; beside it a part that has none."""
    some, none = made(tmp_path, "some.json", BOX), made(tmp_path, "none.json")
    require_boxes(some)
    require_boxes(SeededDataset(ConcatDataset([none, some])))


def test_what_loads_no_boxes_is_not_asked(tmp_path):
    """Unlabelled images: alone they are fine, beside labels they give none."""
    unlabelled = made(tmp_path, "none.json", pipeline=LOADED[:1])
    require_boxes(unlabelled)
    no_boxes = (LOADED[0], dict(LOADED[1], with_bbox=False))
    require_boxes(made(tmp_path, "none.json", pipeline=no_boxes))
    require_boxes([1, 2])
    require_boxes(SimpleNamespace(datasets={"by": "name"}))
    require_boxes(SimpleNamespace(dataset=np.zeros(3)))
    require_boxes(None)
    labelled = made(tmp_path, "empty.json")
    with pytest.raises(UserError, match=r"empty\.json; 2 images"):
        require_boxes(ConcatDataset([unlabelled, labelled]))


@pytest.mark.parametrize("of", ["loop", "model", None])
def test_the_runner_asks_unless_no_label_is_used(tmp_path, monkeypatch, of):
    loop = SimpleNamespace(
        dataloader=SimpleNamespace(dataset=made(tmp_path, "none.json"))
    )
    runner = SafeRunner.__new__(SafeRunner)
    runner.model = SimpleNamespace()
    if of is not None:
        dict(loop=loop, model=runner.model)[of].uses_labels = False
    monkeypatch.setattr(Runner, "build_train_loop", lambda self, given: given)
    if of is None:
        with pytest.raises(UserError, match="everything is background"):
            runner.build_train_loop(loop)
    else:
        assert runner.build_train_loop(loop) is loop


@pytest.mark.parametrize("kind", [MeanTeacherSFOD, LPLD, AdaBNLoop])
def test_unlabelled_images_may_come_through_a_pipeline_for_labels(kind):
    assert kind.uses_labels is False
    assert getattr(BoxJitterSoftTeacher, "uses_labels", True)


def test_a_filter_that_leaves_no_image_is_named(tmp_path):
    data = described(tmp_path, "none.json", filter_cfg=dict(filter_empty_gt=True))
    loader = dict(
        dataset=dict(type="pld_mmdet.SeededDataset", dataset=data),
        sampler=dict(type="DefaultSampler", shuffle=False),
        batch_size=1,
        num_workers=0,
    )
    with pytest.raises(UserError, match=r"no image left to load \(none\.json\)"):
        SafeRunner.build_dataloader(loader)
