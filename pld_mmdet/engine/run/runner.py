"""mmengine's Runner with safe loading, whole files and comparable checkpoints."""

import os
import pickle
import re
import time
from contextlib import nullcontext, suppress
from functools import cached_property

import mmengine
import torch
from mmengine.dist import master_only
from mmengine.logging import MessageHub, MMLogger
from mmengine.model import is_model_wrapper
from mmengine.optim import OptimWrapper, OptimWrapperDict
from mmengine.runner import BaseLoop, EpochBasedTrainLoop, IterBasedTrainLoop, Runner
from mmengine.visualization import Visualizer
from torch import nn
from torch.utils.data import DataLoader

from pld_mmdet import interrupts
from pld_mmdet.engine.data.labels import require_boxes
from pld_mmdet.engine.hooks.missed_evaluation import MissedEvaluationHook
from pld_mmdet.engine.optim.groups import check_custom_keys
from pld_mmdet.engine.run.endings import endings_told, explained
from pld_mmdet.engine.run.models import unwrapped
from pld_mmdet.engine.run.processes import start_cpu_group
from pld_mmdet.engine.run.steps import accumulation
from pld_mmdet.engine.state.checkpoint import (
    load_checkpoint_file,
    refusal,
    refuse_unsafe_pickles,
    save_atomic,
    to_plain,
)
from pld_mmdet.engine.state.newest import find_latest, whole_or_before
from pld_mmdet.engine.state.outfolder import require_ours
from pld_mmdet.engine.state.provenance import data_sets
from pld_mmdet.engine.state.weights import (
    compare_classes,
    initial_weights,
    report_mismatch,
    require_finite,
)
from pld_mmdet.errors import UserError
from pld_mmdet.quiet import show_less
from pld_mmdet.registry import RUNNERS


@RUNNERS.register_module()
class SafeRunner(Runner):
    """Runs a config as ``mmengine.runner.Runner`` does, with these differences.

    - Checkpoints are read with ``weights_only=True`` and nothing else, also those that
      backbones name in ``init_cfg``.
    - ``num_workers=0`` may stand beside options of workers, which torch refuses.
    - A checkpoint of another architecture or of other class names stops the run; with
      ``fine_tune=True`` at the top of the config what fits is loaded and the rest is
      listed.
    - A checkpoint file is always whole, and plain ``torch.load(weights_only=True)``
      reads it everywhere.
    - Hooks with a method ``after_failure(runner, error)`` learn how training ended.
    - A resumed run first makes the evaluation that its checkpoint was written before.
    - Accumulated gradients are a larger batch for the schedules too, and a run goes on
      with another number of processes where it stopped in the data.
    """

    def __init__(self, *args, **kwargs) -> None:
        refuse_unsafe_pickles()
        self._resuming = False
        self._seen: dict | None = None  # how far the resumed run was in its data
        super().__init__(*args, **kwargs)

    def setup_env(self, env_cfg: dict) -> None:
        """Set up as mmengine does, and also start process groups without a GPU."""
        if self.distributed and not torch.cuda.is_available():
            start_cpu_group(self.launcher, env_cfg.get("dist_cfg", {}).get("timeout"))
        super().setup_env(env_cfg)

    @staticmethod
    def build_dataloader(dataloader, *args, **kwargs) -> DataLoader:
        """As mmengine's; without workers there is nothing to keep or to fetch ahead."""
        if isinstance(dataloader, dict) and dataloader.get("num_workers") == 0:
            ours = ("persistent_workers", "prefetch_factor")
            dataloader = {k: v for k, v in dataloader.items() if k not in ours}
        try:
            return Runner.build_dataloader(dataloader, *args, **kwargs)
        except ValueError as error:
            if "need at least one array" not in str(error):
                raise
            parts = data_sets(dataloader.get("dataset"))
            files = ", ".join(str(part.get("ann_file", "?")) for part in parts)
            raise UserError(
                f"A data set has no image left to load ({files}).",
                "Correct ann_file and metainfo.classes, or filter_cfg: it leaves out "
                "images without a box and small ones.",
            ) from error

    def build_train_loop(self, loop) -> BaseLoop:
        """As mmengine's; labels that a detector needs have to be there."""
        built = super().build_train_loop(loop)
        users = built, unwrapped(self.model)
        if all(getattr(user, "uses_labels", True) for user in users):
            require_boxes(getattr(getattr(built, "dataloader", None), "dataset", None))
        return built

    def build_logger(self, *args, **kwargs) -> MMLogger:
        """Start with a log, numbers and pictures of this run alone.

        mmengine keeps all three by name, and names tell seconds: the second run of a
        process within a second would go on with what the first one wrote.
        """
        shown = self.cfg.get("visualizer") or {}
        for kind in (MMLogger, MessageHub, Visualizer):
            for name in (self.experiment_name, shown.get("name")):
                kind._instance_dict.pop(name, None)
        logger = super().build_logger(*args, **kwargs)
        show_less(logger)
        return logger

    def register_default_hooks(self, hooks: dict | None = None) -> None:
        """Register mmengine's hooks, with schedules that follow optimizer steps.

        One more tells the model where the run stands (``ProgressHook``).
        """
        hooks = {"progress": dict(type="pld_mmdet.ProgressHook"), **(hooks or {})}
        name = "param_scheduler"
        schedule = hooks.setdefault(name, dict(type="ParamSchedulerHook"))
        if isinstance(schedule, dict) and schedule.get("type") == "ParamSchedulerHook":
            hooks[name] = {**schedule, "type": "pld_mmdet.StepScheduleHook"}
        super().register_default_hooks(hooks)

    def wrap_model(self, model_wrapper_cfg: dict | None, model: nn.Module) -> nn.Module:
        """Wrap for several processes, with batch-norm statistics of process 0.

        mmengine lets every process keep its own statistics; then teachers that are
        averaged from them drift apart, and only those of process 0 are saved.
        """
        if self.distributed and not is_model_wrapper(model):
            wrapper = dict(model_wrapper_cfg or {})
            wrapper.setdefault("type", "MMDistributedDataParallel")
            if wrapper["type"] == "MMDistributedDataParallel":
                wrapper.setdefault("broadcast_buffers", True)
                unused = self.cfg.get("find_unused_parameters", False)
                wrapper.setdefault("find_unused_parameters", unused)
                if not torch.cuda.is_available():
                    wrapper["device_ids"] = None
            model_wrapper_cfg = wrapper
        return super().wrap_model(model_wrapper_cfg, model)

    def call_hook(self, fn_name: str, **kwargs) -> None:
        """Call a point of all hooks; a step does not begin after a lost Ctrl-C."""
        if fn_name in ("before_train_iter", "before_val_iter", "before_test_iter"):
            interrupts.raise_lost()
        super().call_hook(fn_name, **kwargs)

    def train(self):
        """Train; hooks hear of every end, also of Ctrl-C."""
        self.register_hook(MissedEvaluationHook(), priority="LOWEST")
        try:
            return super().train()
        except BaseException as error:
            # libraries turn Ctrl-C into other errors
            told = explained(error, self.work_dir)
            ended = KeyboardInterrupt() if interrupts.received() else told or error
            for _ in range(2):  # torch tells of a dead worker wherever one is
                with suppress(RuntimeError, OSError):  # the first reason counts
                    self.call_hook("after_failure", error=ended)
                    break
            if told in (None, error) or interrupts.received():
                raise
            raise told from error

    def val(self):
        """Evaluate as mmengine does; its ends have sentences too."""
        with endings_told(self.work_dir):
            return super().val()

    def test(self):
        """Test as mmengine does; its ends have sentences too."""
        with endings_told(self.work_dir):
            return super().test()

    def _init_model_weights(self) -> None:
        # what is loaded afterwards in whole replaces it
        kept = self._load_from is None or self.cfg.get("fine_tune", False)
        watched = initial_weights(unwrapped(self.model)) if kept else nullcontext()
        try:
            with watched:
                super()._init_model_weights()
        except pickle.UnpicklingError as error:
            raise refusal("A checkpoint of init_cfg in the model", error) from error
        if self._load_from is None:  # else nothing of it may be left
            weights = dict(unwrapped(self.model).named_parameters())
            require_finite(weights, "The model's own beginning (init_cfg)")

    def build_optim_wrapper(self, optim_wrapper):
        """Build as mmengine does; keys that match no parameter are said or refused."""
        if isinstance(optim_wrapper, dict):
            check_custom_keys(unwrapped(self.model), optim_wrapper, self.logger)
        return super().build_optim_wrapper(optim_wrapper)

    def load_or_resume(self) -> None:
        """Load or resume as mmengine does; finds the newest whole checkpoint itself."""
        if self._resume and not self._has_loaded:
            latest = self._load_from or find_latest(self.work_dir)
            if latest is None:
                self.logger.info(
                    f"No checkpoint in {self.work_dir} yet: from the start"
                )
                return
            warn = self.logger.warning
            self._load_from = whole_or_before(latest, self.work_dir, warn)
        super().load_or_resume()

    def load_checkpoint(
        self,
        filename: str,
        map_location="cpu",
        strict: bool = False,
        revise_keys: list = [(r"^module\.", "")],  # noqa: B006 (mmengine's signature)
    ) -> dict:
        """Load weights; ``strict`` is True unless the config says ``fine_tune=True``.

        Args:
            filename: Local file or http(s) address.
            map_location: As in ``torch.load``.
            strict: Refuse a partial fit even when fine-tuning.
            revise_keys: (pattern, replacement) pairs for the names of the weights.

        Returns:
            The checkpoint.

        Raises:
            UserError: If the file is unsafe, unreadable, or of another architecture or
                other classes.
        """
        checkpoint = load_checkpoint_file(filename, map_location)
        # Runner.resume would run this text as Python code
        meta = checkpoint.get("meta") or {}
        meta.pop("config", None)
        if self._resuming:
            _check_training_state(checkpoint, str(filename))
            self._seen = meta.get("seen")
        fine_tune = bool(self.cfg.get("fine_tune", False)) and not strict
        if not fine_tune:
            info = meta.get("dataset_meta") or {}
            theirs = info.get("classes", info.get("CLASSES", meta.get("CLASSES")))
            compare_classes(self._dataset_classes(), theirs, str(filename))
        self.call_hook("after_load_checkpoint", checkpoint=checkpoint)
        state = checkpoint.get("state_dict", checkpoint)
        for pattern, replacement in revise_keys:
            renamed = {re.sub(pattern, replacement, k): v for k, v in state.items()}
            if list(renamed) != list(state):
                state = renamed
        model = unwrapped(self.model)
        difference = report_mismatch(model, state, str(filename), partial=fine_tune)
        if difference is not None:
            self.logger.warning(f"Loaded in part: {difference}")
        self._has_loaded = True
        self.logger.info(f"Loaded checkpoint {filename}")
        return checkpoint

    def _dataset_classes(self):
        """Class names of the first data set that is built, or None."""
        for name in ("_train_loop", "_val_loop", "_test_loop"):
            loader = getattr(getattr(self, name), "dataloader", None)
            meta = getattr(getattr(loader, "dataset", None), "metainfo", None) or {}
            if meta.get("classes"):
                return meta["classes"]
        return None

    def resume(
        self,
        filename: str,
        resume_optimizer: bool = True,
        resume_param_scheduler: bool = True,
        map_location="cpu",
    ) -> None:
        """Continue a run from its checkpoint, also on another number of processes.

        Args:
            filename: A checkpoint that this runner or mmengine's wrote while training.
            resume_optimizer: Restore the optimizer.
            resume_param_scheduler: Restore the schedules.
            map_location: Where tensors are read to. The default is CPU on every device:
                optimizers move their state to the parameters themselves.

        Raises:
            UserError: If the file holds weights only.
        """
        self._resuming = True
        try:
            super().resume(
                filename, resume_optimizer, resume_param_scheduler, map_location
            )
        finally:
            self._resuming = False
        # the sampler was built before the checkpoint told its seed
        sampler = getattr(self.train_dataloader, "sampler", None)
        if hasattr(sampler, "seed") and self.seed is not None:
            sampler.seed = self.seed
        if self._seen is not None:
            self._go_on_in_the_data(**self._seen)

    def _go_on_in_the_data(self, images: int, per_step: int) -> None:
        """Find the place in the data that a run of another layout had reached.

        Where a step has as many images as before, the iterations are counted anew (a
        step may be accumulated from another number of them). Otherwise their number
        stays, and the images go on where they were.

        Args:
            images: That all processes had taken.
            per_step: Of an optimizer step then.
        """
        loop, loader = self.train_loop, self.train_dataloader
        batch, now = _batch_size(loader), self._images_per_step()
        if now != per_step:
            self.logger.warning(
                f"This run had {per_step} images in a step and goes on with {now}. The "
                "order of the data goes on; learning rate, EMA and length are those of "
                "the config. To keep the run as it was, choose batch size and "
                "accumulative_counts so that their product with the processes is "
                f"{per_step}."
            )
        if isinstance(loop, EpochBasedTrainLoop):
            loop._iter = loop._epoch * len(loader)
            return
        if not isinstance(loop, IterBasedTrainLoop):
            return
        iteration = images // (batch * self.world_size)
        if now == per_step and iteration != loop._iter:
            loop._iter = iteration
            self._repeat_schedules(iteration)
        sampler = getattr(loader, "sampler", None)
        if hasattr(sampler, "go_on_at") and sampler.infinite:
            sampler.go_on_at(images, loop._iter * batch)

    def _repeat_schedules(self, iterations: int) -> None:
        """Bring the config's schedules to an iteration by going through all before."""
        if not isinstance(self.param_schedulers, list):
            return
        for group in self.optim_wrapper.param_groups:
            for key in [k for k in group if k.startswith("initial_")]:
                group[key.removeprefix("initial_")] = group[key]
        self.param_schedulers = self.build_param_scheduler(self.cfg.param_scheduler)
        for _ in range(iterations):
            for scheduler in self.param_schedulers:
                if not scheduler.by_epoch:
                    scheduler.step()

    def _images_per_step(self) -> int:
        batch = _batch_size(self.train_dataloader)
        return batch * self.world_size * accumulation(self)

    def _images_after(self, iterations: int) -> int:
        """Images that all processes have taken after so many iterations."""
        loader = self.train_dataloader
        own = iterations * _batch_size(loader)
        taken = getattr(getattr(loader, "sampler", None), "taken", None)
        return own * self.world_size if taken is None else taken(own)

    @cached_property
    def _config_text(self) -> str:
        """The resolved config; formatting it takes seconds, so it is done once."""
        return self.cfg.pretty_text

    @master_only
    def save_checkpoint(
        self,
        out_dir: str,
        filename: str,
        file_client_args: dict | None = None,
        save_optimizer: bool = True,
        save_param_scheduler: bool = True,
        meta: dict | None = None,
        by_epoch: bool = True,
        backend_args: dict | None = None,
    ) -> None:
        """Write a checkpoint in mmengine's layout, whole or not at all.

        Args:
            out_dir: A local folder.
            filename: Name in it.
            file_client_args: Not supported (local files only).
            save_optimizer: With the optimizer's state.
            save_param_scheduler: With the schedules' states.
            meta: More entries for ``meta``.
            by_epoch: Whether epochs are counted.
            backend_args: Not supported (local files only).

        Raises:
            UserError: If the file cannot be written, or an entry could not be read back
                safely.
        """
        if file_client_args or backend_args:
            raise UserError(
                "SafeRunner writes checkpoints to local folders only.",
                "Remove file_client_args and backend_args of the checkpoint hook.",
            )
        require_ours(self.work_dir)
        meta = dict(meta or {})
        # called before the loop counts the epoch or iteration that has just ended
        meta.setdefault("epoch", self.epoch + 1 if by_epoch else self.epoch)
        meta.setdefault("iter", self.iter if by_epoch else self.iter + 1)
        meta.update(
            cfg=self._config_text,
            seed=self.seed,
            experiment_name=self.experiment_name,
            time=time.strftime("%Y%m%d_%H%M%S"),
            mmengine_version=mmengine.__version__,
        )
        if isinstance(self.train_loop, IterBasedTrainLoop | EpochBasedTrainLoop):
            meta["seen"] = dict(
                images=self._images_after(meta["iter"]),
                per_step=self._images_per_step(),
            )
        metainfo = getattr(self.train_dataloader.dataset, "metainfo", None)
        if metainfo is not None:
            meta["dataset_meta"] = metainfo
        model = unwrapped(self.model)
        checkpoint = {
            "meta": meta,
            "state_dict": model.state_dict(),
            "message_hub": self.message_hub.state_dict(),
        }
        if save_optimizer:
            if not isinstance(self.optim_wrapper, OptimWrapper | OptimWrapperDict):
                raise TypeError(f"{self.optim_wrapper} is no OptimWrapper")
            checkpoint["optimizer"] = self.optim_wrapper.state_dict()
        if save_param_scheduler and self.param_schedulers is not None:
            checkpoint["param_schedulers"] = (
                {
                    name: [s.state_dict() for s in schedulers]
                    for name, schedulers in self.param_schedulers.items()
                }
                if isinstance(self.param_schedulers, dict)
                else [s.state_dict() for s in self.param_schedulers]
            )
        self.call_hook("before_save_checkpoint", checkpoint=checkpoint)
        hub = checkpoint["message_hub"]
        hub["runtime_info"] = self._plain_info(hub["runtime_info"])
        try:
            checkpoint = {k: to_plain(v, k) for k, v in checkpoint.items()}
        except TypeError as error:
            raise UserError(
                f"The checkpoint was not written: its entry {error}, which cannot be "
                "read back without executing code.",
                "Let the hook or schedule that adds it store numbers, strings, lists, "
                "dicts or tensors.",
            ) from error
        save_atomic(checkpoint, os.path.join(out_dir, filename))

    def _plain_info(self, info: dict) -> dict:
        """Leave out (with a warning) what foreign hooks put there as objects."""
        plain = {}
        for key, value in info.items():
            try:
                plain[key] = to_plain(value, f"message_hub.runtime_info.{key}")
            except TypeError as error:
                self.logger.warning(f"Not saved in the checkpoint: {error}")
        return plain


def _batch_size(loader) -> int:
    """Images of a batch of one process, also behind a batch sampler."""
    return loader.batch_size or getattr(loader.batch_sampler, "batch_size", 1)


def _check_training_state(checkpoint: dict, source: str) -> None:
    """Refuse to continue a run from a file that holds weights only."""
    missing = [k for k in ("meta", "message_hub", "optimizer") if k not in checkpoint]
    missing += [k for k in ("epoch", "iter") if k not in checkpoint.get("meta", {})]
    if missing:
        raise UserError(
            f"{source} holds weights but not the whole training state "
            f"({', '.join(missing)} missing): a run cannot be resumed from it.",
            "Start a new run from these weights with --cfg-options "
            f"load_from={source}, without --resume.",
        )
