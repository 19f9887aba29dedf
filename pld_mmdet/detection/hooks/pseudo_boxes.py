"""How many pseudo boxes the teacher gives, class by class, as curves."""

from mmengine.dist import all_reduce
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper

from pld_mmdet.registry import HOOKS


@HOOKS.register_module()
class PseudoBoxHook(Hook):
    """Log mean pseudo boxes per image: ``pseudo/<kind>`` and ``pseudo/<kind>/<class>``.

    Reads ``model.pseudo_counts`` (kind -> [C] boxes per image of the last step), which
    stays on the device; one transfer every ``interval`` steps.

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
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        for kind, counts in model.pseudo_counts.items():
            self._sums[kind] = (
                self._sums[kind] + counts if kind in self._sums else counts
            )
        self._steps += 1
        if (runner.iter + 1) % self.interval:
            return
        scalars = {}
        classes = runner.train_dataloader.dataset.metainfo.get("classes", ())
        for kind, total in self._sums.items():
            mean = total / self._steps
            all_reduce(mean, op="mean")
            values = mean.tolist()
            names = classes if len(classes) == len(values) else range(len(values))
            scalars[f"pseudo/{kind}"] = sum(values)
            scalars |= {
                f"pseudo/{kind}/{n}": v for n, v in zip(names, values, strict=True)
            }
        runner.visualizer.add_scalars(scalars, step=runner.iter + 1)
        self._sums, self._steps = {}, 0
