"""Walks over every published config: what it names is read, what it trains learns.

The config says itself how it becomes small (tests/_tiny).
"""

import math
import os
import shutil
from contextlib import contextmanager
from fnmatch import fnmatch
from pathlib import Path

import pytest
import torch
from mmengine.hooks import Hook
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from pld_mmdet.catalogue import entries
from pld_mmdet.cli import build_runner
from pld_mmdet.distill.teachers import Frozen
from pld_mmdet.engine.config.preflight import check_config
from pld_mmdet.engine.run.models import unwrapped
from pld_mmdet.errors import UserError
from tests import _tiny

ALL = [entry for entry in entries() if entry.is_begun()]
#: Published configs that do not say yet how they become small. It only shrinks.
MISSING = {e.stem for e in ALL if not _tiny.has_walk(e)}
WALKED = [entry for entry in ALL if entry.stem not in MISSING]
by_stem = pytest.mark.parametrize("entry", WALKED, ids=lambda entry: entry.stem)

#: Modules that an optimizer holds and no loss reaches, and why that is so.
IDLE: dict[str, dict[str, str]] = {
    "shrinkmatch": {"auxiliary*": "no image of two steps is certain of fewer classes"},
    "wad": {"teachers.0.fc": "features go round the encoder's own last layer"},
}
#: Weights of a file that no network of the method has a place for, and why.
UNREAD: dict[str, dict[str, str]] = {
    "dho": dict.fromkeys(
        ("logit_scale", "text_model.*", "text_projection.*"),
        "the words are encoded once, then only their vectors are kept",
    )
}
#: What only a later stage reads: it is missed when that stage begins.
LATE = {"ssld": ["data/imagenet/train"]}
#: Frozen networks that are exchanged between stages, and why.
EXCHANGED = {"self_distillation_theory": "each generation teaches the next one"}
#: Batch norms that learn and whose statistics stand still, and why.
STILL: dict[str, dict[str, str]] = {}


class Watch(Hook):
    """What is seen of a run: its beginning, losses, gradients."""

    priority = "VERY_LOW"

    def __init__(self):
        self.start, self.losses, self.frozen = {}, [], None
        self.held, self.reached = set(), set()
        self._watched = set()

    def before_train(self, runner):
        self.start = state_of(runner.model)

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        model = unwrapped(runner.model)
        if self.frozen is None:
            self.frozen = frozen_of(model)
        wrappers = runner.optim_wrapper
        wrappers = wrappers.values() if hasattr(wrappers, "values") else [wrappers]
        held = {
            id(p)
            for wrapper in wrappers
            for group in wrapper.optimizer.param_groups
            for p in group["params"]
        }
        for name, p in model.named_parameters():
            if p.requires_grad and id(p) in held:
                self.held.add(name)
            if p.requires_grad and name not in self._watched:
                self._watched.add(name)
                p.register_post_accumulate_grad_hook(self._look(name))

    def _look(self, name):
        def look(p):
            assert torch.isfinite(p.grad).all(), name
            if name not in self.reached and bool((p.grad != 0).any()):
                self.reached.add(name)

        return look

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.losses.append({k: torch.as_tensor(v) for k, v in (outputs or {}).items()})


def state_of(model: nn.Module) -> dict:
    """Copies of everything that it holds, also what is in no checkpoint."""
    model = unwrapped(model)
    return {
        name: value.detach().clone()
        for named in (model.named_parameters, model.named_buffers)
        for name, value in named(remove_duplicate=False)
    }


def frozen_of(model: nn.Module) -> dict:
    return {
        name: state_of(one)
        for name, one in model.named_modules()
        if isinstance(one, Frozen)
    }


def run_of(cfg, watch: Watch | None = None):
    """As tools/train.py does it."""
    check_config(cfg, ("train", "val"))
    runner = build_runner(cfg)
    if watch is not None:
        runner.register_hook(watch, priority="VERY_LOW")
    runner.train()
    return runner


@contextmanager
def chdir(folder: Path):
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def saved(folder: Path) -> list[Path]:
    files = [*folder.glob("iter_*.pth"), *folder.glob("epoch_*.pth")]
    return sorted(files, key=lambda path: int(path.stem.partition("_")[2]))


def spared(name: str, reasons: dict[str, str]) -> bool:
    return any(fnmatch(name, pattern) for pattern in reasons)


class Run:
    """One whole run of a method, shared by the tests that look at it."""

    def __init__(self, entry, folder: Path) -> None:
        self.entry, self.folder = entry, folder
        self.watch = Watch()
        with chdir(folder):
            self.files = _tiny.make(_tiny.published(entry, folder / "none"))
            self.runner = run_of(self.config("run"), self.watch)
        self.model = unwrapped(self.runner.model)

    def config(self, name: str, *options: str):
        return _tiny.published(self.entry, self.folder / name, *options)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    done: dict[str, Run | None] = {}

    def of(entry) -> Run:
        if entry.stem not in done:
            done.clear()  # conftest.py sorts by method
            done[entry.stem] = None
            done[entry.stem] = Run(entry, tmp_path_factory.mktemp(entry.stem))
        if done[entry.stem] is None:
            pytest.fail("its run did not end, as the first of these tests says")
        return done[entry.stem]

    return of


def test_who_has_no_walk_is_named():
    lacks = {entry.stem for entry in ALL if not _tiny.has_walk(entry)}
    assert lacks == MISSING, "take what has a walk now out of MISSING"
    for reasons in (IDLE, UNREAD, STILL):
        assert set(reasons) <= {entry.stem for entry in WALKED}


@by_stem
def test_takes_steps_with_finite_losses(entry, run):
    one = run(entry)
    assert len(one.watch.losses) >= 2
    for step in one.watch.losses:
        assert step, "no loss was reported"
        for name, value in step.items():
            assert torch.isfinite(value).all(), name


@by_stem
def test_reads_its_weights(entry, run):
    """Each tensor of each file is in the model, in the precision that it has there."""
    one = run(entry)

    def key(value):
        return tuple(value.shape), value.float().numpy().tobytes()

    held = {key(value.cpu()) for value in one.watch.start.values()}
    for path, state in one.files.items():
        unread = [
            name
            for name, value in state.items()
            if value.is_floating_point()
            and not spared(name, UNREAD.get(entry.stem, {}))
            and all(
                key(value.to(kind)) not in held
                for kind in (torch.float32, torch.bfloat16, torch.float16)
            )
        ]
        assert unread == [], path


@by_stem
def test_what_an_optimizer_holds_learns(entry, run):
    """A module of which no parameter has a gradient learns nothing."""
    one = run(entry)
    owners: dict[str, set[str]] = {}
    for name in one.watch.held:
        owners.setdefault(name.rpartition(".")[0], set()).add(name)
    idle = sorted(
        owner
        for owner, names in owners.items()
        if not names & one.watch.reached and not spared(owner, IDLE.get(entry.stem, {}))
    )
    assert one.watch.held
    assert idle == []


@by_stem
def test_norms_that_learn_follow_the_data(entry, run):
    one = run(entry)
    still = [
        name
        for name, module in one.model.named_modules()
        if isinstance(module, _BatchNorm)
        and module.running_mean is not None
        and f"{name}.weight" in one.watch.reached
        and torch.equal(
            module.running_mean.cpu(), one.watch.start[f"{name}.running_mean"].cpu()
        )
        and not spared(name, STILL.get(entry.stem, {}))
    ]
    assert still == []


@by_stem
def test_what_is_frozen_does_not_move(entry, run):
    one = run(entry)
    if entry.stem in EXCHANGED:
        pytest.skip(EXCHANGED[entry.stem])
    now = frozen_of(one.model)
    assert now.keys() == one.watch.frozen.keys()
    for name, before in one.watch.frozen.items():
        moved = [k for k, v in before.items() if not torch.equal(now[name][k], v)]
        assert moved == [], name


@by_stem
def test_resumes_and_ends_the_same(entry, run):
    one = run(entry)
    first, *_, last = saved(one.folder / "run")
    again = one.folder / "again"
    shutil.copytree(one.folder / "run", again)
    for path in saved(again)[1:]:
        path.unlink()
    with chdir(one.folder):
        run_of(one.config("again", f"load_from={again / first.name}", "resume=True"))
    ours, theirs = (
        torch.load(folder / last.name, weights_only=True)["state_dict"]
        for folder in (again, one.folder / "run")
    )
    assert ours.keys() == theirs.keys()
    assert [k for k in ours if not torch.equal(ours[k], theirs[k])] == []


@by_stem
def test_is_scored(entry, run):
    one = run(entry)
    if one.runner.cfg.get("test_dataloader") is None:
        pytest.skip("nothing is scored")
    with chdir(one.folder):
        found = one.runner.test()
    assert found
    assert any(math.isfinite(value) for value in found.values())


@by_stem
def test_a_missing_file_is_a_sentence(entry, run):
    one = run(entry)
    for path in one.runner.cfg.walk_data:
        here, away = one.folder / path, one.folder / "away"
        here.rename(away)
        try:
            with chdir(one.folder), pytest.raises(UserError, match=Path(path).name):
                run_of(one.config("lacks")).test()
        finally:
            away.rename(here)
        cfg = one.runner.cfg
        if path in LATE.get(entry.stem, ()):
            shutil.rmtree(one.folder / "lacks")
            continue
        learns = {k: cfg[k] for k in cfg if k not in ("test_dataloader", "walk_data")}
        if path in str(learns):  # what only the test reads is missed then
            assert not saved(one.folder / "lacks"), path
        shutil.rmtree(one.folder / "lacks", ignore_errors=True)


@by_stem
def test_another_batch_size_works(entry, run):
    one = run(entry)
    cfg = one.config("batch")
    cfg.default_hooks.checkpoint.interval = 1000
    for loader in _tiny.loaders(cfg):
        if "source_ratio" in (loader.get("sampler") or {}):
            loader["sampler"]["batch_size"] += sum(loader["sampler"]["source_ratio"])
            loader["batch_size"] = loader["sampler"]["batch_size"]
        elif loader["batch_size"] > 1:
            loader["batch_size"] += 1
    with chdir(one.folder):
        run_of(cfg)
