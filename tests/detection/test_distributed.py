"""However a batch is laid out over processes and accumulation, a step is the same step.

`tests/detection/layouts.py` says what had to be switched off for equality; what differs
otherwise is tested here too, so that docs/cluster.md can say it.
"""

import shutil
from functools import partial
from pathlib import Path

import pytest
import torch

from pld_mmdet.cli import build_runner
from tests.detection import layouts
from tests.detection.layouts import METHODS, STEPS
from tests.engine.processes import Tool, free_port

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    """Initial weights of a method, made once."""
    folder, done = tmp_path_factory.mktemp("start"), {}

    def of(method: str, norm: str = "frozen") -> Path:
        if (method, norm) not in done:
            path = folder / f"{method}_{norm}.pth"
            done[method, norm] = layouts.write_start(path, method, norm)
        return done[method, norm]

    return of


@pytest.fixture(scope="module")
def whole(start, tmp_path_factory):
    """The run of a method in one process with whole batches, made once."""
    done = {}

    def of(method: str) -> Path:
        if method not in done:
            done[method] = tmp_path_factory.mktemp(method)
            train(done[method], layouts.config(method), start(method))
        return done[method]

    return of


def prepared(folder: Path, cfg, checkpoint: Path | None, **changes):
    cfg.merge_from_dict(changes)
    cfg.work_dir, cfg.experiment_name = str(folder), folder.name
    cfg.load_from = None if checkpoint is None else str(checkpoint)
    return cfg


def train(folder: Path, cfg, checkpoint: Path | None, **changes):
    cfg = prepared(folder, cfg, checkpoint, launcher="none", **changes)
    runner = build_runner(cfg)
    runner.train()
    return runner


def train_on_two(folder: Path, cfg, checkpoint: Path | None, *arguments, code: int = 0):
    """Two gloo processes of tools/train.py with a config; their outputs."""
    folder.mkdir(exist_ok=True)
    path = folder / "layout.py"
    prepared(folder, cfg, checkpoint).dump(path)
    return two_processes(folder, path, *arguments, code=code)


def two_processes(folder: Path, config: Path, *arguments, code: int = 0) -> list[str]:
    """The same with a config file."""
    port = free_port()
    ranks = [
        Tool(
            "train",
            config,
            "--work-dir",
            folder,
            "--launcher",
            "pytorch",
            *arguments,
            log=folder / f"log{rank}",
            RANK=rank,
            LOCAL_RANK=rank,
            WORLD_SIZE=2,
            MASTER_ADDR="127.0.0.1",
            MASTER_PORT=port,
        )
        for rank in (0, 1)
    ]
    return [rank.finish(code) for rank in ranks]


def state(folder: Path, name: str) -> dict:
    return torch.load(folder / name, weights_only=True)


def largest(one: dict, two: dict) -> float:
    assert one.keys() == two.keys()
    return max((one[k].double() - two[k].double()).abs().max().item() for k in one)


def assert_same_training(folder: Path, name: str, reference: Path, initial: Path):
    """Weights, teachers included, agree to rounding, seen from how far they moved."""
    ours = state(folder, name)
    theirs = state(reference, f"iter_{STEPS}.pth")
    first = torch.load(initial, weights_only=True)["state_dict"]
    counted = {"steps"}  # MarvelOVD's, of batches
    weights = [
        {k: v for k, v in c.items() if k not in counted}
        for c in (ours["state_dict"], theirs["state_dict"], first)
    ]
    moved = largest(weights[1], weights[2])
    assert moved > 1e-3
    assert largest(weights[0], weights[1]) < 1e-4 * moved
    assert ours.get("pld_teacher_ema") == theirs.get("pld_teacher_ema")


def begin_with(checkpoint: Path, folder: Path) -> None:
    """Make a folder look like that of a run that was stopped after a checkpoint."""
    folder.mkdir(exist_ok=True)
    copy = Path(shutil.copy(checkpoint, folder))
    (folder / "last_checkpoint").write_text(str(copy))


def assert_ranks_agree(folder: Path) -> None:
    first, second = ((folder / f"rank{r}.txt").read_text() for r in (0, 1))
    assert first == second


@pytest.mark.parametrize("method", METHODS)
def test_two_accumulated_halves_are_the_whole_batch(method, start, whole, tmp_path):
    train(tmp_path, layouts.config(method, batch=2, accumulate=2), start(method))
    name = f"iter_{2 * STEPS}.pth"
    assert_same_training(tmp_path, name, whole(method), start(method))


@pytest.mark.parametrize("method", METHODS)
def test_two_processes_are_one(method, start, whole, tmp_path):
    train_on_two(tmp_path, layouts.config(method, batch=2), start(method))
    name = f"iter_{STEPS}.pth"
    assert_same_training(tmp_path, name, whole(method), start(method))
    assert_ranks_agree(tmp_path)


def test_two_processes_that_accumulate(start, whole, tmp_path):
    cfg = layouts.config("mean_teacher", batch=1, accumulate=2)
    train_on_two(tmp_path, cfg, start("mean_teacher"))
    reference = whole("mean_teacher")
    name = f"iter_{2 * STEPS}.pth"
    assert_same_training(tmp_path, name, reference, start("mean_teacher"))


def test_a_run_of_one_process_goes_on_with_two(start, whole, tmp_path):
    """Momentum, schedule, teachers and the place in the data come along."""
    method = "dual_polish"
    begin_with(whole(method) / "iter_1.pth", tmp_path)
    train_on_two(tmp_path, layouts.config(method, batch=2), start(method), "--resume")
    assert_same_training(tmp_path, f"iter_{STEPS}.pth", whole(method), start(method))
    assert_ranks_agree(tmp_path)


def test_a_run_of_two_processes_goes_on_with_one(start, whole, tmp_path):
    """The first two steps on two processes, the last one accumulated on one."""
    method = "mean_teacher"
    cfg, two = layouts.config(method, batch=2), tmp_path / "two"
    only = "train_cfg.max_iters=2"
    train_on_two(two, cfg, start(method), "--cfg-options", only)
    cfg = layouts.config(method, batch=2, accumulate=2)
    train(tmp_path / "one", cfg, two / "iter_2.pth", resume=True)
    name = f"iter_{2 * STEPS}.pth"
    assert_same_training(tmp_path / "one", name, whole(method), start(method))


def test_ps_ttl_learns_on_one_process_only(tmp_path):
    cfg = layouts.config("mean_teacher", batch=1)
    cfg.model.type = "pld_mmdet.PSTTL"
    cfg.model.pop("hpl_threshold")
    cfg.train_cfg = dict(type="pld_mmdet.OnlineLoop")
    cfg.custom_hooks = []
    for output in train_on_two(tmp_path, cfg, None, code=2):
        assert "has no meaning on 2 processes" in output
        assert "tools/train.py on one device" in output
        assert "Traceback" not in output


@pytest.mark.parametrize("unit", ["epoch", "iter"])
def test_the_teacher_is_one_on_all_ranks_also_with_live_batch_norm(
    unit, start, tmp_path
):
    """The last update comes after the last forward pass, where DDP shares buffers."""
    cfg = layouts.config("mean_teacher", batch=2, norm="BN")
    cfg.train_dataloader.dataset.dataset.length = 6  # 2 iterations an epoch
    cfg.custom_hooks[1] = dict(type="pld_mmdet.TeacherEMAHook", keep=0.75, unit=unit)
    iterations = 4 if unit == "epoch" else STEPS
    cfg.train_cfg.max_iters = iterations
    train_on_two(tmp_path, cfg, start("mean_teacher", "BN"))
    assert_ranks_agree(tmp_path)
    saved = state(tmp_path, f"iter_{iterations}.pth")
    updates = 2 if unit == "epoch" else STEPS
    assert saved["pld_teacher_ema"] == dict(updates=updates)


def unequal(start, tmp_path, method: str, **model) -> float:
    """How far two halves end from the whole batch, as a share of what was moved."""
    ends = []
    for accumulate in (1, 2):
        cfg = layouts.config(method, 4 // accumulate, accumulate)
        cfg.model.update(model)
        cfg.train_cfg.max_iters = accumulate  # one step
        runner = train(tmp_path / str(accumulate), cfg, start(method))
        ends.append(runner.model.state_dict())
    first = torch.load(start(method), weights_only=True)["state_dict"]
    return largest(*ends) / largest(ends[0], first)


def test_means_over_what_the_teacher_found_are_not_equal(start, tmp_path):
    """LPLD's mean over mined boxes: halves with 5 and 15 of them count equally."""
    share = partial(unequal, start, tmp_path, "lpld", lpl_loss_weight=10.0)
    assert share() < 1e-4  # every proposal is mined
    assert share(lpl_min_certainty=0.9) > 1e-3


def test_soft_teachers_reliability_weights_are_not_equal(start, tmp_path):
    share = partial(unequal, start, tmp_path, "soft_teacher")
    assert share(weigh_background=True) > 1e-3


def test_the_recipe_of_foggy_streets_on_two_processes(streets, tmp_path):
    """LPLD as shipped: no hang, one teacher that moved."""
    options = [
        "load_from=None",
        "train_cfg.max_iters=2",
        "train_cfg.val_interval=10",
        "train_dataloader.batch_size=2",
        "train_dataloader.num_workers=0",
        "train_dataloader.persistent_workers=False",
        f"train_dataloader.dataset.dataset.data_root={streets}",
        f"val_dataloader.dataset.data_root={streets}",
        f"val_evaluator.ann_file={streets}/annotations/val_foggy_beta_0.02.json",
        "model.hpl_threshold=0.05",
        "model.lpl_min_certainty=0.1",
        "model.mine_without_high=True",
        "custom_hooks.3.num_images=4",
    ]
    config = ROOT / "configs/lpld/foggy_streets.py"
    two_processes(tmp_path, config, "--cfg-options", *options)
    checkpoint = state(tmp_path, "iter_2.pth")
    assert checkpoint["pld_teacher_ema"] == dict(updates=2)
    weights = checkpoint["state_dict"]
    for name, value in weights.items():
        assert torch.isfinite(value.float()).all(), name
    assert any(
        not torch.equal(weights[n], weights[n.replace("student.", "teacher.", 1)])
        for n in weights
        if n.startswith("student.")
    )
