"""Hooks of a few lines: seeds, schedules, missed evaluations, kept samples."""

import random
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.hooks import CheckpointHook, Hook
from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop, get_priority

from pld_mmdet.engine.data.randomness import seed_everything
from pld_mmdet.engine.hooks import ProgressHook
from pld_mmdet.engine.hooks.kept_samples import FILE, KeptSamplesHook
from pld_mmdet.engine.hooks.missed_evaluation import (
    MissedEvaluationHook,
    evaluation_due,
)
from pld_mmdet.engine.hooks.seed import IterationSeedHook
from pld_mmdet.engine.hooks.step_schedule import StepScheduleHook

PACKAGE = Path(__file__).resolve().parents[3] / "pld_mmdet"


def drawn(seed, iteration, rank):
    run = SimpleNamespace(seed=seed, iter=iteration, rank=rank)
    IterationSeedHook().before_train_iter(run, iteration)
    return random.random(), np.random.rand(), torch.rand(()).item()


def test_an_iterations_numbers_follow_from_seed_iteration_and_rank():
    places = [(1, 0, 0), (0, 1, 0), (0, 0, 1), (0, 0, 0), (2, 5, 3), (5, 2, 3)]
    first = [drawn(*place) for place in places]
    again = [drawn(*place) for place in reversed(places)]
    assert first == again[::-1]
    for numbers in zip(*first, strict=True):  # of random, numpy and torch
        assert len(set(numbers)) == len(places)
    assert drawn(None, 4, 1) == drawn(0, 4, 1)
    seed_everything(0, 1, 3)  # sample 3 of the data, see engine/data/seeding.py
    of_the_data = random.random()
    assert drawn(0, 1, 3)[0] != of_the_data


def test_no_two_places_draw_from_one_stream():
    found = {}
    for path in PACKAGE.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        for number in re.findall(r"^_STREAM = [(\s]*(\d+)", text, re.MULTILINE):
            found[path.name] = int(number)
    assert len(found) > 5
    assert len({*found.values()}) == len(found), found


def test_seeds_come_first_and_a_missed_evaluation_after_the_checkpoints():
    stock = {hook: get_priority(hook.priority) for hook in (CheckpointHook, Hook)}
    for hook in IterationSeedHook, ProgressHook:
        assert get_priority(hook.priority) < stock[Hook]
    assert get_priority(MissedEvaluationHook.priority) > stock[CheckpointHook]


@pytest.mark.parametrize(
    ("size", "steps", "expected"),
    [(1, 3, [1, 2, 3]), (3, 8, [0, 0, 3, 3, 3, 6, 6, 8]), (2, 3, [0, 2, 3])],
)
def test_schedules_advance_by_whole_steps(size, steps, expected):
    seen = []
    schedule = SimpleNamespace(by_epoch=False, step=lambda: seen.append(1))
    run = SimpleNamespace(
        optim_wrapper=SimpleNamespace(_accumulative_counts=size),
        param_schedulers=[schedule],
        max_iters=steps,
    )
    found = []
    for run.iter in range(steps):
        StepScheduleHook().after_train_iter(run, run.iter)
        found.append(len(seen))
    assert found == expected


def loop_of(kind, **values):
    loop = kind.__new__(kind)
    for name, value in values.items():
        setattr(loop, name, value)
    return loop


def due(loop, val_loop=True):
    return evaluation_due(SimpleNamespace(train_loop=loop, val_loop=val_loop or None))


class Counted(SimpleNamespace):
    evaluates_every_interval = True


KINDS = {
    "iterations": (IterBasedTrainLoop, "_iter", "_max_iters"),
    "epochs": (EpochBasedTrainLoop, "_epoch", "_max_epochs"),
    "own loop": (Counted, "iter", "max_iters"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_loop_says_when_an_evaluation_is_due(kind):
    base, place, end = KINDS[kind]
    found = []
    for done in range(8):
        settings = {place: done, end: 7, "val_interval": 3, "val_begin": 4}
        settings |= dict(dynamic_milestones=[0], dynamic_intervals=[3])
        loop = loop_of(base, **settings)
        found.append(due(loop))
        assert not due(loop, val_loop=None)
    assert [n for n, one in enumerate(found) if one] == [6, 7]
    loop.val_begin = 7  # its last place
    assert due(loop)
    assert not due(SimpleNamespace(iter=6, max_iters=6))  # it evaluates by itself


def test_a_dynamic_interval_is_the_one_of_the_place():
    loop = loop_of(
        IterBasedTrainLoop,
        _iter=6,
        _max_iters=10,
        val_interval=4,
        val_begin=1,
        dynamic_milestones=[0, 5],
        dynamic_intervals=[4, 2],
    )
    assert due(loop)
    assert loop.val_interval == 2


@pytest.mark.parametrize(
    ("resume", "done", "runs"),
    [(True, 4, 1), (False, 4, 0), (True, 0, 0), (True, 3, 0)],
)
def test_a_resumed_run_makes_up_for_its_evaluation(resume, done, runs):
    ran, said = [], []
    run = SimpleNamespace(
        _resume=resume,
        iter=done,
        train_loop=Counted(iter=done, max_iters=9, val_interval=2, val_begin=0),
        val_loop=SimpleNamespace(run=lambda: ran.append(done)),
        logger=SimpleNamespace(info=said.append),
    )
    MissedEvaluationHook().before_train(run)
    assert len(ran) == len(said) == runs


def test_the_first_samples_are_kept_and_a_test_begins_anew(tmp_path, monkeypatch):
    assert KeptSamplesHook().count == 2000
    hook, run = KeptSamplesHook(count=5), SimpleNamespace(work_dir=str(tmp_path))
    hook.before_test(run)
    hook.after_test_iter(run, 0, outputs=None)
    hook.after_test(run)
    assert not (tmp_path / FILE).exists()
    for start in (0, 3, 6):
        values = torch.arange(start, start + 3.0, requires_grad=True)
        answer = dict(samples=values, references=values[:1] + 100, other=values)
        hook.after_test_iter(run, 0, outputs=[answer])
    with monkeypatch.context() as patch:  # of several processes one writes
        patch.setattr("mmengine.dist.utils.is_main_process", lambda group=None: False)
        hook.after_test(run)
        assert not (tmp_path / FILE).exists()
    hook.after_test(run)
    with np.load(tmp_path / FILE) as kept:
        assert {*kept} == {"samples", "references"}
        assert kept["samples"].tolist() == [0, 1, 2, 3, 4]
        assert kept["references"].tolist() == [100, 103, 106]
    hook.before_test(run)
    assert hook.kept == {"samples": [], "references": []}
