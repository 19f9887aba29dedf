"""Learning on a stream: EMA, step and score in order; resuming; refusals."""

import copy
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

from pld_mmdet.detection.ps_ttl import PSTTL
from pld_mmdet.engine.loops.online import OnlineLoop, merge_batches
from pld_mmdet.engine.run.runner import SafeRunner
from pld_mmdet.errors import UserError
from tests.detection.helpers import give_confidence
from tests.detection.test_ps_ttl import tiny_defrcn

CLASSES = ("cat", "dog", "cow")
KEEP = 0.75


@HOOKS.register_module(force=True)
class OnlineSpy(Hook):
    """Keeps the networks as they were at points of time; stops on demand."""

    priority = "LOW"  # after the EMA

    def __init__(self, stop_at: int | None = None) -> None:
        self.stop_at = stop_at
        self.before, self.after = [], []

    def before_train_iter(self, runner, batch_idx, data_batch=None) -> None:
        self.before.append(_weights(runner.model))
        if runner.iter == self.stop_at:
            raise InterruptedError

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.after.append(_weights(runner.model))


def _weights(model):
    return {
        name: copy.deepcopy(getattr(model, name).state_dict())
        for name in ("student", "teacher")
    }


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Five noisy images with a box of each class, and weights that see something."""
    import mmcv

    root = tmp_path_factory.mktemp("stream")
    generator = np.random.RandomState(0)
    images, boxes = [], []
    for i in range(5):
        pixels = generator.randint(0, 256, (64, 64, 3)).astype(np.uint8)
        mmcv.imwrite(pixels, str(root / f"{i}.png"))
        images.append(dict(id=i + 1, file_name=f"{i}.png", width=64, height=64))
        for c in range(3):
            boxes.append(
                dict(
                    id=3 * i + c + 1,
                    image_id=i + 1,
                    category_id=c + 1,
                    bbox=[3 + 12 * c, 5, 22, 30],
                    area=660,
                    iscrowd=0,
                )
            )
    categories = [dict(id=c + 1, name=n) for c, n in enumerate(CLASSES)]
    content = dict(images=images, annotations=boxes, categories=categories)
    (root / "ann.json").write_text(json.dumps(content))
    content.update(images=images[:1], annotations=boxes[:3])
    (root / "one.json").write_text(json.dumps(content))
    torch.manual_seed(0)
    model = PSTTL(tiny_defrcn())
    model.init_weights()
    give_confidence(model)
    torch.save(dict(state_dict=model.student.state_dict()), root / "few_shot.pth")
    return root


def config(data, work_dir, stream="ann.json", hooks=(), **changes) -> Config:
    pack = dict(
        type="PackDetInputs",
        meta_keys=(
            "img_id",
            "img_path",
            "ori_shape",
            "img_shape",
            "scale_factor",
            "flip",
            "homography_matrix",
        ),
    )
    weak = [
        dict(type="LoadImageFromFile"),
        dict(type="RandomChoiceResize", scales=[(64, 64), (96, 96)], keep_ratio=True),
        dict(type="RandomFlip", prob=0.5),
    ]

    def loader(ann, pipeline, shuffle=False, test_mode=True):
        return dict(
            batch_size=1,
            num_workers=0,
            sampler=dict(
                type="pld_mmdet.ResumableSampler", shuffle=shuffle, infinite=True
            ),
            dataset=dict(
                type="pld_mmdet.SeededDataset",
                dataset=dict(
                    type="CocoDataset",
                    ann_file=str(data / ann),
                    data_prefix=dict(img=str(data)),
                    metainfo=dict(classes=CLASSES),
                    test_mode=test_mode,
                    pipeline=pipeline,
                ),
            ),
        )

    branch = dict(type="MultiBranch", branch_field=["weak"], weak=[pack])
    support = dict(
        type="MultiBranch",
        branch_field=["support_weak", "support_strong"],
        support_weak=[pack],
        support_strong=[dict(type="pld_mmdet.RandomColorJitter"), pack],
    )
    annotated = [weak[0], dict(type="LoadAnnotations", with_bbox=True), *weak[1:]]
    score = [
        dict(type="LoadImageFromFile"),
        dict(type="Resize", scale=(64, 64), keep_ratio=True),
        pack,
    ]
    cfg = dict(
        default_scope="mmdet",
        work_dir=str(work_dir),
        load_from=str(data / "few_shot.pth"),
        randomness=dict(seed=3),
        model=dict(
            type="pld_mmdet.PSTTL",
            detector=tiny_defrcn(),
            known_threshold=0.8,
            unknown_threshold=0.3,
            sup_weight=1.0,
        ),
        train_dataloader=loader(stream, [*weak, branch]),
        train_cfg=dict(
            type="pld_mmdet.OnlineLoop",
            score_dataloader=loader(stream, score),
            support_dataloader=loader(
                "one.json", [*annotated, support], shuffle=True, test_mode=False
            ),
            evaluator=dict(
                type="pld_mmdet.GroupAP50Metric",
                ann_file=str(data / stream),
                groups=dict(base=["cat", "dog"], novel=["cow"]),
            ),
        ),
        optim_wrapper=dict(
            type="pld_mmdet.FiniteOptimWrapper",
            optimizer=dict(type="SGD", lr=0.01, momentum=0.9),
        ),
        default_hooks=dict(
            logger=dict(type="LoggerHook", interval=1),
            checkpoint=dict(
                type="pld_mmdet.SafeCheckpointHook", by_epoch=False, interval=1
            ),
        ),
        custom_hooks=[
            dict(type="pld_mmdet.IterationSeedHook"),
            dict(type="pld_mmdet.TeacherEMAHook", keep=KEEP, moment="before"),
            dict(type="pld_mmdet.PseudoBoxHook", interval=2),
            *hooks,
        ],
        log_processor=dict(by_epoch=False),
        log_level="WARNING",
    )
    return Config({**cfg, **changes})


def run(*args, **kwargs) -> SafeRunner:
    runner = SafeRunner.from_cfg(config(*args, **kwargs))
    runner.train()
    return runner


def spy_of(runner) -> OnlineSpy:
    return next(h for h in runner.hooks if isinstance(h, OnlineSpy))


@pytest.fixture(scope="module")
def whole(data, tmp_path_factory):
    """A run from start to end."""
    folder = tmp_path_factory.mktemp("whole")
    return run(data, folder, hooks=[dict(type="OnlineSpy")])


def close(a, b, **kwargs):
    return all(torch.allclose(a[k].float(), b[k].float(), **kwargs) for k in a)


def test_teacher_moves_before_the_step_and_not_at_iteration_0(whole):
    spy = spy_of(whole)
    assert len(spy.before) == 5
    first = spy.before[0]
    assert close(first["teacher"], first["student"], atol=0)
    assert not close(spy.after[0]["student"], first["student"], atol=0)
    # the teacher that scored image 0 had not learnt from it
    assert close(spy.after[0]["teacher"], first["teacher"], atol=0)
    expected = {
        k: KEEP * v + (1 - KEEP) * spy.after[0]["student"][k]
        if v.is_floating_point()
        else v
        for k, v in first["teacher"].items()
    }
    assert close(spy.before[1]["teacher"], expected, atol=1e-6)
    for before, after in zip(spy.before, spy.after, strict=True):
        assert close(before["teacher"], after["teacher"], atol=0)


def test_an_image_is_learnt_from_before_it_is_scored(whole):
    """Train step in training mode, then the clean image in evaluation mode, then on."""
    _, runner = whole if isinstance(whole, tuple) else (None, whole)
    loop, order = runner.train_loop, []
    model = runner.model

    def learn(batch, optim_wrapper):
        order.append(("learn", batch["n"], model.training))
        return {}

    def score(batch):
        order.append(("score", batch["n"], model.training))
        return [f"answer {batch['n']}"]

    class Kept:
        def process(self, data_samples, data_batch):
            order.append((*data_samples, data_batch["n"]))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(model, "train_step", learn)
        patch.setattr(model, "test_step", score)
        patch.setattr(loop, "evaluator", Kept())
        patch.setattr(loop, "seconds", {"learn": [], "score": []})
        patch.setattr(runner, "call_hook", lambda name, **_: order.append(name))
        patch.setattr(
            "pld_mmdet.engine.loops.online._require_same_images", lambda *_: None
        )
        patch.setattr(loop, "_iter", 3)
        model.train()
        loop.run_iter({"n": 1}, {"n": 2})
        assert loop._iter == 4
    assert order == [
        "before_train_iter",
        ("learn", 1, True),
        ("score", 2, False),
        ("answer 2", 2),
        "after_train_iter",
    ]
    assert model.training


def test_numbers_and_latency_are_written(whole):
    content = json.loads(Path(whole.work_dir, "online.json").read_text())
    metrics = content["metrics"]
    assert content["images"] == 5
    assert {"coco/AP50", "voc07/AP50_novel", "coco/AP50_base"} <= metrics.keys()
    for name in ("learn", "score", "image"):
        assert 0 < metrics[f"online/ms_{name}"] <= metrics[f"online/ms_{name}_p90"]


def test_resume_in_the_middle_of_the_stream_is_bit_exact(data, whole, tmp_path):
    with pytest.raises(InterruptedError):
        run(data, tmp_path, hooks=[dict(type="OnlineSpy", stop_at=3)])
    resumed = run(data, tmp_path, resume=True, load_from=None)
    assert resumed.train_loop.iter == 5
    ours, theirs = (
        torch.load(f"{r.work_dir}/iter_5.pth", weights_only=True)
        for r in (whole, resumed)
    )
    assert ours["state_dict"].keys() == theirs["state_dict"].keys()
    for name, value in ours["state_dict"].items():
        assert torch.equal(value, theirs["state_dict"][name]), name
    one, two = (
        json.loads(Path(r.work_dir, "online.json").read_text())["metrics"]
        for r in (whole, resumed)
    )
    assert {k: v for k, v in one.items() if "online" not in k} == {
        k: v for k, v in two.items() if "online" not in k
    }
    assert len(resumed.train_loop.seconds["learn"]) == 5
    results = [r.train_loop.evaluator.metrics[0].results for r in (whole, resumed)]
    assert len(results[0]) == len(results[1])


def test_a_stream_of_one_image(data, tmp_path):
    runner = run(data, tmp_path, stream="one.json", hooks=[dict(type="OnlineSpy")])
    content = json.loads((tmp_path / "online.json").read_text())
    assert content["images"] == 1
    spy = spy_of(runner)
    assert close(spy.after[0]["teacher"], spy.before[0]["teacher"], atol=0)


def test_streams_that_do_not_fit(data, whole, tmp_path):
    def loop(**changes) -> OnlineLoop:
        cfg = Config(config(data, tmp_path).train_cfg.to_dict())
        cfg.merge_from_dict(changes)
        kwargs = {k: v for k, v in cfg.items() if k != "type"}
        return OnlineLoop(whole, whole.train_dataloader, **kwargs)

    ann = {"score_dataloader.dataset.dataset.ann_file": str(data / "one.json")}
    with pytest.raises(UserError, match="5 images in batches of 1, but 1"):
        loop(**ann)
    stock = dict(_delete_=True, type="DefaultSampler", shuffle=False)
    with pytest.raises(UserError, match="score data loader cannot resume"):
        loop(**{"score_dataloader.sampler": stock})
    shuffled = loop(**{"score_dataloader.sampler.shuffle": True})
    with pytest.raises(UserError, match="is learnt from as"):
        shuffled.run()
    without = loop()
    without.support_loader = None
    with pytest.raises(UserError, match="starts from a support set"):
        without.run()


def test_branches_must_differ():
    batch = dict(inputs=dict(weak=[1]), data_samples=dict(weak=[2]))
    with pytest.raises(UserError, match="'weak' occurs in the stream"):
        merge_batches(batch, batch)
    with pytest.raises(UserError, match="support batches have no branches"):
        merge_batches(batch, dict(inputs=[1], data_samples=[2]))
