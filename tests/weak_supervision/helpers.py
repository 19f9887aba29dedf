"""What the tests of this family share: a step, and a run that is interrupted."""

from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.optim import build_optim_wrapper
from mmengine.registry import HOOKS
from torch import nn

from pld_mmdet.engine.run.runner import SafeRunner


@HOOKS.register_module(force=True)
class StopAt(Hook):
    """Ends a run by an error before iteration ``at``, when a checkpoint is there."""

    def __init__(self, at: int) -> None:
        self.at = at

    def before_train_iter(self, runner, batch_idx, data_batch=None) -> None:
        if runner.iter == self.at:
            raise InterruptedError


def weights(module: nn.Module) -> dict[str, torch.Tensor]:
    """A copy of the parameters."""
    return {n: p.detach().clone() for n, p in module.named_parameters()}


def step(model, data: dict, type="SGD", **optimizer) -> dict:
    """One training step as a loop does it."""
    return model.train().train_step(data, _wrapper(model, type, optimizer))


def learn(model, data: dict, type="SGD", **optimizer) -> tuple[dict, list[dict]]:
    """One step as ``OnlineLoop`` does it: values for the log, predictions."""
    return model.train().learn(data, _wrapper(model, type, optimizer))


def _wrapper(model, type: str, optimizer: dict):
    optimizer = dict(type=type, **optimizer)
    return build_optim_wrapper(model, dict(type="OptimWrapper", optimizer=optimizer))


def runner(config: str, folder: Path, changes: dict, hooks=()) -> SafeRunner:
    """Build a config's runner, quietly, with a checkpoint each iteration."""
    cfg = Config.fromfile(config)
    cfg.merge_from_dict(
        {
            "work_dir": str(folder),
            "log_level": "WARNING",
            "default_hooks.checkpoint.interval": 1,
            **changes,
        }
    )
    cfg.custom_hooks = [*cfg.custom_hooks[:-1], *hooks]  # without RunRecordHook
    with pytest.MonkeyPatch.context() as patch:
        # Formatting a config and asking compilers for versions takes most of a run.
        patch.setattr(SafeRunner, "_log_env", lambda self, env_cfg: None)
        patch.setattr(Config, "pretty_text", property(lambda self: ""))
        return SafeRunner.from_cfg(cfg)


def small_run(
    config: str, folder: Path, changes: dict, last: str, stop: int
) -> tuple[dict, SafeRunner]:
    """Train a small version of a config twice: at once, and stopped and resumed.

    Asserts that both end with the same bits, and that the checkpoint fits strictly.

    Returns:
        The checkpoint and the runner of the whole run.
    """
    whole = runner(config, folder / "whole", changes)
    whole.train()
    parts = folder / "parts"
    broken = runner(config, parts, changes, [dict(type="StopAt", at=stop)])
    with pytest.raises(InterruptedError):
        broken.train()
    assert not (parts / last).exists()
    resumed = {**changes, "load_from": None, "resume": True}
    runner(config, parts, resumed).train()
    ours, theirs = (
        torch.load(folder / name / last, weights_only=True)
        for name in ("whole", "parts")
    )
    assert ours["state_dict"].keys() == theirs["state_dict"].keys()
    for name, value in ours["state_dict"].items():
        assert torch.equal(value, theirs["state_dict"][name]), name
        assert not value.is_floating_point() or torch.isfinite(value).all(), name
    whole.model.load_state_dict(ours["state_dict"], strict=True)
    return ours, whole
