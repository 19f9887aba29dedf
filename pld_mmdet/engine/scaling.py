"""One rule for another batch size: learning rate, EMA, warm-up and length together.

With k times the images in a step, one step stands for k of the old ones. So the
learning rate grows k-fold, the run and its warm-up get k times fewer steps, and the
teacher does k updates in one: ``m' = 1 - (1 - m)^k`` for the student's share m, which
is ``keep' = keep^k``. All other changes of a run are left to its config.
"""

import math
import os
from dataclasses import dataclass, replace

from pld_mmdet.errors import UserError

LR_RULES = {"linear": lambda k: k, "sqrt": math.sqrt}


@dataclass(frozen=True)
class Schedule:
    """What depends on the batch size.

    Attributes:
        batch: Images in one step over all processes, accumulation included.
        lr: Learning rate.
        iterations: Length in steps; 0 where epochs are counted.
        keep: Teacher's share that stays at an update; None without a teacher, or
            where the teacher moves once an epoch.
        warm_up: Length of the warm-up in steps.
    """

    batch: int
    lr: float
    iterations: int = 0
    keep: float | None = None
    warm_up: int = 0


def rescale(old: Schedule, batch: int, lr_rule: str = "linear") -> Schedule:
    """The same training with ``batch`` images in a step.

    Args:
        old: Written for ``old.batch`` images.
        batch: Images in one step from now on.
        lr_rule: ``'linear'`` (Goyal et al. 2017; SGD) or ``'sqrt'`` (Malladi et al.
            2022; Adam and its relatives).

    Raises:
        UserError: The rule is not known, or a batch is smaller than one image.

    Example:
        >>> rescale(Schedule(2, 0.0025, 4000, 0.999, 400), 8)
        Schedule(batch=8, lr=0.01, iterations=1000, keep=0.996005996001, warm_up=100)
    """
    if lr_rule not in LR_RULES:
        raise UserError(
            f"The learning rate rule {lr_rule!r} is not known.",
            f"Choose one of {', '.join(map(repr, LR_RULES))}.",
        )
    if old.batch < 1 or batch < 1:
        raise UserError(
            f"A step of {min(old.batch, batch)} images cannot be scaled to.",
            "Set train_dataloader.batch_size and auto_scale_lr.base_batch_size to at "
            "least 1.",
        )
    k = batch / old.batch
    return replace(
        old,
        batch=batch,
        lr=old.lr * LR_RULES[lr_rule](k),
        iterations=_steps(old.iterations, k),
        keep=None if old.keep is None else old.keep**k,
        warm_up=_steps(old.warm_up, k),
    )


def _steps(count: int, k: float) -> int:
    """``count`` steps in steps of k times the size; never 0 unless it was."""
    return max(1, round(count / k)) if count else 0


def describe(old: Schedule, new: Schedule) -> str:
    """``batch 8 -> 2: lr 0.01 -> 0.0025, ...`` in one line."""
    parts = [f"batch {old.batch} -> {new.batch}: lr {old.lr:g} -> {new.lr:g}"]
    if old.keep is not None:
        parts.append(f"EMA keep {old.keep:g} -> {new.keep:g} an iteration")
    if old.iterations:
        parts.append(f"{old.iterations} -> {new.iterations} iterations")
    if old.warm_up:
        parts.append(f"warm-up {old.warm_up} -> {new.warm_up}")
    return ", ".join(parts)


def scale_config(cfg, processes: int) -> str | None:
    """Rescale a config in place when its ``auto_scale_lr`` says so.

    ``auto_scale_lr = dict(enable=True, base_batch_size=8)`` then means all of the rule
    and not mmengine's learning rate alone; ``lr_rule`` in it chooses the rule. The
    switch is off afterwards, so that nothing is scaled twice. A run that is resumed
    has to keep its number of images in a step, because its iterations are counted.

    Args:
        cfg: A config; changed.
        processes: Number of training processes.

    Returns:
        The line to print, or None when nothing had to change.
    """
    auto = cfg.get("auto_scale_lr") or {}
    if not auto.get("enable") or "base_batch_size" not in auto:
        return None
    wrapper = cfg.optim_wrapper
    batch = cfg.train_dataloader.batch_size * processes
    batch *= wrapper.get("accumulative_counts", 1)
    auto.enable = False
    if batch == auto.base_batch_size:
        return None
    by_iter = "max_iters" in cfg.train_cfg
    emas = [h for h in cfg.get("custom_hooks", []) if _is_iteration_ema(h)]
    ramps = [s for s in _schedulers(cfg) if _counts_iterations(s)]
    warm_up = max(
        (s.get("end", 0) for s in ramps if s.type.startswith(("Linear", "Constant"))),
        default=0,
    )
    old = Schedule(
        batch=auto.base_batch_size,
        lr=wrapper.optimizer.lr,
        iterations=cfg.train_cfg.max_iters if by_iter else 0,
        keep=emas[0].keep if emas else None,
        warm_up=warm_up,
    )
    new = rescale(old, batch, auto.get("lr_rule", "linear"))
    k = batch / old.batch
    wrapper.optimizer.lr = new.lr
    for hook in emas:
        hook.keep = hook.keep**k
        if hook.get("warm_up"):
            hook.warm_up = _steps(hook.warm_up, k)
    for ramp in ramps:
        for key in ("begin", "end", "T_max"):
            if isinstance(ramp.get(key), int):
                ramp[key] = _steps(ramp[key], k)
        if "milestones" in ramp:
            ramp.milestones = [_steps(m, k) for m in ramp.milestones]
    if by_iter:
        for key in ("max_iters", "val_interval", "val_begin"):
            if key in cfg.train_cfg:
                cfg.train_cfg[key] = _steps(cfg.train_cfg[key], k)
        checkpoint = (cfg.get("default_hooks") or {}).get("checkpoint") or {}
        if not checkpoint.get("by_epoch", True) and "interval" in checkpoint:
            checkpoint.interval = _steps(checkpoint.interval, k)
        for hook in cfg.get("custom_hooks", []):
            if _name(hook) == "CollapseGuardHook":
                for key in ("interval", "silent_for"):
                    if hook.get(key):
                        hook[key] = _steps(hook[key], k)
    return describe(old, new)


def world_size(launcher: str) -> int:
    """Number of processes that the launcher says it started (1 without launcher)."""
    names = {
        "pytorch": "WORLD_SIZE",
        "slurm": "SLURM_NTASKS",
        "mpi": "OMPI_COMM_WORLD_SIZE",
    }
    return int(os.environ.get(names.get(launcher, ""), 1))


def _name(node: dict) -> str:
    return str(node.get("type", "")).rpartition(".")[2]


def _is_iteration_ema(hook: dict) -> bool:
    if _name(hook) == "TeacherEMAHook":
        return hook.get("unit", "iter") == "iter" and "keep" in hook
    return _name(hook) == "RampedEMAHook" and "keep" in hook


def _schedulers(cfg) -> list:
    found = cfg.get("param_scheduler") or []
    return [found] if isinstance(found, dict) else list(found)


def _counts_iterations(scheduler: dict) -> bool:
    return not scheduler.get("by_epoch", True)
