"""Evaluation that also works without labels: scores of the detector on its own."""

import json
import logging
import math
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from mmengine.dist import all_gather_object, is_main_process
from mmengine.logging import print_log
from mmengine.registry import METRICS
from mmengine.runner import ValLoop

from pld_mmdet.detection.evaluation.scores.views import NotFinite
from pld_mmdet.engine.data.randomness import own_randomness
from pld_mmdet.engine.run.models import unwrapped
from pld_mmdet.reading import read_json_lines
from pld_mmdet.registry import LOOPS

HISTORY = "scores.jsonl"
_STREAM = 3  # see engine/data/seeding.py and engine/hooks/seed.py


@LOOPS.register_module()
class ScoredValLoop(ValLoop):
    """mmengine's validation with label-free scores beside (or instead of) metrics.

    The scores enter the metrics as ``label_free/<name>``, so
    ``CheckpointHook(save_best='label_free/das', rule='greater')`` works as with any
    metric. They never see a label. Each evaluation is a line of ``scores.jsonl`` in
    the work dir.

    Args:
        runner: The runner.
        dataloader: Labelled images, or the unlabelled ones when there are no labels.
        evaluator: Metrics; an empty list without labels.
        scores: Configs of scores (registered as metrics). A score is an object with
            ``add(detector, batch, shared)`` and ``compute() -> dict``.
        score_dataloader: Unlabelled images with a weak and a strong view, always the
            same ones in the same order. None takes ``dataloader``.
        fp16: As in mmengine.
    """

    def __init__(
        self,
        runner,
        dataloader,
        evaluator,
        scores: Sequence[dict] = (),
        score_dataloader: dict | None = None,
        fp16: bool = False,
    ) -> None:
        super().__init__(runner, dataloader, evaluator, fp16)
        self.scores = [METRICS.build(dict(score)) for score in scores]
        self.score_dataloader = (
            self.dataloader
            if score_dataloader is None
            else runner.build_dataloader(score_dataloader, seed=runner.seed)
        )

    def run(self) -> dict:
        """Score, measure where there are labels, tell the hooks."""
        runner = self.runner
        runner.call_hook("before_val")
        runner.call_hook("before_val_epoch")
        metrics = self.measure(self.run_iter)
        runner.call_hook("after_val_epoch", metrics=metrics)
        runner.call_hook("after_val")
        return metrics

    def measure(self, run_iter: Callable[[int, dict], None] | None = None) -> dict:
        """All numbers of the present weights.

        Args:
            run_iter: Evaluates one batch; the default calls no hook, so that it also
                works outside a validation epoch.
        """
        run_iter = run_iter or self._evaluate
        self.runner.model.eval()
        self.val_loss.clear()
        # Random numbers of a score are the same at each evaluation and move no others.
        with own_randomness(self.runner.seed or 0, _STREAM, 0):
            metrics = self.score()
        if self.evaluator.metrics:
            for idx, data_batch in enumerate(self.dataloader):
                run_iter(idx, data_batch)
            metrics.update(self.evaluator.evaluate(len(self.dataloader.dataset)))
        self._write(metrics)
        return metrics

    @torch.no_grad()
    def _evaluate(self, idx: int, data_batch: dict) -> None:
        outputs = self.runner.model.val_step(data_batch)
        self.evaluator.process(data_samples=outputs, data_batch=data_batch)

    def score(self) -> dict[str, float]:
        """The label-free scores of the network that is the result."""
        model = unwrapped(self.runner.model)
        values = score_detector(
            getattr(model, "result", model), self.score_dataloader, self.scores
        )
        values = mean_over_processes(values)
        return {f"label_free/{name}": value for name, value in values.items()}

    def _write(self, metrics: dict) -> None:
        if not is_main_process():
            return
        row = {"iter": self.runner.iter}
        numbers = {k: float(v) for k, v in metrics.items() if _is_number(v)}
        row |= {k: v for k, v in numbers.items() if math.isfinite(v)}
        path = Path(self.runner.work_dir) / HISTORY
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")


@torch.no_grad()
def score_detector(detector, loader, scores: Sequence) -> dict[str, float]:
    """Run every score over the images of a loader.

    Args:
        detector: A plain detector in evaluation mode.
        loader: Batches with the views ``weak`` and ``strong``.
        scores: Objects with ``add(detector, batch, shared)`` and ``compute()``;
            ``shared`` is a dict that lives for one batch.

    Returns:
        Name -> value of all scores; NaN for one that met boxes that are not finite.
    """
    was_training = detector.training
    detector.eval()
    broken: list = []
    for batch in loader:
        shared: dict = {}  # what several scores need is computed once
        for score in scores:
            if score in broken:
                continue
            try:
                score.add(detector, batch, shared)
            except NotFinite:
                broken.append(score)
    detector.train(was_training)
    values: dict[str, float] = {}
    for score in scores:
        found = score.compute()
        if score in broken:
            print_log(
                f"{type(score).__name__}: the detector answered with boxes or scores "
                "that are not finite; the score is left out of this evaluation.",
                "current",
                logging.WARNING,
            )
            found = dict.fromkeys(found, math.nan)
        values |= found
    return values


def mean_over_processes(values: dict[str, float]) -> dict[str, float]:
    """Mean of the processes' values, each of which scored its share of the images.

    All processes get the same numbers, so that they choose the same checkpoint. A score
    that only some of them could compute is the mean over those (NaN if none could), and
    a score with parts (``das`` of ``das_fis`` and ``das_pdr``) over those that have all
    parts which any process has.
    """
    everything = all_gather_object(values)
    names = dict.fromkeys(name for values in everything for name in values)
    finite = [
        {name: v for name, v in values.items() if math.isfinite(v)}
        for values in everything
    ]
    means = {}
    for name in names:
        known = [values for values in finite if name in values]
        parts = {n for values in known for n in values if n.startswith(f"{name}_")}
        known = [v for v in known if parts <= v.keys()] or known
        means[name] = sum(v[name] for v in known) / len(known) if known else math.nan
    return means


def read_history(work_dir: str | Path) -> list[dict]:
    """The evaluations of a run by iteration; of a repeated one the last counts."""
    rows = {
        row["iter"]: row
        for row in read_json_lines(Path(work_dir) / HISTORY, {"iter": int, "*": float})
    }
    return [rows[key] for key in sorted(rows)]


def _is_number(value) -> bool:
    return isinstance(value, int | float) or hasattr(value, "item")
