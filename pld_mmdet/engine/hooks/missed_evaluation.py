"""An evaluation that a kill came before: made up for when the run is resumed."""

from mmengine.hooks import Hook
from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop


class MissedEvaluationHook(Hook):
    """Evaluates at the start of a resumed run where its checkpoint is due for it.

    A checkpoint is written before the evaluation of its own iteration, and the loops go
    on with the next one. So a run that was killed between the two would lack a row of
    its history, the curve of its metric, and the best checkpoint that this evaluation
    may have been. One that was made already is made again, with the same numbers.

    ``SafeRunner`` has it; it is no entry of a config.
    """

    priority = "LOWEST"

    def before_train(self, runner) -> None:
        """Evaluate, if the iteration (or epoch) that is done asks for it."""
        if runner._resume and runner.iter > 0 and evaluation_due(runner):
            runner.logger.info(
                f"Evaluation of iteration {runner.iter}, after which this run goes on."
            )
            runner.val_loop.run()


def evaluation_due(runner) -> bool:
    """Whether the loop evaluates after the iteration (or epoch) that is done."""
    loop = runner.train_loop
    if runner.val_loop is None:
        return False
    if isinstance(loop, IterBasedTrainLoop):
        done, end = loop.iter, loop.max_iters
    elif isinstance(loop, EpochBasedTrainLoop):
        done, end = loop.epoch, loop.max_epochs
    elif getattr(loop, "evaluates_every_interval", False):
        done, end = loop.iter, loop.max_iters
    else:
        return False
    if hasattr(loop, "_decide_current_val_interval"):
        loop._decide_current_val_interval()
    return done >= loop.val_begin and (done % loop.val_interval == 0 or done == end)
