"""A recipe of stages: each with its own data, length, optimizer and offline work."""

import copy
import gc
from bisect import bisect_right
from itertools import accumulate
from pathlib import Path

from mmengine.dist import barrier
from mmengine.hooks import Hook
from torch import nn
from torch.nn.parallel import DistributedDataParallel as DDP

from pld_mmdet.engine.loops.counted import CountedLoop
from pld_mmdet.engine.run.models import unwrapped
from pld_mmdet.errors import UserError
from pld_mmdet.registry import LOOPS

_KEYS = {
    "name",
    "max_iters",
    "dataloader",
    "work_dataloader",
    "optim_wrapper",
    "param_scheduler",
}


@LOOPS.register_module()
class StagedLoop(CountedLoop):
    """Stages one after the other, each counted in iterations.

    A stage is a dict:

    - ``name``: told to the model, and part of the stage's folder.
    - ``max_iters``: its length; 0 for a stage that only does its offline work.
    - ``dataloader``: what it trains on [``train_dataloader``].
    - ``work_dataloader``: what its offline work reads, usually unshuffled [none].
    - ``optim_wrapper``, ``param_scheduler``: [those of the config]. Both start
      afresh in every stage; a schedule counts the stage's own iterations.

    The model may have two methods. ``enter_stage(name)`` is called whenever a stage is
    entered, also when a run is resumed, before weights are loaded: it says which part
    learns (a ``Method`` knows its stage from ``progress``, and hooks from
    ``before_stage(runner, name)``). ``start_stage(name, loader, folder)`` is called
    once, before the stage's first iteration: relabelling, clustering, offline work.
    ``loader`` is the built work loader or None, ``folder`` is
    ``work_dir/stages/<number>_<name>``, made beforehand. All processes call it. What it
    makes must live in buffers or in that folder; a data set that reads from there is
    built after it (the first stage's before it). ``{folder}`` in a stage's loaders
    stands for the folder.

    Where a run stands follows from its iteration, so nothing is stored for this loop.
    A run that is killed inside ``start_stage`` does it again.

    Args:
        runner: The runner.
        dataloader: The config's ``train_dataloader``.
        stages: The stages.
        val_interval: Evaluate after this many iterations of the whole run, and at the
            end [only at the end].

    Raises:
        UserError: A stage with unknown, missing or repeated entries.
    """

    evaluates_every_interval = True  # told to a resumed run

    def __init__(
        self, runner, dataloader, stages: list[dict], val_interval: int | None = None
    ) -> None:
        _check(stages)
        self.stages = [dict(stage) for stage in stages]
        self.ends = list(accumulate(stage["max_iters"] for stage in stages))
        self._default_loader = dataloader
        self._runner = runner
        model = self._model_of(runner)
        for stage in stages:
            if stage["max_iters"] and hasattr(model, "check_stage"):
                model.check_stage(stage["name"])
            if hasattr(model, "check_work"):
                model.check_work(stage["name"], stage.get("work_dataloader"))
        self._defaults = {
            key: copy.deepcopy(runner.cfg.get(key))
            for key in ("optim_wrapper", "param_scheduler")
        }
        # What the runner and its hooks look at before the first stage begins.
        super().__init__(runner, self._loader_of(0))
        self._built: int | None = 0
        self._entered: int | None = None
        self._reduced: set[int] | None = None  # parameters that a wrapper averages
        self._max_iters = self.ends[-1]
        self.val_interval = val_interval or self._max_iters
        runner.register_hook(_ResumeHook(self), priority="VERY_HIGH")

    def run(self) -> nn.Module:
        """Go through the stages from where the run stands."""
        runner = self.runner
        runner.call_hook("before_train")
        runner.call_hook("before_train_epoch")
        first = self._stage_at(self._iter)
        for number in range(first, len(self.stages)):
            self._run_stage(number)
            if self.stop_training:
                break
        self._epoch = 1
        runner.call_hook("after_train_epoch")
        runner.call_hook("after_train")
        return runner.model

    def span(self) -> tuple[int, int]:
        """First iteration of the stage that is entered, and the one after its last."""
        number = self._entered or 0
        return self.ends[number] - self.stages[number]["max_iters"], self.ends[number]

    def _stage_at(self, iteration: int) -> int:
        """The stage that an iteration belongs to; a finished run is past the last.

        At a boundary this is the earliest stage that begins there, so that offline
        work between two trainings is done (again) by a resumed run.
        """
        if iteration >= self.ends[-1] > 0:
            return len(self.stages)
        starts = [0, *self.ends[:-1]]
        if iteration in starts:
            return starts.index(iteration)
        return bisect_right(self.ends, iteration)

    def _run_stage(self, number: int) -> None:
        runner, stage = self.runner, self.stages[number]
        start = self.ends[number] - stage["max_iters"]
        self.enter(number)
        if self._iter == start:
            self._start(number)
        if not stage["max_iters"]:
            return
        if self._built != number:
            self.dataloader = self._build(self._loader_of(number))
            self._built = number
        loader = self.dataloader
        if self._iter > start:
            if not hasattr(loader.sampler, "skip"):
                raise UserError(
                    f"Stage {stage['name']} cannot be resumed in its middle: its "
                    f"sampler {type(loader.sampler).__name__} cannot skip.",
                    "Set sampler=dict(type='pld_mmdet.ResumableSampler').",
                )
            loader.sampler.skip((self._iter - start) * loader.batch_size)
        iterator = iter(loader)
        while self._iter < self.ends[number] and not self.stop_training:
            runner.model.train()
            batch = next(iterator, None)
            if batch is None:  # a finite sampler: the next pass
                iterator = iter(loader)
                batch = next(iterator)
            self._run_iter(batch)
            if runner.val_loop is not None and (
                self._iter % self.val_interval == 0 or self._iter == self.max_iters
            ):
                runner.val_loop.run()

    def _run_iter(self, batch: dict) -> None:
        runner = self.runner
        runner.call_hook("before_train_iter", batch_idx=self._iter, data_batch=batch)
        outputs = runner.model.train_step(batch, optim_wrapper=runner.optim_wrapper)
        runner.call_hook(
            "after_train_iter", batch_idx=self._iter, data_batch=batch, outputs=outputs
        )
        self._iter += 1

    def enter(self, number: int) -> None:
        """Switch model, optimizer and schedule to a stage, once."""
        if self._entered == number:
            return
        runner, stage = self.runner, self.stages[number]
        model = self._model
        runner.call_hook("before_stage", name=stage["name"])
        told = getattr(getattr(model, "progress", None), "stage", stage["name"])
        if told != stage["name"]:
            raise UserError(
                f"Nobody tells {type(model).__name__} of stage {stage['name']}.",
                "Train with runner_type='pld_mmdet.SafeRunner', or add "
                "dict(type='pld_mmdet.ProgressHook') to custom_hooks.",
            )
        if self._reduced is None:  # as it was when the model was wrapped
            self._reduced = _learning(model)
        if hasattr(model, "enter_stage"):
            model.enter_stage(stage["name"])
            self._reduce_what_learns()
        if stage["max_iters"]:
            wrapper = stage.get("optim_wrapper", self._defaults["optim_wrapper"])
            runner.optim_wrapper = runner.build_optim_wrapper(copy.deepcopy(wrapper))
            schedule = stage.get("param_scheduler", self._defaults["param_scheduler"])
            runner.param_schedulers = self._schedulers(schedule, stage["max_iters"])
            runner.optim_wrapper.initialize_count_status(
                runner.model, self._iter, self.max_iters
            )
        self._entered = number
        runner.logger.info(
            f"Stage {number + 1} of {len(self.stages)}: {stage['name']}, "
            f"{stage['max_iters']} iterations"
        )

    def _reduce_what_learns(self) -> None:
        """Wrap again for several processes where a stage trains what was frozen.

        DistributedDataParallel averages the gradients of what learned when it was
        made, and says nothing of the others: their processes would drift apart.
        """
        runner, model = self.runner, self._model
        if not any(isinstance(m, DDP) for m in runner.model.modules()):
            return
        learning = _learning(model)
        if learning <= self._reduced:
            return
        if not isinstance(runner.model, DDP):
            raise UserError(
                f"A stage of {type(model).__name__} trains what was frozen when "
                f"{type(runner.model).__name__} was made, so that processes would "
                "drift apart.",
                "Take model_wrapper_cfg=dict(type='MMDistributedDataParallel'), or "
                "train on one process.",
            )
        runner.model = None  # its hooks on the parameters go before the next ones come
        gc.collect()
        runner.model = runner.wrap_model(runner.cfg.get("model_wrapper_cfg"), model)
        self._reduced = learning

    def _schedulers(self, config, max_iters: int):
        if not config:
            return None
        config = copy.deepcopy(config)
        for one in config if isinstance(config, list) else [config]:
            if not one.get("by_epoch", True):
                one.setdefault("end", max_iters)
        return self.runner.build_param_scheduler(config)

    def _start(self, number: int) -> None:
        stage, model = self.stages[number], self._model
        if not hasattr(model, "start_stage"):
            return
        folder = self._folder(number)
        folder.mkdir(parents=True, exist_ok=True)
        work = _filled(stage.get("work_dataloader"), folder)
        loader = None if work is None else self._build(work)
        model.start_stage(stage["name"], loader, folder)
        barrier()  # every process reads what all of them wrote

    @property
    def _model(self) -> nn.Module:
        return self._model_of(self.runner)

    @staticmethod
    def _model_of(runner) -> nn.Module:
        return unwrapped(runner.model)

    def _folder(self, number: int) -> Path:
        name = f"{number:02d}_{self.stages[number]['name']}"
        return Path(self._runner.work_dir, "stages", name)

    def _loader_of(self, number: int):
        loader = self.stages[number].get("dataloader") or self._default_loader
        return _filled(loader, self._folder(number))

    def _build(self, loader):
        if not isinstance(loader, dict):
            return loader
        return self.runner.build_dataloader(
            copy.deepcopy(loader), seed=self.runner.seed, diff_rank_seed=False
        )


def _filled(config, folder: Path):
    """A config with ``{folder}`` replaced in all of its texts."""
    if isinstance(config, str):
        return config.replace("{folder}", str(folder))
    if isinstance(config, dict):
        return type(config)({k: _filled(v, folder) for k, v in config.items()})
    if isinstance(config, list | tuple):
        return type(config)(_filled(value, folder) for value in config)
    return config


class _ResumeHook(Hook):
    """Enters the right stage before a checkpoint's optimizer state is loaded."""

    def __init__(self, loop: StagedLoop) -> None:
        self.loop = loop

    def after_load_checkpoint(self, runner, checkpoint: dict) -> None:
        """Enter the stage of a run that is resumed (not when weights are loaded)."""
        if not runner._resume or "iter" not in checkpoint.get("meta", {}):
            return
        loop = self.loop
        number = bisect_right(loop.ends, int(checkpoint["meta"]["iter"]) - 1)
        loop.enter(min(number, len(loop.stages) - 1))


def _check(stages: list[dict]) -> None:
    names = [stage.get("name") for stage in stages]
    wrong = sorted({key for stage in stages for key in set(stage) - _KEYS})
    fix = f"The entries of a stage are: {', '.join(sorted(_KEYS))}."
    if wrong:
        raise UserError(f"train_cfg.stages has unknown entries: {wrong}.", fix)
    if not stages or None in names or len(set(names)) < len(names):
        raise UserError("Stages need names, each another one.", fix)
    for stage in stages:
        length = stage.get("max_iters")
        if not isinstance(length, int) or length < 0:
            raise UserError(
                f"Stage {stage['name']} has max_iters={length!r}.",
                "Give a number of iterations, 0 for offline work only.",
            )
    if not any(stage["max_iters"] for stage in stages):
        raise UserError("No stage has an iteration.", fix)


def _learning(model: nn.Module) -> set[int]:
    """Which parameters get gradients now."""
    return {id(p) for p in model.parameters() if p.requires_grad}
