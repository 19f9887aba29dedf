"""Walks over every method of the catalogue: its files, and two steps of its toy config.

A method that lacks something fails here by its own name.
"""

import ast
import fcntl
import shlex
import shutil
from functools import cache
from importlib import import_module
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.registry import MODELS, RUNNERS

from pld_mmdet.catalogue import ROOT, entries
from pld_mmdet.distill.teachers import Frozen
from pld_mmdet.engine.run.models import unwrapped
from pld_mmdet.experiments.options import parse_options
from tests.engine.processes import Tool, free_port, prepare
from tests.paper_pins import check as check_pins

ALL = entries()
BEGUN = [entry for entry in ALL if entry.is_begun()]
# Detectors have data to make first: tests/detection walks them, method by method.
WALKED = [entry for entry in BEGUN if entry.family != "detection"]
# Order, not batches, is what these learn from: several processes have no meaning.
ONE_PROCESS = {"cotta", "fedlabel"}

# Packages that are no families.
ROOMS = (
    "distill",
    "engine",
    "shared",
    "experiments",
    "report",
    "benchmark",
    "adaptation",
    "recipes",
)

by_stem = pytest.mark.parametrize("entry", WALKED, ids=lambda entry: entry.stem)


class Watch(Hook):
    """What is seen of a run.

    Each step's losses, what frozen teachers were before the first, and the modules
    that built a graph while a stage was prepared.
    """

    def __init__(self):
        self.losses, self.before, self.graphs = [], None, set()

    def before_run(self, runner):
        model = unwrapped(runner.model)
        prepare = getattr(model, "start_stage", None)
        if prepare is None:
            return

        def look(module, _, output):
            if isinstance(output, torch.Tensor) and output.requires_grad:
                self.graphs.add(type(module).__name__)

        def watched(*args):
            hooks = [one.register_forward_hook(look) for one in model.modules()]
            prepare(*args)
            for hook in hooks:
                hook.remove()

        model.start_stage = watched

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if self.before is None:
            self.before = [
                {k: v.clone() for k, v in teacher.state_dict().items()}
                for teacher in teachers(runner.model)
            ]

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.losses.append({k: torch.as_tensor(v) for k, v in (outputs or {}).items()})


def teachers(model):
    return [m for m in model.modules() if isinstance(m, Frozen)]


@cache
def make(command: str) -> None:
    """Make the files of a walk, once; what is there already is kept."""
    (ROOT / "data").mkdir(exist_ok=True)
    with open(ROOT / "data/.walk.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # test processes may ask at the same time
        _, tool, *words = shlex.split(command)
        assert tool == "tools/prepare.py"
        prepare(*words)


def config_of(entry) -> Config:
    cfg = Config.fromfile(ROOT / entry.files["toy config"])
    assert "walk" in cfg, f"{entry.files['toy config']} has no `walk` options"
    if "walk_data" in cfg:
        make(cfg.walk_data)
    cfg.merge_from_dict(parse_options(cfg.walk))
    cfg.default_hooks.checkpoint.update(interval=1, max_keep_ckpts=-1, by_epoch=False)
    cfg.log_level = "ERROR"
    return cfg


def train(entry, folder: Path, **changes) -> tuple:
    cfg = config_of(entry)
    cfg.merge_from_dict({"work_dir": str(folder), **changes})
    runner = RUNNERS.build(cfg)
    watch = Watch()
    runner.register_hook(watch)
    runner.train()
    return runner, watch


def saved(folder: Path) -> list[Path]:
    files = folder.glob("iter_*.pth")
    return sorted(files, key=lambda path: int(path.stem.partition("_")[2]))


def weights(path: Path) -> dict:
    return torch.load(path, weights_only=True)["state_dict"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """One whole run of a method, shared by the tests that only look at it."""
    done: dict[str, tuple] = {}

    def of(entry):
        if entry.stem not in done:
            done.clear()  # conftest.py sorts by method
            folder = tmp_path_factory.mktemp(entry.stem)
            done[entry.stem] = (*train(entry, folder), folder)
        return done[entry.stem]

    return of


def test_a_familys_top_level_lists_its_methods_and_nothing_else():
    families = {entry.family for entry in ALL}
    for family in families:
        files = {path.stem for path in (ROOT / "pld_mmdet" / family).glob("*.py")}
        methods = {entry.stem for entry in ALL if entry.family == family}
        baseline = {"mean_teacher"} if family == "detection" else set()
        assert files - {"__init__"} == methods | baseline, family


def test_the_catalogue_is_whole():
    assert len({entry.stem for entry in ALL}) == len(ALL) > 0
    assert {entry.family for entry in ALL} == {
        path.parent.name
        for path in (ROOT / "pld_mmdet").glob("*/__init__.py")
        if path.parent.name not in ROOMS
    }


@pytest.mark.parametrize("entry", BEGUN, ids=lambda entry: entry.stem)
def test_a_method_has_all_its_files(entry):
    if entry.state == "in work":  # said in methods.csv, and shown by list_methods
        assert entry.missing() != [], "complete: take the mark out of methods.csv"
    else:
        assert entry.missing() == []


@pytest.mark.parametrize("entry", BEGUN, ids=lambda entry: entry.stem)
def test_a_family_names_what_its_methods_register(entry):
    """A class that its family's package does not import is found by no config."""
    tree = ast.parse((ROOT / entry.files["method"]).read_text(encoding="utf-8"))
    registered = {
        node.name
        for node in tree.body
        if isinstance(node, ast.ClassDef)
        and any("register_module" in ast.unparse(one) for one in node.decorator_list)
    }
    assert registered
    assert registered <= set(import_module(f"pld_mmdet.{entry.family}").__all__)


@pytest.mark.parametrize(
    "entry", [e for e in BEGUN if e.state != "in work"], ids=lambda entry: entry.stem
)
def test_the_published_config_has_the_authors_numbers(entry):
    check_pins(entry.files["paper config"])


@by_stem
def test_takes_two_steps_with_finite_losses(entry, run):
    runner, watch, _ = run(entry)
    assert len(watch.losses) >= 2
    for step in watch.losses:
        assert step, "no loss was reported"
        for name, value in step.items():
            assert torch.isfinite(value).all(), name
    gradients = [p.grad for p in runner.model.parameters() if p.grad is not None]
    assert all(torch.isfinite(gradient).all() for gradient in gradients)


@by_stem
def test_leaves_frozen_teachers_untouched(entry, run):
    runner, watch, _ = run(entry)
    for teacher, before in zip(teachers(runner.model), watch.before, strict=True):
        assert not teacher.training
        assert all(p.grad is None for p in teacher.parameters())
        after = teacher.state_dict()
        assert all(torch.equal(after[name], before[name]) for name in before)


@by_stem
def test_what_a_stage_prepares_needs_no_graph(entry, run):
    """Whole data sets go through a network there: their graphs would fill memory."""
    _, watch, _ = run(entry)
    assert watch.graphs == set()


@by_stem
def test_saves_and_loads_strictly(entry, run):
    runner, _, folder = run(entry)
    state = weights(saved(folder)[-1])
    fresh = MODELS.build(config_of(entry).model)
    fresh.load_state_dict(state, strict=True)
    for name, value in runner.model.state_dict().items():
        assert torch.equal(value.cpu(), state[name]), name


@by_stem
def test_resumes_after_its_first_step(entry, run, tmp_path):
    _, _, folder = run(entry)
    first, last = saved(folder)[0], saved(folder)[-1]
    assert first != last
    again = tmp_path / "again"
    shutil.copytree(folder, again)
    for path in saved(again)[1:]:
        path.unlink()
    train(entry, again, load_from=str(again / first.name), resume=True)
    ours, theirs = weights(again / last.name), weights(last)
    assert ours.keys() == theirs.keys()
    different = [name for name in ours if not torch.equal(ours[name], theirs[name])]
    assert different == []


@by_stem
def test_runs_under_bfloat16_autocast(entry, tmp_path):
    with torch.autocast("cpu", dtype=torch.bfloat16):
        _, watch = train(entry, tmp_path)
    for step in watch.losses:
        for name, value in step.items():
            assert torch.isfinite(value).all(), name


@pytest.mark.parametrize(
    "entry",
    [entry for entry in WALKED if entry.stem not in ONE_PROCESS],
    ids=lambda entry: entry.stem,
)
def test_runs_on_two_processes(entry, tmp_path):
    """Both end with the same weights, which a single process can load."""
    cfg = config_of(entry)
    cfg.custom_hooks = [
        *cfg.get("custom_hooks", []),
        dict(type="pld_mmdet.WeightsHashHook"),
    ]
    cfg.custom_imports = dict(imports=["tests.rank_hash"])
    port = free_port()
    path = tmp_path / "config.py"
    cfg.dump(path)
    ranks = [
        Tool(
            "train",
            path,
            "--work-dir",
            tmp_path / "run",
            "--launcher",
            "pytorch",
            log=tmp_path / f"log{rank}",
            RANK=rank,
            LOCAL_RANK=rank,
            WORLD_SIZE=2,
            MASTER_ADDR="127.0.0.1",
            MASTER_PORT=port,
        )
        for rank in (0, 1)
    ]
    for rank in ranks:
        rank.finish()
    one, two = (
        (tmp_path / f"run/weights{rank}.txt").read_text().splitlines()
        for rank in (0, 1)
    )
    assert [a for a, b in zip(one, two, strict=True) if a != b] == []
    fresh = MODELS.build(cfg.model)
    fresh.load_state_dict(weights(saved(tmp_path / "run")[-1]), strict=True)
