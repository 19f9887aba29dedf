"""Few parameter groups where mmengine makes one for each parameter."""

from difflib import get_close_matches
from logging import Logger

from mmengine.optim import DefaultOptimWrapperConstructor
from torch import nn

from pld_mmdet.errors import UserError
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


def check_custom_keys(model: nn.Module, wrapper: dict, logger: Logger) -> None:
    """Compare ``custom_keys`` with the names of the parameters.

    A key counts where it is part of a name; nothing else says that it never is. Stock
    configs carry keys of other networks, so a key like no name is only logged.

    Args:
        model: Whose parameters are to be optimized.
        wrapper: Config of an optimizer wrapper, or of several by part.
        logger: Told of keys that match nothing.

    Raises:
        UserError: A key that matches no parameter but nearly one; names both.
    """
    # as mmengine joins them: a parameter at the root has a dot before it
    names = [n if "." in n else f".{n}" for n, _ in model.named_parameters()]
    options = [wrapper, *(v for v in wrapper.values() if isinstance(v, dict))]
    for one in options:
        for key in (one.get("paramwise_cfg") or {}).get("custom_keys") or ():
            if any(key in name for name in names):
                continue
            near = get_close_matches(key, _pieces(names, key), n=1, cutoff=0.8)
            if near:
                raise UserError(
                    f"optim_wrapper.paramwise_cfg.custom_keys.{key}: no parameter of "
                    f"{type(model).__name__} has {key!r} in its name.",
                    f"Did you mean {near[0]}?",
                )
            logger.warning(
                f"optim_wrapper.paramwise_cfg.custom_keys.{key} changes nothing: no "
                f"parameter of {type(model).__name__} has it in its name."
            )


def _pieces(names: list[str], key: str) -> set[str]:
    """Parts of dotted names with as many words as a key."""
    size = key.count(".") + 1
    words = [name.strip(".").split(".") for name in names]
    return {
        ".".join(one[at : at + size])
        for one in words
        for at in range(len(one) - size + 1)
    }
