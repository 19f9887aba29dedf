"""mmdet's stock semi-supervised config, with one word changed."""

import json

import numpy as np
import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.hub import get_config
from mmengine.runner import Runner
from PIL import Image

from pld_mmdet.detection.detectors.stock_soft_teacher import SoftTeacher
from pld_mmdet.detection.detectors.teacher_student import own_branches
from pld_mmdet.errors import UserError
from pld_mmdet.registry import MODELS
from tests.detection.helpers import give_confidence
from tests.detection.semi import semi_batch
from tests.helpers import tiny_faster_rcnn

STOCK = "mmdet::soft_teacher/soft-teacher_faster-rcnn_r50-caffe_fpn_180k_semi-0.1-coco"


@pytest.fixture(scope="module")
def stock():
    return get_config(f"{STOCK}.py")


def test_stock_numbers_arrive(stock):
    model = SoftTeacher(
        tiny_faster_rcnn(),
        semi_train_cfg=stock.model.semi_train_cfg,
        semi_test_cfg=stock.model.semi_test_cfg,
    )
    assert (model.sup_weight, model.unsup_weight, model.hpl_threshold) == (1, 4, 0.5)
    assert (model.rpn_threshold, model.cls_threshold) == (0.9, 0.9)
    assert (model.reg_threshold, model.jitter_times) == (0.02, 10)
    assert (model.jitter_fraction, model.min_box_size) == (0.06, 0.01)
    assert model.predict_on == "teacher"
    assert model.result is model.teacher


def test_every_key_reaches_its_argument():
    cfg = dict(
        sup_weight=1.5,
        unsup_weight=2.5,
        pseudo_label_initial_score_thr=0.41,
        rpn_pseudo_thr=0.81,
        cls_pseudo_thr=0.72,
        reg_pseudo_thr=0.03,
        jitter_times=7,
        jitter_scale=0.05,
        min_pseudo_bbox_wh=(0.3, 0.3),
    )
    model = SoftTeacher(tiny_faster_rcnn(), cfg, dict(predict_on="student"))
    found = (
        model.sup_weight,
        model.unsup_weight,
        model.hpl_threshold,
        model.rpn_threshold,
        model.cls_threshold,
        model.reg_threshold,
        model.jitter_times,
        model.jitter_fraction,
        model.min_box_size,
        model.predict_on,
    )
    assert found == (1.5, 2.5, 0.41, 0.81, 0.72, 0.03, 7, 0.05, 0.3, "student")


def test_what_the_stock_config_leaves_out_is_mmdets_default():
    model = SoftTeacher(tiny_faster_rcnn(), dict(rpn_pseudo_thr=0.7))
    assert (model.unsup_weight, model.predict_on) == (1.0, "teacher")
    model = SoftTeacher(tiny_faster_rcnn(), unsup_weight=3.0, predict_on="student")
    assert (model.unsup_weight, model.predict_on) == (3.0, "student")


@pytest.mark.parametrize(
    ("train", "test", "more", "words"),
    [
        (dict(cls_pseudo_th=0.9), {}, {}, "cls_pseudo_thr"),
        (dict(freeze_teacher=False), {}, {}, "running average"),
        (dict(min_pseudo_bbox_wh=(1, 2)), {}, {}, "two values"),
        ({}, dict(predict_with="teacher"), {}, "predict_on"),
        ({}, dict(predict_on="teacher", forward_on="student"), {}, "forward_on"),
        ({}, dict(predict_on="both"), {}, "predict_on='both'"),
        (dict(sup_weight=2.0), {}, dict(sup_weight=1.0), "given twice"),
    ],
)
def test_what_would_not_be_honoured_is_refused(train, test, more, words):
    with pytest.raises(UserError, match=words):
        SoftTeacher(tiny_faster_rcnn(), train, test, **more)


def test_both_names_of_the_branches_give_the_same_losses():
    model = MODELS.build(
        ConfigDict(type="pld_mmdet.SoftTeacher", detector=tiny_faster_rcnn())
    )
    give_confidence(model)
    losses = []
    for names in ({}, dict(weak="unsup_teacher", strong="unsup_student")):
        batch = {
            part: {names.get(k, k): v for k, v in views.items()}
            for part, views in semi_batch(flip_strong=True).items()
        }
        torch.manual_seed(3)
        losses.append(model.parse_losses(fresh_forward(model, batch))[1])
    assert losses[0].keys() == losses[1].keys()
    for name, value in losses[0].items():
        assert torch.equal(value, losses[1][name]), name


def fresh_forward(model, batch):
    data = model.data_preprocessor(batch, training=True)
    return model(**data, mode="loss")


def test_a_missing_branch_is_named():
    with pytest.raises(UserError, match="branch 'strong' "):
        own_branches(
            dict(sup=[1], unsup_teacher=[2], unsup_student=[]), ("sup", "strong")
        )
    with pytest.raises(UserError, match="one plain set of images"):
        own_branches(torch.zeros(2, 3, 8, 8), ("weak",))
    assert own_branches(dict(sup=[1], unsup_student=[2])) == dict(sup=[1], strong=[2])


def tiny_coco(folder) -> None:
    rng = np.random.default_rng(0)
    images, boxes = [], []
    for n in range(6):
        name = f"{n}.png"
        Image.fromarray(rng.integers(0, 256, (48, 64, 3), dtype=np.uint8)).save(
            folder / name
        )
        images.append(dict(id=n, file_name=name, height=48, width=64))
        boxes.append(
            dict(
                id=n,
                image_id=n,
                category_id=1 + n % 3,
                bbox=[4, 6, 33, 34],
                area=33 * 34,
                iscrowd=0,
            )
        )
    categories = [dict(id=n + 1, name=f"c{n}") for n in range(3)]
    content = dict(images=images, annotations=boxes, categories=categories)
    (folder / "all.json").write_text(json.dumps(content))


def test_the_stock_config_trains_and_is_validated_by_mmdets_loop(
    stock, tmp_path, monkeypatch
):
    tiny_coco(tmp_path)
    cfg = stock.copy()
    cfg.model.type = "pld_mmdet.SoftTeacher"  # the one word
    # what follows makes it small: data, network, length, size
    cfg.model.detector = tiny_faster_rcnn()
    data = dict(
        data_root=str(tmp_path),
        ann_file="all.json",
        data_prefix=dict(img=""),
        metainfo=dict(classes=("c0", "c1", "c2")),
    )
    datasets = cfg.train_dataloader.dataset.datasets
    for dataset in (*datasets, cfg.val_dataloader.dataset):
        dataset.update(data)
        shrink(dataset.pipeline)
    cfg.train_dataloader.update(num_workers=0, persistent_workers=False)
    cfg.val_dataloader.update(num_workers=0, persistent_workers=False)
    cfg.test_dataloader = cfg.val_dataloader
    cfg.val_evaluator.ann_file = str(tmp_path / "all.json")
    cfg.test_evaluator = cfg.val_evaluator
    cfg.train_cfg.update(max_iters=2, val_interval=2)
    cfg.work_dir = str(tmp_path / "run")
    runner = Runner.from_cfg(cfg)
    runner.train()
    model = runner.model
    assert type(model) is SoftTeacher
    assert model.predict_on == "teacher"
    scalars = runner.message_hub.log_scalars
    for name in ("loss_rpn_cls", "loss_cls", "loss_bbox"):
        assert np.isfinite(scalars[f"train/unsup_{name}"].current())
    for network in ("teacher", "student"):
        assert f"val/{network}/coco/bbox_mAP" in scalars
    moved = [
        not torch.equal(a, b)
        for a, b in zip(
            model.student.parameters(), model.teacher.parameters(), strict=True
        )
    ]
    assert any(moved)


def shrink(pipeline: list) -> None:
    for step in pipeline:
        if step.type == "Resize":
            step.scale = (64, 48)
        if step.type == "RandomResize":
            step.scale = [(64, 48), (64, 56)]
        for branch in ("unsup_teacher", "unsup_student"):
            if branch in step:
                shrink(step[branch])


def test_two_hooks_that_move_the_teacher_are_refused(tmp_path):
    from mmdet.engine.hooks import MeanTeacherHook

    from pld_mmdet.engine.hooks import TeacherEMAHook

    class Run:
        model = SoftTeacher(tiny_faster_rcnn())
        hooks = [MeanTeacherHook(), TeacherEMAHook()]
        iter = 0

    with pytest.raises(UserError, match="moved twice"):
        Run.hooks[1].before_train(Run)
