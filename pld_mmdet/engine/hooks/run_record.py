"""Writes down what a run is, how far it is, and how it ended."""

import os
import time
from datetime import datetime, timezone
from pathlib import Path

import torch
from mmengine.dist import master_only
from mmengine.hooks import Hook

from pld_mmdet.engine.run.models import unwrapped
from pld_mmdet.engine.state import provenance
from pld_mmdet.engine.state.data_print import FILE, data_print, refuse_other_data
from pld_mmdet.engine.state.files import write_atomic, write_json
from pld_mmdet.engine.state.outfolder import is_ours, require_ours
from pld_mmdet.errors import UserError
from pld_mmdet.quiet import silent_for
from pld_mmdet.reading import read_state
from pld_mmdet.registry import HOOKS
from pld_mmdet.waiting import EVERY, duration


@HOOKS.register_module()
class RunRecordHook(Hook):
    """Keeps config.py, run.json and progress.json in the work dir.

    - ``config.py``: the resolved config.
    - ``run.json``: command, commit, versions, machine, data counts, hash of the initial
      weights and of each file that an ``init_cfg`` names; at the end minutes, memory
      and ``exit`` (``finished``, ``interrupted``, ``failed: ...``; ``running`` stays
      after a kill).
    - ``data.json``: what tells the training data from another. A run goes on with the
      data that it began with, or says what changed.
    - ``progress.json``: iteration and time left, rewritten about every second. Where
      the log is silent for long, it says the same.

    A resumed run keeps ``started`` and ``init_sha256`` of its beginning and adds up the
    minutes.

    Args:
        seconds: Least time between two writes of progress.json.
    """

    priority = "LOWEST"

    def __init__(self, seconds: float = 1.0) -> None:
        self.seconds = seconds
        self._record: dict = {}
        self._begin = self._written = self._recorded = 0.0
        self._first_iter = 0
        self._minutes_before = 0.0
        self._stage = "starting"
        self._loss: float | None = None

    @master_only
    def before_train(self, runner) -> None:
        """Describe the run: data and weights are loaded by now."""
        self._begin = time.time()
        self._first_iter = runner.iter
        folder = Path(runner.work_dir)
        old = {}
        if runner.iter > 0 and (folder / "run.json").is_file():
            old = read_state(folder / "run.json")
        _keep_data_print(runner, old)
        write_atomic(
            folder / "config.py", lambda f: f.write(runner.cfg.pretty_text.encode())
        )
        model = unwrapped(runner.model)
        head, dirty = provenance.commit()
        self._minutes_before = old.get("minutes") or 0.0
        self._record = {
            "command": old.get("command", provenance.command_line()),
            "commit": head,
            "dirty": dirty,
            "versions": provenance.versions(),
            "seed": runner.seed,
            "processes": runner.world_size,
            "data": _counts(runner),
            "init_from": runner._load_from
            if runner.iter == 0
            else old.get("init_from"),
            "init_sha256": old.get("init_sha256")
            or (provenance.model_sha256(model) if runner.iter == 0 else None),
            "pretrained": old.get("pretrained")
            or (provenance.pretrained(runner.cfg) if runner.iter == 0 else {}),
            "machine": provenance.machine(),
            "started": old.get("started", _now()),
            "resumed": old.get("resumed", [])
            + ([{"iter": runner.iter, "at": _now()}] if runner.iter > 0 else []),
            "finished": None,
            "minutes": self._minutes_before,
            "peak_memory_mb": None,
            "exit": "running",
        }
        self._write_record(runner)
        self._progress(runner, "train", force=True)

    def after_train_iter(
        self, runner, batch_idx, data_batch=None, outputs=None
    ) -> None:
        """Report the iteration that ended."""
        if runner.rank != 0 or time.time() - self._written < self.seconds:
            return
        if outputs and "loss" in outputs:  # .item() only when it is written
            self._loss = float(torch.as_tensor(outputs["loss"]).detach())
        self._progress(runner, "train", done=1, force=True)

    def before_val(self, runner) -> None:
        """Say that an evaluation runs."""
        self._progress(runner, "val", force=True)

    def after_val_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        """Show that the evaluation is alive."""
        self._progress(runner, "val")

    def after_val(self, runner) -> None:
        """Say that training goes on."""
        self._progress(runner, "train", force=True)

    def after_run(self, runner) -> None:
        """Close the record of a training run that reached its end."""
        if self._record:
            self._close(runner, "finished", "done")

    def after_failure(self, runner, error: BaseException) -> None:
        """Close the record of a run that ended early (called by SafeRunner)."""
        if isinstance(error, KeyboardInterrupt | SystemExit):
            self._close(runner, "interrupted", "interrupted")
        else:
            line = (str(error) or type(error).__name__).splitlines()[0]
            self._close(runner, f"failed: {line}", "failed")

    @master_only
    def _close(self, runner, how: str, stage: str) -> None:
        if not self._record or not is_ours(runner.work_dir):
            return  # the record is another run's by now
        self._record.update(
            finished=_now(),
            peak_memory_mb=provenance.peak_memory_mb(),
            exit=how,
            iterations=runner.iter,
        )
        self._write_record(runner)
        self._progress(runner, stage, force=True)

    @master_only
    def _write_record(self, runner) -> None:
        self._recorded = time.time()
        spent = (self._recorded - self._begin) / 60
        self._record["minutes"] = round(self._minutes_before + spent, 3)
        write_json(Path(runner.work_dir) / "run.json", self._record)

    def _progress(self, runner, stage: str, done: int = 0, force: bool = False) -> None:
        if runner.rank != 0 or not self._record:
            return
        now = time.time()
        if not force and now - self._written < self.seconds:
            return
        iteration = runner.iter + done
        here = iteration - self._first_iter
        left = max(0, runner.max_iters - iteration)
        eta = round((now - self._begin) / here * left, 1) if here > 0 else None
        progress = {
            "iter": iteration,
            "max_iters": runner.max_iters,
            "eta_seconds": eta,
            "loss": self._loss,
            "stage": stage,
            "time": round(now, 3),
            "pid": os.getpid(),
        }
        require_ours(runner.work_dir)
        write_json(Path(runner.work_dir) / "progress.json", progress)
        self._written = now
        if silent_for(runner.logger) >= EVERY:  # steps take longer than log intervals
            left = "" if eta is None else f", about {duration(eta)} left"
            runner.logger.info(
                f"{stage}: iteration {iteration} of {runner.max_iters}{left}"
            )
        if now - self._recorded >= 30:  # a killed run still knows its minutes
            self._write_record(runner)


def _keep_data_print(runner, old: dict) -> None:
    """Remember the data of a run that begins; compare where one goes on."""
    file, now = Path(runner.work_dir) / FILE, data_print(runner.cfg)
    before = read_state(file) if runner.iter > 0 else {}
    if before:
        refuse_other_data(before, now, runner.work_dir, str(old.get("exit", "")))
    had, has = (
        c.get("train", {}).get("images") for c in (old.get("data", {}), _counts(runner))
    )
    if had is not None and had != has:
        raise UserError(
            f"The run in {runner.work_dir} began with {had} training samples, and the "
            f"data set has {has} now.",
            "Put the data back as it was, or start a new run with another --work-dir.",
        )
    if not before:
        write_json(file, now)


def _counts(runner) -> dict:
    """Images (and boxes, where the data set knows them cheaply) per loader."""
    counts = {}
    for stage in ("train", "val"):
        loop = getattr(runner, f"{stage}_loop")
        if loop is None:
            continue
        dataset = loop.dataloader.dataset
        counts[stage] = {"images": len(dataset)}
        coco = getattr(dataset, "coco", None)
        if coco is not None and getattr(coco, "anns", None):
            counts[stage]["boxes"] = len(coco.anns)
    return counts


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
