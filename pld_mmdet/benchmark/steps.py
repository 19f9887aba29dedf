"""Training steps: LPLD, Mean Teacher, the released order of work, and their parts."""

import copy
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData

from pld_mmdet.benchmark.networks import (
    KEEP,
    Workbench,
    build_workbench,
    sgd,
    total,
    training_step,
)
from pld_mmdet.benchmark.plan import Plan
from pld_mmdet.benchmark.released import released_rival
from pld_mmdet.benchmark.timing import Comparison, Measurement, run_in_turn
from pld_mmdet.distill.ema import Pairing

SMALL = ("foggy_streets.py", "R18-FPN small")
R50_C4 = ("foggy_cityscapes.py", "R50-C4")

OURS = "LPLD step"
MEAN_TEACHER = "Mean Teacher step"
RELEASED = "released order of work"
AHEAD = 0.85  # "well ahead" in numbers


def lpld_step(plan: Plan) -> list[Comparison]:
    """LPLD against Mean Teacher and against the released order, small detector."""
    bench = build_workbench(*SMALL, plan.size(4, 2))
    rounds = plan.choose(11, 3)
    return _compare_lpld(bench, plan, rounds, warm_up=1)


def lpld_step_r50(plan: Plan) -> list[Comparison]:
    """The same with R50-C4 at 600 x 1200: minutes on a CPU."""
    bench = build_workbench(*R50_C4, batch_size=1)
    rounds = plan.choose(3, 1)
    return _compare_lpld(bench, plan, rounds, warm_up=0)


def _compare_lpld(
    bench: Workbench, plan: Plan, rounds: int, warm_up: int
) -> list[Comparison]:
    rival = released_rival(bench.lpld)

    def released() -> None:
        rival.backward(bench.inputs, bench.samples)

    sides = {
        OURS: bench.wrapper_step(bench.lpld),
        MEAN_TEACHER: bench.wrapper_step(bench.mean_teacher),
        RELEASED: training_step(released, rival.student, rival.teacher),
    }
    tick = plan.counter((rounds + warm_up) * len(sides))
    timings = run_in_turn(sides, rounds, warm_up, tick)
    counts = bench.lpld.pseudo_counts["low"].sum() * len(bench.samples["weak"])
    notes = [*bench.notes, f"Mined rows in the timed steps: {counts.item():.0f}."]
    shared = dict(setting=bench.setting, timings=timings, subject=OURS, notes=notes)
    return [
        Comparison(
            case="LPLD / Mean Teacher", rivals=(MEAN_TEACHER,), target=1.15, **shared
        ),
        Comparison(
            case="LPLD / released order", rivals=(RELEASED,), target=AHEAD, **shared
        ),
    ]


def mean_teacher_step(plan: Plan) -> list[Comparison]:
    """Mean Teacher against its two halves measured apart: no hidden cost."""
    bench = build_workbench(*SMALL, plan.size(4, 2))
    model, inputs, samples = bench.mean_teacher, bench.inputs, bench.samples
    boxes = model.pseudo_labels(inputs["weak"], samples["weak"]).high
    given = [
        DetDataSample(
            metainfo=strong.metainfo,
            gt_instances=InstanceData(bboxes=b.bboxes, labels=b.labels),
        )
        for strong, b in zip(samples["strong"], boxes, strict=True)
    ]

    @torch.no_grad()
    def predict() -> None:
        fresh = [DetDataSample(metainfo=s.metainfo) for s in samples["weak"]]
        model.teacher.predict(inputs["weak"], fresh, rescale=False)

    def supervised() -> None:
        total(student.loss(inputs["strong"], given)).backward()

    student = copy.deepcopy(model.student)
    sides = {
        MEAN_TEACHER: bench.wrapper_step(model),
        "teacher predict": predict,
        "supervised step": training_step(supervised, student, teacher=None),
    }
    rounds = plan.choose(11, 3)
    timings = run_in_turn(sides, rounds, 1, plan.counter((rounds + 1) * len(sides)))
    return [
        Comparison(
            case="Mean Teacher / its halves",
            setting=bench.setting,
            timings=timings,
            subject=MEAN_TEACHER,
            rivals=("teacher predict", "supervised step"),
            target=1.05,
            notes=[*bench.notes, "The Mean Teacher step includes its EMA update."],
        )
    ]


def step_breakdown(plan: Plan) -> list[Measurement]:
    """Where the time of one LPLD step goes (small detector)."""
    bench = build_workbench(*SMALL, plan.size(4, 2))
    rounds = plan.choose(11, 3)
    tick = plan.counter(rounds + 1)
    parts: dict[str, list[float]] = {}
    for _ in range(rounds + 1):
        for name, seconds in _timed_parts(bench).items():
            parts.setdefault(name, []).append(seconds)
        tick()
    medians = {name: statistics.median(s[1:]) for name, s in parts.items()}
    whole = sum(medians.values())
    return [
        Measurement(
            case="Parts of an LPLD step",
            setting=bench.setting,
            values={name: 100 * s / whole for name, s in medians.items()},
            unit="%",
            notes=[*bench.notes, f"Sum of the medians: {whole:.3f} s."],
        )
    ]


def _timed_parts(bench: Workbench) -> dict[str, float]:
    """Processor seconds of each part of one step."""
    model = bench.lpld
    optimizer = sgd(model.student)
    spent: dict[str, float] = {}
    torch.manual_seed(0)
    with (
        _stopwatch(model, "label", spent),
        _stopwatch(model, "_teacher_pass", spent),
        _stopwatch(model, "student_loss", spent),
        _stopwatch(model, "_distil", spent),
    ):
        start = time.process_time()
        losses = model.loss(bench.inputs, bench.samples)
        whole = time.process_time() - start
    predict = spent["label"]
    mining = spent["_teacher_pass"] - predict
    forward = spent["_teacher_pass"] + spent["student_loss"] + spent["_distil"]
    pairs = Pairing(model.teacher, model.student)
    return {
        "teacher predict": predict,
        "student loss": spent["student_loss"],
        "mining": mining,
        "distillation term": spent["_distil"],
        "splitting, counting": whole - forward,
        "backward": _seconds(lambda: total(losses).backward()),
        "SGD": _seconds(optimizer.step),
        "EMA": _seconds(lambda: pairs.update(KEEP)),
    }


def _seconds(call: Callable[[], object]) -> float:
    start = time.process_time()
    call()
    return time.process_time() - start


@contextmanager
def _stopwatch(owner: object, name: str, spent: dict[str, float]) -> Iterator[None]:
    """Add up the seconds that the method ``name`` of one object takes."""
    method = getattr(owner, name)
    spent[name] = 0.0

    def timed(*args, **kwargs):
        start = time.process_time()
        result = method(*args, **kwargs)
        spent[name] += time.process_time() - start
        return result

    setattr(owner, name, timed)
    try:
        yield
    finally:
        delattr(owner, name)
