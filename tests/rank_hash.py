"""A hook that tells whether processes have ended with the same weights."""

import hashlib
from pathlib import Path

import torch
from mmengine.hooks import Hook

from pld_mmdet.engine.run.models import unwrapped
from pld_mmdet.registry import HOOKS


@HOOKS.register_module(force=True)
class WeightsHashHook(Hook):
    """Leaves the hash of each process's parameters, by name, in the work dir."""

    def after_train(self, runner) -> None:
        """Write it."""
        lines = []
        for name, value in unwrapped(runner.model).named_parameters():
            content = value.detach().to(torch.float64).numpy().tobytes()
            lines.append(f"{name} {hashlib.sha256(content).hexdigest()[:12]}")
        Path(runner.work_dir, f"weights{runner.rank}.txt").write_text("\n".join(lines))
