"""Numbers of the weights that a run starts from."""

from mmengine.hooks import Hook

from pld_mmdet.registry import HOOKS


@HOOKS.register_module()
class ScoreAtStartHook(Hook):
    """Evaluates the source weights before AdaBN or a step has touched them.

    It needs :class:`pld_mmdet.ScoredValLoop`, whose history then begins with
    iteration 0: what every later number is compared with.
    """

    priority = "HIGHEST"  # before the hooks that change weights at iteration 0

    def before_train(self, runner) -> None:
        """Measure once, at iteration 0 of a new run."""
        loop = runner.val_loop
        if runner.iter > 0 or not hasattr(loop, "measure"):
            return
        metrics = loop.measure()
        numbers = ", ".join(
            f"{name} {value:.4f}"
            for name, value in metrics.items()
            if name.count("/") == 1
        )
        runner.logger.info(f"Source weights: {numbers}")
