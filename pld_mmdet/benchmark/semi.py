"""Soft Teacher against mmdet's own port: time, stages and memory of an iteration.

Both sides get the same weights, images and boxes in one process. Where the two say
different things, the port's setting is the one of the authors too, so that both do the
same work: all proposals of the training setting, boxes of any size, teacher in
evaluation mode.
"""

import copy
import logging
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from mmdet.engine.hooks import MeanTeacherHook
from mmdet.models.detectors import SoftTeacher
from mmdet.structures import DetDataSample
from mmengine.config import Config, ConfigDict
from mmengine.dataset import Compose, pseudo_collate
from mmengine.structures import InstanceData
from torch import Tensor, nn

from pld_mmdet.benchmark.images import ROOT, image_files
from pld_mmdet.benchmark.memory import peak_resident_mb, resident_mb
from pld_mmdet.benchmark.networks import sgd, spread_logits, total
from pld_mmdet.benchmark.plan import Plan
from pld_mmdet.benchmark.timing import Comparison, Measurement, run_in_turn
from pld_mmdet.detection.soft_teacher import BoxJitterSoftTeacher
from pld_mmdet.distill.adabn import batch_norms, estimate_batch_norm
from pld_mmdet.distill.ema import Pairing
from pld_mmdet.distill.feature_tap import FeatureTap

OURS = "BoxJitterSoftTeacher"
PORT = "mmdet's SoftTeacher"
KEEP = 0.999
BOXES = 10
BRANCHES = dict(sup="sup", weak="unsup_teacher", strong="unsup_student")


@dataclass(frozen=True)
class Setting:
    """One detector and batch.

    Attributes:
        config: Below ``configs/soft_teacher``; gives detector and views.
        name: The network in words.
        size: Width and height that images are resized to.
        images: Labelled and unlabelled ones.
        target: Largest acceptable ratio.
    """

    config: str
    name: str
    size: tuple[int, int]
    images: tuple[int, int]
    target: float


SETTINGS = {
    "small": Setting("streets_5pct.py", "R18-FPN small", (384, 192), (2, 2), 0.9),
    "r50": Setting("coco_10pct.py", "R50-FPN", (512, 256), (1, 1), 0.95),
}


@dataclass
class Pair:
    """The two wrappers with equal weights, and a batch for each.

    Attributes:
        ours: Our wrapper.
        port: mmdet's.
        data: Inputs and data samples of a batch, by side.
        setting: Network, size and batch in words.
        notes: Origin of the images, numbers of boxes.
    """

    ours: BoxJitterSoftTeacher
    port: SoftTeacher
    data: dict[str, tuple[dict, dict]]
    setting: str
    notes: list[str]

    def losses(self, side: str) -> dict[str, Tensor]:
        """One forward pass; the port changes its data samples, so each gets a copy."""
        inputs, samples = self.data[side]
        return self.model(side).loss(dict(inputs), copy.deepcopy(samples))

    def model(self, side: str) -> nn.Module:
        """The wrapper of a side."""
        return self.ours if side == OURS else self.port

    def step(self, side: str) -> Callable[[], None]:
        """A whole iteration: losses, gradients, SGD (with a rate of 0), EMA."""
        model = self.model(side)
        optimizer, average = sgd(model.student), self.average(side)

        def step() -> None:
            torch.manual_seed(0)
            optimizer.zero_grad(set_to_none=True)
            total(self.losses(side)).backward()
            optimizer.step()
            average()

        return step

    def average(self, side: str) -> Callable[[], None]:
        """The EMA of a side, as its hook calls it."""
        model = self.model(side)
        if side == OURS:
            pairs = Pairing(model.teacher, model.student)
            return lambda: pairs.update(KEEP)
        hook = MeanTeacherHook(momentum=1 - KEEP)
        return lambda: hook.momentum_update(model, 1 - KEEP)


def build_pair(setting: Setting, count: bool = True) -> Pair:
    """Build both wrappers around one random but confident detector, and a batch.

    Args:
        setting: Which.
        count: Run our side once, to say in the notes how many boxes there are.
    """
    cfg = Config.fromfile(str(ROOT / "configs" / "soft_teacher" / setting.config))
    settings = dict(cfg.model, reg_threshold=10.0)  # every box teaches the regression
    settings.pop("type")
    detector = settings.pop("detector")
    detector.test_cfg.rpn = detector.train_cfg.rpn_proposal
    detector.test_cfg.rcnn.max_per_img = BOXES  # random networks see things everywhere
    if detector.backbone.get("init_cfg"):
        detector.backbone.init_cfg = None  # no download
    torch.manual_seed(0)
    logging.disable(logging.INFO)  # mmengine names every weight it draws
    try:
        ours = BoxJitterSoftTeacher(detector, **settings).train()
        ours.init_weights()
        port = SoftTeacher(
            detector,
            semi_train_cfg=ConfigDict(
                freeze_teacher=True,
                sup_weight=ours.sup_weight,
                unsup_weight=ours.unsup_weight,
                pseudo_label_initial_score_thr=ours.hpl_threshold,
                rpn_pseudo_thr=ours.rpn_threshold,
                cls_pseudo_thr=ours.cls_threshold,
                reg_pseudo_thr=ours.reg_threshold,
                jitter_times=ours.jitter_times,
                jitter_scale=ours.jitter_fraction,
                min_pseudo_bbox_wh=(0.0, 0.0),
            ),
            semi_test_cfg=ConfigDict(predict_on="teacher"),
        ).train()
    finally:
        logging.disable(logging.NOTSET)
    with image_files(sum(setting.images)) as (paths, origin):
        batch = _batch(cfg, setting, paths, ours.num_classes)
    data = ours.data_preprocessor(batch, training=True)
    inputs, samples = data["inputs"], data["data_samples"]
    _make_confident(ours, inputs["weak"], samples["weak"])
    port.load_state_dict(ours.state_dict())
    port.teacher.eval()
    renamed = tuple({BRANCHES[k]: v for k, v in d.items()} for d in (inputs, samples))
    pair = Pair(ours, port, {OURS: (inputs, samples), PORT: renamed}, "", [])
    width, height = setting.size
    labelled, unlabelled = setting.images
    pair.setting = (
        f"{setting.name}, {height} x {width}, {labelled} labelled + {unlabelled}"
    )
    if count:
        torch.manual_seed(0)
        pair.losses(OURS)
        boxes = {k: v.sum().item() for k, v in ours.pseudo_counts.items()}
        pair.notes = [
            f"Images: {origin}. Random weights, equal on both sides. Boxes an "
            f"unlabelled image: {boxes['found']:.1f} above {ours.hpl_threshold}, "
            f"{boxes['high']:.1f} above {ours.cls_threshold}; all are jittered and "
            "teach the regression. Both teachers see as many proposals; the port's is "
            "in evaluation mode. Data loading is left out."
        ]
    return pair


def _batch(
    cfg: Config, setting: Setting, paths: list[str], num_classes: int
) -> dict[str, dict]:
    """Three branches of one size: the config's strong view, plain other views."""
    resize = dict(type="Resize", scale=setting.size, keep_ratio=False)
    load, pack = dict(type="LoadImageFromFile"), cfg.pack
    strong = [cfg.flip, dict(type="RandomErasing", n_patches=(1, 4), ratio=(0, 0.2))]
    pipelines = {
        "sup": Compose([load, resize, pack]),
        "weak": Compose([load, resize, pack]),
        "strong": Compose([load, resize, *strong, pack]),
    }
    np.random.seed(0)
    labelled = setting.images[0]
    rows = [
        {"sup": pipelines["sup"](dict(img_path=path, img_id=n))}
        if n < labelled
        else {
            k: pipelines[k](dict(img_path=path, img_id=n)) for k in ("weak", "strong")
        }
        for n, path in enumerate(paths)
    ]
    batch: dict[str, dict] = {"inputs": {}, "data_samples": {}}
    for branch in BRANCHES:
        part = pseudo_collate([row[branch] for row in rows if branch in row])
        batch["inputs"][branch] = part["inputs"]
        batch["data_samples"][branch] = [  # without the pipeline's empty boxes
            DetDataSample(metainfo=s.metainfo) for s in part["data_samples"]
        ]
    generator = torch.Generator().manual_seed(0)
    for sample in batch["data_samples"]["sup"]:
        sample.gt_instances = _objects(setting.size, num_classes, generator)
    return batch


def _objects(
    size: tuple[int, int], num_classes: int, generator: torch.Generator, count: int = 8
) -> InstanceData:
    """Eight boxes of a tenth to a third of the image."""
    limits = torch.tensor(size, dtype=torch.float)
    sides = (0.1 + 0.23 * torch.rand(count, 2, generator=generator)) * limits
    corner = torch.rand(count, 2, generator=generator) * (limits - sides)
    return InstanceData(
        bboxes=torch.cat([corner, corner + sides], 1),
        labels=torch.randint(0, num_classes, (count,), generator=generator),
    )


@torch.no_grad()
def _make_confident(
    model: BoxJitterSoftTeacher, images: Tensor, samples: list[DetDataSample]
) -> None:
    """Give the class layer logits that leave some boxes above the thresholds."""
    layer = model.teacher.roi_head.bbox_head.fc_cls

    def forward(images: Tensor) -> None:
        fresh = [DetDataSample(metainfo=s.metainfo) for s in samples]
        model.teacher.predict(images, fresh, rescale=False)

    if list(batch_norms(model.teacher)):  # else signals of random weights explode
        estimate_batch_norm(model.teacher, [images], forward)
    with FeatureTap(layer=layer) as tap:
        forward(images)
    spread_logits(layer, tap.inputs("layer")[0], model.cls_threshold)
    model.student.load_state_dict(model.teacher.state_dict())


def soft_teacher_step(plan: Plan) -> list[Comparison]:
    """A whole iteration, small detector."""
    return _compare("small", plan, plan.choose(9, 2))


def soft_teacher_step_r50(plan: Plan) -> list[Comparison]:
    """The same with R50-FPN at a reduced size."""
    return _compare("r50", plan, plan.choose(3, 1))


def _compare(name: str, plan: Plan, rounds: int) -> list[Comparison]:
    setting = SETTINGS[name]
    pair = build_pair(setting)
    sides = {side: pair.step(side) for side in (OURS, PORT)}
    return [
        Comparison(
            case="Soft Teacher / mmdet's",
            setting=pair.setting,
            timings=run_in_turn(sides, rounds, 1, plan.counter(2 * (rounds + 1))),
            subject=OURS,
            rivals=(PORT,),
            target=setting.target,
            notes=pair.notes,
        )
    ]


def soft_teacher_stages(plan: Plan) -> list[Measurement]:
    """Where the time of both sides goes, stage by stage."""
    results = []
    rounds = {"small": plan.choose(7, 2), "r50": 0 if plan.quick else plan.choose(2, 1)}
    tick = plan.counter(sum(2 * (n + 1) for n in rounds.values() if n))
    for name, number in rounds.items():
        if not number:
            continue
        pair = build_pair(SETTINGS[name])
        taken: dict[str, dict[str, list[float]]] = {OURS: {}, PORT: {}}
        for turn in range(-1, number):
            for side, parts in taken.items():
                for stage, seconds in _stages(pair, side).items():
                    if turn >= 0:
                        parts.setdefault(stage, []).append(seconds)
                tick()
        ours, port = (
            {stage: statistics.median(s) for stage, s in parts.items()}
            for parts in taken.values()
        )
        values = {}
        for stage in ours:
            values[f"{stage}: ours"] = 1000 * ours[stage]
            values[f"{stage}: mmdet's"] = 1000 * port[stage]
        results.append(
            Measurement(
                case="Stages of Soft Teacher",
                setting=pair.setting,
                values=values,
                unit="ms",
                notes=[
                    *pair.notes,
                    f"Medians of {number} rounds, processor time on one thread.",
                ],
            )
        )
    return results


def _stages(pair: Pair, side: str) -> dict[str, float]:
    """Processor seconds of each stage of one iteration."""
    model, watch = pair.model(side), Stages()
    optimizer, average = sgd(model.student), pair.average(side)
    torch.manual_seed(0)
    inputs, samples = pair.data[side]
    samples = copy.deepcopy(samples)
    own = {
        OURS: ("_detect", "_select", "_in_strong_view"),
        PORT: ("get_pseudo_instances", "project_pseudo_instances"),
    }[side]
    supervised = {OURS: "_supervised_loss", PORT: "loss_by_gt_instances"}[side]
    with (
        watch.method(model.teacher, "extract_feat", "teacher: backbone"),
        watch.method(model.student, "extract_feat", "student: backbone"),
        watch.methods(model, own, "teacher: boxes and jitter"),
        watch.method(model, supervised, "student: labelled heads"),
        watch.block("student: unlabelled heads"),
    ):
        losses = model.loss(dict(inputs), samples)
    with watch.block("backward"):
        total(losses).backward()
    with watch.block("SGD and EMA"):
        optimizer.step()
        average()
    optimizer.zero_grad(set_to_none=True)
    return watch.seconds


class Stages:
    """Exclusive processor time of nested stages."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._open: list[str] = []
        self._since = 0.0

    def _turn(self) -> None:
        now = time.process_time()
        if self._open:
            name = self._open[-1]
            self.seconds[name] = self.seconds.get(name, 0.0) + now - self._since
        self._since = now

    @contextmanager
    def block(self, name: str) -> Iterator[None]:
        """Time a block; stages inside it count for themselves."""
        self._turn()
        self._open.append(name)
        try:
            yield
        finally:
            self._turn()
            self._open.pop()

    @contextmanager
    def method(self, owner: object, method: str, name: str) -> Iterator[None]:
        """Time every call of a method of one object."""
        original = getattr(owner, method)

        def timed(*args, **kwargs):
            with self.block(name):
                return original(*args, **kwargs)

        owner.__dict__[method] = timed  # not setattr: networks register what they get
        try:
            yield
        finally:
            del owner.__dict__[method]

    @contextmanager
    def methods(
        self, owner: object, methods: tuple[str, ...], name: str
    ) -> Iterator[None]:
        """Time several methods as one stage."""
        first, *rest = methods
        with self.method(owner, first, name):
            if not rest:
                yield
                return
            with self.methods(owner, tuple(rest), name):
                yield


def soft_teacher_memory(plan: Plan) -> list[Measurement]:
    """Peak resident memory of some iterations, each side in a process of its own."""
    tick, results = plan.counter(2 * len(SETTINGS)), []
    for name in SETTINGS:
        peaks, before, setting = {}, {}, ""
        for side in (OURS, PORT):
            code = (
                f"from pld_mmdet.benchmark.semi import peak; peak({name!r}, {side!r})"
            )
            done = subprocess.run(
                [sys.executable, "-c", code],
                capture_output=True,
                text=True,
                check=True,
                cwd=ROOT,
                env=os.environ | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"},
            )
            start, most, setting = done.stdout.splitlines()[-1].split("|")
            before[side], peaks[side] = float(start), float(most)
            tick()
        results.append(
            Measurement(
                case="Peak memory of Soft Teacher",
                setting=setting,
                values={
                    "ours / mmdet's, iteration alone": (
                        100
                        * (peaks[OURS] - before[OURS])
                        / (peaks[PORT] - before[PORT])
                    )
                },
                unit="%",
                limited="ours / mmdet's, iteration alone",
                target=100.0,
                notes=[
                    "Peak resident memory (VmHWM) of a process of its own, two "
                    "iterations, less what "
                    "was resident before the first: ours "
                    f"{before[OURS]:.0f} to {peaks[OURS]:.0f} MB, mmdet's "
                    f"{before[PORT]:.0f} to {peaks[PORT]:.0f} MB."
                ],
            )
        )
    return results


def peak(name: str, side: str) -> None:
    """Print resident memory before and at the peak of two iterations (child)."""
    from mmengine.registry import init_default_scope

    from pld_mmdet.engine.run.stack import import_mmdet

    import_mmdet()
    init_default_scope("mmdet")
    torch.set_num_threads(1)
    pair = build_pair(SETTINGS[name], count=False)
    step = pair.step(side)
    before = resident_mb()
    for _ in range(2):
        step()
    most = peak_resident_mb()
    print(f"{before:.1f}|{most:.1f}|{pair.setting}")
