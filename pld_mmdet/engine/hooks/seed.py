"""Seeds every training iteration from (seed, iteration, rank)."""

from mmengine.hooks import Hook

from pld_mmdet.engine.data.randomness import seed_everything
from pld_mmdet.registry import HOOKS

_STREAM = 2  # see engine/data/seeding.py


@HOOKS.register_module()
class IterationSeedHook(Hook):
    """Makes an iteration's random numbers independent of everything before it.

    Evaluating, saving, drawing pictures or restarting between two iterations then
    changes nothing, and no state of a random generator has to be stored.
    """

    priority = "VERY_HIGH"

    def before_train_iter(self, runner, batch_idx, data_batch=None) -> None:
        """Seed random, numpy and torch for the iteration that begins."""
        seed_everything(runner.seed or 0, _STREAM, runner.iter, runner.rank)
