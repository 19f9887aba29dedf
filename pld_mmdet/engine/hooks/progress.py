"""Tells a model where the run stands."""

from dataclasses import asdict

from mmengine.hooks import Hook
from mmengine.runner import EpochBasedTrainLoop
from torch import nn

from pld_mmdet.engine.run.progress import Progress
from pld_mmdet.engine.run.steps import accumulation, len_epoch
from pld_mmdet.registry import HOOKS

STATE_KEY = "pld_progress"


@HOOKS.register_module()
class ProgressHook(Hook):
    """Moves the ``progress`` of the model and of the models inside it.

    At the start it shows them the training data (``check_data``).

    ``SafeRunner`` registers it by itself. Everything follows from the iteration, the
    loop and the optimizer wrapper, so a resumed run needs no state; the checkpoint
    holds the numbers (under its own key) for evaluations of the saved weights.
    """

    priority = "VERY_HIGH"  # hooks and model see the same place

    def __init__(self) -> None:
        self._told: list[Progress] | None = None

    def before_train(self, runner) -> None:
        """Start from the model's own stage unless the loop has stages."""
        if not hasattr(runner.train_loop, "span"):
            for module in _modules(runner.model):
                stage = getattr(module, "default_stage", "distill")
                module.progress.reset(stage)
        loader = getattr(runner.train_loop, "dataloader", None)
        for module in _modules(runner.model):
            if loader is not None and hasattr(module, "check_data"):
                module.check_data(loader.dataset)
        self._told = [module.progress for module in _modules(runner.model)]
        if runner.iter > 0:  # MissedEvaluationHook evaluates before the next step
            self._tell(runner, runner.iter)

    def before_stage(self, runner, name: str) -> None:
        """``StagedLoop`` enters a stage; its length is told with its first step."""
        for module in _modules(runner.model):
            module.progress.reset(name)

    def before_train_iter(self, runner, batch_idx, data_batch=None) -> None:
        """The step that comes."""
        self._tell(runner, runner.iter)

    def after_train_iter(
        self, runner, batch_idx, data_batch=None, outputs=None
    ) -> None:
        """What is done now: checkpoints and evaluations see this."""
        self._tell(runner, runner.iter + 1)

    def _tell(self, runner, done: int) -> None:
        if not self._told:
            return
        loop, size = runner.train_loop, accumulation(runner)
        begin, end = loop.span() if hasattr(loop, "span") else (0, runner.max_iters)
        length = 1
        if isinstance(loop, EpochBasedTrainLoop):
            length = len(loop.dataloader)
        elif not getattr(loop, "counts_rounds", False):
            endless = not hasattr(loop.dataloader.dataset, "__len__")
            length = max(1, end - begin) if endless else len_epoch(runner)

        def steps(iterations: int) -> int:
            # the last iteration of a run steps with what there is
            rest = iterations == runner.max_iters and iterations % size > 0
            return iterations // size + int(rest)

        for progress in self._told:
            progress.step = steps(done) - begin // size
            progress.steps = max(1, steps(end) - begin // size)
            progress.epoch = (done - begin) // length
            progress.epochs = max(1, (end - begin) // length)
            progress.accumulation = size

    def before_save_checkpoint(self, runner, checkpoint: dict) -> None:
        """Store the numbers."""
        if self._told:
            checkpoint[STATE_KEY] = asdict(self._told[0])

    def after_load_checkpoint(self, runner, checkpoint: dict) -> None:
        """An evaluation sees where the weights come from; training counts anew."""
        for module in _modules(runner.model):
            for name, value in checkpoint.get(STATE_KEY, {}).items():
                setattr(module.progress, name, value)


def _modules(model: nn.Module) -> list[nn.Module]:
    return [
        module
        for module in model.modules()
        if isinstance(getattr(module, "progress", None), Progress)
    ]
