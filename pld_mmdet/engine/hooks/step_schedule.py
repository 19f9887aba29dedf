"""Schedules that stand still while gradients are accumulated."""

from mmengine.hooks import ParamSchedulerHook

from pld_mmdet.engine.run.steps import accumulation, ends_step
from pld_mmdet.registry import HOOKS


@HOOKS.register_module()
class StepScheduleHook(ParamSchedulerHook):
    """mmengine's hook, except that all iterations of an optimizer step share one rate.

    Schedules count iterations, but advance at the end of a step by all iterations of
    it. So a step has the learning rate of its first iteration, and a run of k times
    the iterations, with schedules k times as long, has the rates of the large batch.
    ``SafeRunner`` puts this hook in the place of the stock one; without accumulation
    both are the same.
    """

    def after_train_iter(
        self, runner, batch_idx, data_batch=None, outputs=None
    ) -> None:
        """Advance the schedules that count iterations, once a step."""
        if not ends_step(runner):
            return
        for _ in range(runner.iter % accumulation(runner) + 1):
            super().after_train_iter(runner, batch_idx, data_batch, outputs)
