"""Train a toy config in this process; compare a resumed run with an unbroken one."""

import uuid
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.registry import RUNNERS

from pld_mmdet.engine.state.checkpoint import load_checkpoint_file
from pld_mmdet.experiments.options import parse_options

ROOT = Path(__file__).resolve().parents[1]


def toy_config(path: str, folder: Path, *options: str, walk: bool = True) -> Config:
    """A config with its own `walk` options (tiny data, two iterations) and more."""
    cfg = Config.fromfile(ROOT / path)
    cfg.merge_from_dict(parse_options([*(cfg.get("walk", []) if walk else ())]))
    cfg.merge_from_dict(parse_options(options))
    cfg.work_dir = str(folder)
    cfg.experiment_name = uuid.uuid4().hex
    return cfg


def train(cfg: Config):
    """Build the runner of a config, train, and return the runner."""
    runner = RUNNERS.build(cfg)
    runner.train()
    return runner


def assert_resume_is_exact(path: str, folder: Path, at: int, *options: str):
    """Train with a checkpoint every iteration, train again from number `at`.

    Returns:
        The unbroken run's runner and its last checkpoint.
    """
    keep = (
        "default_hooks.checkpoint.interval=1",
        "default_hooks.checkpoint.max_keep_ckpts=-1",
    )
    whole = train(toy_config(path, folder / "whole", *keep, *options))
    cfg = toy_config(path, folder / "resumed", *keep, *options)
    cfg.load_from, cfg.resume = str(folder / f"whole/iter_{at}.pth"), True
    train(cfg)
    last = f"iter_{whole.max_iters}.pth"
    first, second = (
        load_checkpoint_file(folder / name / last) for name in ("whole", "resumed")
    )
    assert_same(first["state_dict"], second["state_dict"])
    assert_same(first["optimizer"], second["optimizer"])
    return whole, first


def assert_same(first, second) -> None:
    """Bit for bit, through dicts and lists; NaN equals NaN."""
    assert type(first) is type(second)
    if isinstance(first, dict):
        assert first.keys() == second.keys()
        for key in first:
            assert_same(first[key], second[key])
    elif isinstance(first, list | tuple):
        for a, b in zip(first, second, strict=True):
            assert_same(a, b)
    elif isinstance(first, torch.Tensor):
        assert torch.equal(first.nan_to_num(12345), second.nan_to_num(12345))
    else:
        assert first == second


def enter(model, stage: str) -> None:
    """Tell a model its stage, as ProgressHook and StagedLoop do."""
    model.progress.stage = stage
    if hasattr(model, "enter_stage"):
        model.enter_stage(stage)
