"""The course of a metric over a run: training that ends well may have been bad."""

from pathlib import Path

from mmengine.dist import master_only
from mmengine.hooks import Hook

from pld_mmdet.engine.state.files import write_json
from pld_mmdet.errors import UserError
from pld_mmdet.registry import HOOKS

STATE_KEY = "pld_metric_curve"


@HOOKS.register_module()
class MetricCurveHook(Hook):
    """Writes worst value and mean of a val metric over the run into online.json.

    An experiment's row shows them with ``online='curve'``. The values travel in the
    checkpoint.

    Args:
        metric: Name of the metric; small is good.
        begin: Leave out evaluations before this iteration [0].
    """

    # Before CheckpointHook: a checkpoint of this iteration knows the value.
    priority = "NORMAL"

    def __init__(self, metric: str, begin: int = 0) -> None:
        self.metric, self.begin = metric, begin
        self.values: dict[int, float] = {}

    def after_val_epoch(self, runner, metrics: dict | None = None) -> None:
        """Keep the value of an evaluation inside training."""
        if self.metric not in (metrics or {}):
            raise UserError(
                f"MetricCurveHook: there is no metric {self.metric!r}.",
                f"The evaluation gives: {', '.join(metrics or {}) or 'nothing'}.",
            )
        if runner.iter >= self.begin:
            self.values[runner.iter] = float(metrics[self.metric])

    @master_only
    def after_train(self, runner) -> None:
        """Write the file."""
        if not self.values:
            return
        values = list(self.values.values())
        content = {
            "protocol": f"val every {runner.train_loop.val_interval} iterations",
            "curve": self.values,
            "metrics": {
                f"{self.metric}_worst": max(values),
                f"{self.metric}_mean": sum(values) / len(values),
            },
        }
        write_json(Path(runner.work_dir) / "online.json", content)

    def before_save_checkpoint(self, runner, checkpoint: dict) -> None:
        """Store the values so far."""
        checkpoint[STATE_KEY] = dict(self.values)

    def after_load_checkpoint(self, runner, checkpoint: dict) -> None:
        """Go on with them when a run is resumed."""
        if runner._resume and STATE_KEY in checkpoint:
            self.values = dict(checkpoint[STATE_KEY])
