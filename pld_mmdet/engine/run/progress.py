"""Where a run stands, as its model sees it."""

from dataclasses import dataclass

from pld_mmdet.errors import UserError


@dataclass
class Progress:
    """How far a run is; ramps, curricula and stages read it.

    :class:`pld_mmdet.engine.hooks.ProgressHook` moves it, and nothing else does. In a
    loss of the first iteration ``step`` and ``epoch`` are 0.

    Args:
        step: Optimizer steps that are done. Under ``StagedLoop`` these of the stage, as
            its schedules count; under ``FederatedLoop`` rounds.
        steps: Of the run, or of the stage; 0: nobody has told yet.
        epoch: Passes over the training set that are done, counted like ``step``. Where
            a run ends inside a pass, the last one has the number ``epochs``.
        epochs: Whole passes of the run or stage, at least 1; 0: nobody has told yet.
        stage: Name of the stage; without ``StagedLoop`` the model's ``default_stage``.
        accumulation: Iterations that make one optimizer step.
    """

    step: int = 0
    steps: int = 0
    epoch: int = 0
    epochs: int = 0
    stage: str = "distill"
    accumulation: int = 1

    def reset(self, stage: str) -> None:
        """Begin a run or a stage, of which nothing else is known yet."""
        self.__init__(stage=stage)

    @property
    def share(self) -> float:
        """``step / steps``: 0 in the first step, below 1 in the last."""
        known = self.known()
        return known.step / known.steps

    def known(self) -> "Progress":
        """This object.

        Raises:
            UserError: Nobody tells the model where the run stands.
        """
        if not self.steps:
            raise UserError(
                "The model does not know how long the run is (progress.steps is 0).",
                "Train it with tools/train.py, or add "
                "dict(type='pld_mmdet.ProgressHook') to custom_hooks.",
            )
        return self
