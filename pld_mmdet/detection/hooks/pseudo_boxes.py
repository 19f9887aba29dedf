"""How many pseudo boxes the teacher gives, class by class, as curves."""

from mmengine.dist import all_reduce
from mmengine.hooks import Hook

from pld_mmdet.engine.run.models import unwrapped
from pld_mmdet.registry import HOOKS

STATE_KEY = "pld_pseudo_boxes"


@HOOKS.register_module()
class PseudoBoxHook(Hook):
    """Log mean pseudo boxes per image: ``pseudo/<kind>`` and ``pseudo/<kind>/<class>``.

    Reads ``model.pseudo_counts`` (kind -> [C] boxes per image of the last step), which
    stays on the device; one transfer every ``interval`` steps. Counts that are not
    written yet travel in the checkpoint.

    Args:
        interval: Steps over which counts are averaged before they are written.
    """

    def __init__(self, interval: int = 20) -> None:
        self.interval = interval
        self._sums = {}
        self._steps = 0

    def after_train_iter(
        self, runner, batch_idx, data_batch=None, outputs=None
    ) -> None:
        """Add up the counts and write the mean every ``interval`` steps."""
        model = unwrapped(runner.model)
        for kind, counts in model.pseudo_counts.items():
            mean = counts.float().clone()
            all_reduce(mean, op="mean")  # process 0 can save what all of them saw
            before = self._sums.get(kind)
            self._sums[kind] = mean if before is None else before.to(mean) + mean
        self._steps += 1
        if (runner.iter + 1) % self.interval:
            return
        scalars = {}
        classes = runner.train_dataloader.dataset.metainfo.get("classes", ())
        for kind, total in self._sums.items():
            values = (total / self._steps).tolist()
            names = classes if len(classes) == len(values) else range(len(values))
            scalars[f"pseudo/{kind}"] = sum(values)
            scalars |= {
                f"pseudo/{kind}/{n}": v for n, v in zip(names, values, strict=True)
            }
        runner.visualizer.add_scalars(scalars, step=runner.iter + 1)
        self._sums, self._steps = {}, 0

    def before_save_checkpoint(self, runner, checkpoint: dict) -> None:
        """Store the counts that are not written yet."""
        checkpoint[STATE_KEY] = dict(sums=dict(self._sums), steps=self._steps)

    def after_load_checkpoint(self, runner, checkpoint: dict) -> None:
        """Go on with them when a run is resumed."""
        if runner._resume and STATE_KEY in checkpoint:
            state = checkpoint[STATE_KEY]
            self._sums, self._steps = dict(state["sums"]), state["steps"]
