"""One rule for another batch size: learning rate, EMA, warm-up and length together.

With k times the images in a step, one step stands for k of the old ones. So the
learning rate grows k-fold, the run and its warm-up get k times fewer steps, and the
teacher does k updates in one: ``m' = 1 - (1 - m)^k`` for the student's share m, which
is ``keep' = keep^k``. Where a step is accumulated from a batches, all that counts
iterations grows a-fold again (see :mod:`pld_mmdet.engine.run.steps`). All other changes
of a run are left to its config.
"""

import math
import os
from dataclasses import dataclass, replace

from pld_mmdet.errors import UserError, one_of

_REACH_THEIR_END = ("Linear", "Constant", "Poly")
LR_RULES = {"linear": lambda k: k, "sqrt": math.sqrt}


@dataclass(frozen=True)
class Schedule:
    """What depends on the batch size.

    Attributes:
        batch: Images in one step over all processes, accumulation included.
        lr: Learning rate.
        iterations: Length; 0 where epochs are counted.
        keep: Teacher's share that stays at an update; None without a teacher, or
            where the teacher moves once an epoch.
        warm_up: Length of the warm-up in iterations.
        accumulate: Iterations that make a step.
    """

    batch: int
    lr: float
    iterations: int = 0
    keep: float | None = None
    warm_up: int = 0
    accumulate: int = 1


def rescale(
    old: Schedule, batch: int, lr_rule: str = "linear", accumulate: int = 1
) -> Schedule:
    """The same training with ``batch`` images in a step.

    Args:
        old: Written for ``old.batch`` images.
        batch: Images in one step from now on.
        lr_rule: ``'linear'`` (Goyal et al. 2017; SGD) or ``'sqrt'`` (Malladi et al.
            2022; Adam and its relatives).
        accumulate: Iterations that make a step from now on.

    Raises:
        UserError: The rule is not known, or a batch is smaller than one image.

    Examples:
        >>> new = rescale(Schedule(2, 0.0025, 4000, 0.999, 400), 8)
        >>> new.lr, new.iterations, new.warm_up, round(new.keep, 6)
        (0.01, 1000, 100, 0.996006)
    """
    one_of("auto_scale_lr", lr_rule=(lr_rule, LR_RULES))
    if old.batch < 1 or batch < 1:
        raise UserError(
            f"A step of {min(old.batch, batch)} images cannot be scaled to.",
            "Set train_dataloader.batch_size and auto_scale_lr.base_batch_size to at "
            "least 1.",
        )
    k = batch / old.batch
    # images of an iteration, new to old
    k_iter = k * old.accumulate / accumulate
    return replace(
        old,
        batch=batch,
        lr=old.lr * LR_RULES[lr_rule](k),
        iterations=_count(old.iterations, k_iter, accumulate),
        keep=None if old.keep is None else old.keep**k,
        warm_up=_count(old.warm_up, k_iter, accumulate),
        accumulate=accumulate,
    )


def _count(count: int, k: float, whole: int = 1) -> int:
    """``count`` things in things of k times the size; never 0 unless it was.

    The result is a multiple of ``whole``.
    """
    return whole * max(1, round(count / (k * whole))) if count else 0


def describe(old: Schedule, new: Schedule) -> str:
    """``batch 8 -> 2: lr 0.01 -> 0.0025, ...`` in one line."""
    batch = f"batch {old.batch} -> {new.batch}"
    if new.accumulate > 1:
        batch += f" (accumulated from {new.accumulate} iterations)"
    parts = [f"{batch}: lr {old.lr:g} -> {new.lr:g}"]
    if old.keep is not None:
        parts.append(f"EMA keep {old.keep:g} -> {new.keep:g} a step")
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
        The line to print, or None when nothing had to change. Accumulated gradients
        without the switch change nothing, but there is a line that says what they do.

    Raises:
        UserError: A run of stages or with several optimizers: the rule knows neither.
    """
    auto = cfg.get("auto_scale_lr") or {}
    if not auto.get("enable") or "base_batch_size" not in auto:
        return _describe_accumulation(cfg, processes)
    wrapper = cfg.optim_wrapper
    if "stages" in cfg.train_cfg or "optimizer" not in wrapper:
        raise UserError(
            "The scaling rule is written for one optimizer and one stage; this config "
            "has several.",
            "Leave --auto-scale-lr out, and keep the batch the config was written for.",
        )
    accumulate = wrapper.get("accumulative_counts", 1)
    batch = cfg.train_dataloader.batch_size * processes * accumulate
    auto.enable = False
    if batch == auto.base_batch_size and accumulate == 1:
        return None
    by_iter = "max_iters" in cfg.train_cfg
    emas = [h for h in cfg.get("custom_hooks", []) if _is_iteration_ema(h)]
    ramps = [s for s in _schedulers(cfg) if _counts_iterations(s)]
    warm_up = max(
        (s.get("end", 0) for s in ramps if _name(s).startswith(("Linear", "Constant"))),
        default=0,
    )
    old = Schedule(
        batch=auto.base_batch_size,
        lr=wrapper.optimizer.lr,
        iterations=cfg.train_cfg.max_iters if by_iter else 0,
        keep=emas[0].keep if emas else None,
        warm_up=warm_up,
    )
    new = rescale(old, batch, auto.get("lr_rule", "linear"), accumulate)
    k = batch / old.batch
    wrapper.optimizer.lr = new.lr
    for hook in emas:
        hook.keep = hook.keep**k
        if hook.get("warm_up"):
            hook.warm_up = _count(hook.warm_up, k)

    def stretch(node: dict, *keys: str) -> None:
        """Entries that count iterations; whole steps, so that none is cut in two."""
        for key in keys:
            if isinstance(node.get(key), int):
                node[key] = _count(node[key], k / accumulate, accumulate)

    for ramp in ramps:
        stretch(ramp, "begin", "end", "T_max")
        if "end" in ramp and _name(ramp).startswith(_REACH_THEIR_END):
            # such a schedule arrives one iteration before its end, which has to be the
            # first iteration of a step, and of a later one than it begins with
            least = ramp.get("begin", 0) + 2 * accumulate
            ramp.end = max(ramp.end, least) - (accumulate - 1)
        if "milestones" in ramp:
            counts = [_count(m, k / accumulate, accumulate) for m in ramp.milestones]
            ramp.milestones = counts
    for hook in cfg.get("custom_hooks", []):
        if hook in emas:
            stretch(hook, "stop_after")
    model = cfg.get("model") or {}
    if isinstance(model.get("burn_in"), int):
        # MarvelOVD: the last iteration, counted from 0
        model.burn_in = _count(model.burn_in + 1, k / accumulate, accumulate) - 1
    if by_iter:
        stretch(cfg.train_cfg, "max_iters", "val_interval", "val_begin")
        checkpoint = (cfg.get("default_hooks") or {}).get("checkpoint") or {}
        if not checkpoint.get("by_epoch", True):
            stretch(checkpoint, "interval")
        for hook in cfg.get("custom_hooks", []):
            if _name(hook) == "CollapseGuardHook":
                stretch(hook, "interval", "silent_for")
    return describe(old, new)


def _describe_accumulation(cfg, processes: int) -> str | None:
    wrapper = cfg.get("optim_wrapper") or {}
    accumulate = wrapper.get("accumulative_counts", 1)
    if accumulate == 1:
        return None
    batch = cfg.train_dataloader.batch_size * processes * accumulate
    line = f"{accumulate} iterations make a step of {batch} images"
    if "max_iters" in cfg.train_cfg:
        steps = -(-cfg.train_cfg.max_iters // accumulate)
        line += f": {cfg.train_cfg.max_iters} iterations are {steps} steps"
    return line


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
    known = _name(hook) in ("TeacherEMAHook", "RampedEMAHook")
    return known and hook.get("unit", "iter") == "iter" and "keep" in hook


def _schedulers(cfg) -> list:
    found = cfg.get("param_scheduler") or []
    return [found] if isinstance(found, dict) else list(found)


def _counts_iterations(scheduler: dict) -> bool:
    return not scheduler.get("by_epoch", True)
