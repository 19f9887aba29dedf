"""Learn from a stream and score it at the same time, one batch after the other."""

import json
import time
from pathlib import Path

import numpy as np
import torch
from mmengine.dataset import pseudo_collate
from mmengine.hooks import Hook

from pld_mmdet.engine.data.sampler import DrawIndex
from pld_mmdet.engine.loops.counted import CountedLoop
from pld_mmdet.engine.run.models import unwrapped
from pld_mmdet.engine.state.files import write_json
from pld_mmdet.errors import UserError
from pld_mmdet.registry import LOOPS

STATE_KEY = "pld_online"


@LOOPS.register_module()
class OnlineLoop(CountedLoop):
    """Test-time learning: learn from image i, then score image i, once through.

    Iteration i: hooks before the step (``TeacherEMAHook(moment='before')`` moves the
    teacher), one training step on the stream's image i, one prediction on the clean
    image i for the evaluator, hooks after the step. So with the EMA *before* the step,
    the teacher that scores image i has learnt from the images before it and never
    from i itself.

    A checkpoint holds the predictions made so far, hence a run that is resumed in the
    middle of the stream ends with the numbers of one that was never stopped. The
    result, with median and 90th percentile of the time per image, goes to
    ``online.json`` and to the scalars. Evaluating the final checkpoint with
    ``tools/test.py`` is a second pass and another number.

    Args:
        runner: The runner.
        dataloader: The stream (``train_dataloader``): the test images as the model
            learns from them, unlabelled.
        score_dataloader: The same images in the same order as they are scored. None:
            the model answers while it learns (test-time adaptation), by
            ``learn(batch, optim_wrapper) -> (log values, predictions)``.
        evaluator: Metrics.
        support_dataloader: Labelled images of which one batch is merged into each
            training batch under its own branch names. None: no support set.
        merge_support: False leaves them out of the training batches: they only go to
            ``model.start_stream``.

    A model with ``start_stream(batches, classes)`` is called with the support set, in
    order, before the first image.

    Raises:
        UserError: Several processes (the order would be undefined), samplers that
            cannot skip, or streams of different images.
    """

    val_interval = 1

    def __init__(
        self,
        runner,
        dataloader,
        score_dataloader: dict | None = None,
        evaluator: dict | list | None = None,
        support_dataloader: dict | None = None,
        merge_support: bool = True,
    ) -> None:
        super().__init__(runner, dataloader)
        if runner.world_size > 1:
            raise UserError(
                "OnlineLoop scores each image before the next is seen: that has no "
                f"meaning on {runner.world_size} processes.",
                "Start it with python tools/train.py on one device.",
            )
        if evaluator is None:
            raise UserError(
                "OnlineLoop scores while it learns, and has no metric to do so.",
                "Set train_cfg.evaluator in the config.",
            )
        self.score_loader = (
            None if score_dataloader is None else self._build(score_dataloader)
        )
        self.support_loader = (
            None if support_dataloader is None else self._build(support_dataloader)
        )
        self.merge_support = merge_support and self.support_loader is not None
        self.evaluator = runner.build_evaluator(evaluator)
        scored_loader = self.score_loader or self.dataloader
        meta = scored_loader.dataset.metainfo
        self.evaluator.dataset_meta = runner.visualizer.dataset_meta = meta
        for name, loader in self._loaders().items():
            if not hasattr(loader.sampler, "skip"):
                raise UserError(
                    f"The {name} data loader cannot resume: its sampler "
                    f"{type(loader.sampler).__name__} cannot skip.",
                    "Set sampler=dict(type='pld_mmdet.ResumableSampler', "
                    "infinite=True, shuffle=False).",
                )
        images, scored = len(self.dataloader.dataset), len(scored_loader.dataset)
        sizes = self.dataloader.batch_size, scored_loader.batch_size
        if images != scored or sizes[0] != sizes[1]:
            raise UserError(
                f"The stream has {images} images in batches of {sizes[0]}, but "
                f"{scored} in batches of {sizes[1]} are scored.",
                "Give both data loaders of the loop the same images and batch size.",
            )
        if images % sizes[0]:
            raise UserError(
                f"{images} test images do not divide into batches of {sizes[0]}: the "
                "last batch would score some images twice.",
                "Set a batch_size that divides them; 1 always does.",
            )
        self._max_iters = images // sizes[0]
        self.seconds: dict[str, list[float]] = {"learn": [], "score": []}
        runner.register_hook(_StateHook(self), priority="NORMAL")

    def _build(self, cfg: dict):
        return self.runner.build_dataloader(
            cfg, seed=self.runner.seed, diff_rank_seed=False
        )

    def _loaders(self) -> dict:
        loaders = {"train": self.dataloader}
        if self.score_loader is not None:
            loaders["score"] = self.score_loader
        if self.support_loader is not None:
            loaders["support"] = self.support_loader
        return loaders

    def run(self) -> torch.nn.Module:
        """Go through the stream from where the run stands; evaluate at its end."""
        runner = self.runner
        runner.call_hook("before_train")
        runner.call_hook("before_train_epoch")
        runner.model.train()
        if self._iter == 0:
            self._start_stream()
        iterators = {}
        for name, loader in self._loaders().items():
            loader.sampler.skip(self._iter * loader.batch_size)
            iterators[name] = iter(loader)
        while self._iter < self._max_iters and not self.stop_training:
            batch = next(iterators["train"])
            clean = next(iterators["score"]) if self.score_loader is not None else None
            if self.merge_support:
                batch = merge_batches(batch, next(iterators["support"]))
            self.run_iter(batch, clean)
        self._epoch = 1
        metrics = self._finish()
        runner.call_hook("after_train_epoch")
        runner.call_hook("after_train")
        runner.logger.info(f"Online: {json.dumps(metrics)}")
        return runner.model

    def run_iter(self, batch: dict, clean: dict | None) -> None:
        """Learn from one batch, then score its clean images.

        Args:
            batch: What is learnt from.
            clean: What is scored; None: the answers of the training step.
        """
        runner = self.runner
        if clean is not None:
            _require_same_images(batch, clean)
        start = _now()
        runner.call_hook("before_train_iter", batch_idx=self._iter, data_batch=batch)
        if clean is None:
            learn = self._model.learn
            outputs, predictions = learn(batch, optim_wrapper=runner.optim_wrapper)
            learnt, clean = _now(), batch
        else:
            outputs = runner.model.train_step(batch, optim_wrapper=runner.optim_wrapper)
            learnt = _now()
            runner.model.eval()
            with torch.no_grad():
                predictions = runner.model.test_step(clean)
            runner.model.train()
        scored = _now()
        self.evaluator.process(data_samples=predictions, data_batch=clean)
        self.seconds["learn"].append(learnt - start)
        self.seconds["score"].append(scored - learnt)
        runner.call_hook(
            "after_train_iter", batch_idx=self._iter, data_batch=batch, outputs=outputs
        )
        self._iter += 1

    @property
    def _model(self) -> torch.nn.Module:
        return unwrapped(self.runner.model)

    def _start_stream(self) -> None:
        model = self._model
        if not hasattr(model, "start_stream"):
            return
        if self.support_loader is None:
            raise UserError(
                f"{type(model).__name__} starts from a support set, and the loop has "
                "none.",
                "Set train_cfg.support_dataloader in the config.",
            )
        dataset, seed = self.support_loader.dataset, self.runner.seed or 0
        batches = (
            pseudo_collate([dataset[DrawIndex(i, i, seed)]])
            for i in range(len(dataset))
        )
        model.start_stream(batches, tuple(dataset.metainfo.get("classes", ())))

    def _finish(self) -> dict:
        if self._iter < self._max_iters:  # stopped by a hook
            return {}
        images = len((self.score_loader or self.dataloader).dataset)
        metrics = self.evaluator.evaluate(images)
        milliseconds = {
            name: 1000 * np.array(values) / self.dataloader.batch_size
            for name, values in self.seconds.items()
        }
        milliseconds["image"] = milliseconds["learn"] + milliseconds["score"]
        for name, values in milliseconds.items():
            metrics[f"online/ms_{name}"] = float(np.median(values))
            metrics[f"online/ms_{name}_p90"] = float(np.quantile(values, 0.9))
        content = {
            "protocol": "online: learn from image i, then score it; one pass",
            "images": images,
            "metrics": metrics,
        }
        write_json(Path(self.runner.work_dir) / "online.json", content)
        self.runner.visualizer.add_scalars(metrics, step=self._iter)
        return metrics

    def state_dict(self) -> dict:
        """Predictions so far (one entry a metric) and times."""
        return {
            "results": [list(metric.results) for metric in self.evaluator.metrics],
            "seconds": {name: list(times) for name, times in self.seconds.items()},
        }

    def load_state_dict(self, state: dict) -> None:
        """Go on with the predictions of an interrupted run."""
        for metric, results in zip(
            self.evaluator.metrics, state["results"], strict=True
        ):
            metric.results[:] = results
        self.seconds = {name: list(times) for name, times in state["seconds"].items()}


class _StateHook(Hook):
    """Carries the loop's state in the checkpoint."""

    def __init__(self, loop: OnlineLoop) -> None:
        self.loop = loop

    def before_save_checkpoint(self, runner, checkpoint: dict) -> None:
        """Store the state."""
        checkpoint[STATE_KEY] = self.loop.state_dict()

    def after_load_checkpoint(self, runner, checkpoint: dict) -> None:
        """Restore it when a run is resumed (not when weights are loaded)."""
        if runner._resume and STATE_KEY in checkpoint:
            self.loop.load_state_dict(checkpoint[STATE_KEY])


def merge_batches(stream: dict, support: dict) -> dict:
    """One multi-branch batch of two, whose branch names differ.

    Raises:
        UserError: A branch occurs in both, or a batch has no branches.
    """
    for name, batch in (("stream", stream), ("support", support)):
        if not isinstance(batch["inputs"], dict):
            raise UserError(
                f"The {name} batches have no branches.",
                "End the pipelines of both data sets with MultiBranch.",
            )
    both = stream["inputs"].keys() & support["inputs"].keys()
    if both:
        raise UserError(
            f"The branch {sorted(both)[0]!r} occurs in the stream and in the support "
            "set.",
            "Name the branches of the support pipeline support_weak, support_strong.",
        )
    return {key: {**stream[key], **support[key]} for key in ("inputs", "data_samples")}


def _names(batch: dict) -> list:
    """What tells the images of a batch apart: their path, or their index."""
    if "data_samples" not in batch:  # a dict of stacked tensors (engine.method)
        return batch["index"].tolist()
    views = batch["data_samples"]
    samples = next(iter(views.values())) if isinstance(views, dict) else views
    return [s.get("img_path") if hasattr(s, "get") else None for s in samples]


def _require_same_images(batch: dict, clean: dict) -> None:
    pairs = zip(_names(batch), _names(clean), strict=True)
    for i, (ours, theirs) in enumerate(pairs):
        if ours != theirs:
            raise UserError(
                f"Image {i} of a batch is learnt from as {ours}, scored as {theirs}.",
                "Give both data loaders of the loop the same images in the same order "
                "(shuffle=False), and 'img_path' in the meta_keys of both.",
            )


def _now() -> float:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()
