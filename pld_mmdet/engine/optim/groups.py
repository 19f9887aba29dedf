"""Few parameter groups where mmengine makes one for each parameter."""

from mmengine.optim import DefaultOptimWrapperConstructor
from torch import nn

from pld_mmdet.registry import OPTIM_WRAPPER_CONSTRUCTORS


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class MergedGroups(DefaultOptimWrapperConstructor):
    """``paramwise_cfg`` as in mmengine, with one group for each set of options.

    As soon as there is a ``paramwise_cfg``, mmengine makes a group of every parameter.
    The optimizer, each scheduler and the log go through the groups in Python at every
    step. Weights come out the same, bit for bit (with ``clip_grad`` up to rounding: the
    norm is summed in another order). A checkpoint holds other groups, so a run goes on
    with the constructor that it began with.
    """

    def add_params(
        self, params: list[dict], module: nn.Module, prefix: str = "", **kwargs
    ) -> None:
        """Collect the groups of ``module``, then merge equal ones (at the root)."""
        super().add_params(params, module, prefix, **kwargs)
        if prefix:
            return
        merged: dict[str, dict] = {}
        for group in params:
            options = {key: value for key, value in group.items() if key != "params"}
            key = repr(sorted(options.items()))  # options may be lists
            merged.setdefault(key, {"params": [], **options})
            merged[key]["params"] += group["params"]
        params[:] = merged.values()
