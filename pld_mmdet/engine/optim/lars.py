"""LARS: a rate of its own for each weight matrix, for very large batches."""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor
from torch.optim import Optimizer

from pld_mmdet.errors import UserError
from pld_mmdet.registry import OPTIMIZERS


@OPTIMIZERS.register_module()
class LARS(Optimizer):
    """Layer-wise adaptive rates (You et al. 2017) with momentum on the update.

    ``g <- g + decay w;  v <- momentum v + lr trust ||w|| / ||g|| g;  w <- w - v``, as
    in SimCLR's release. Parameters of one dimension (biases, scales and shifts of
    norms) have neither decay nor the adaptive factor.

    Args:
        params: As in torch.
        lr: Rate.
        momentum: Of the updates [0.9, SimCLR].
        weight_decay: Added to the gradient [0].
        trust: eta [0.001, SimCLR].

    Raises:
        UserError: A negative number.
    """

    def __init__(
        self,
        params: Iterable,
        lr: float,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        trust: float = 0.001,
    ) -> None:
        numbers = dict(lr=lr, momentum=momentum, weight_decay=weight_decay, trust=trust)
        for name, value in numbers.items():
            if not value >= 0:
                raise UserError(
                    f"LARS: {name}={value} is negative.", "Choose 0 or more."
                )
        super().__init__(params, numbers)

    @torch.no_grad()
    def step(self, closure: Callable[[], Tensor] | None = None) -> Tensor | None:
        """One update.

        Args:
            closure: Computes the loss anew, as in torch.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._move(parameter, group)
        return loss

    def _move(self, parameter: Tensor, group: dict) -> None:
        gradient, factor = parameter.grad, 1.0
        if parameter.dim() > 1:
            gradient = gradient + group["weight_decay"] * parameter
            own, slope = parameter.norm(), gradient.norm()
            ratio = group["trust"] * own / slope
            factor = torch.where((own > 0) & (slope > 0), ratio, 1.0)
        update = group["lr"] * factor * gradient
        state = self.state[parameter]
        if "momentum_buffer" in state:
            update = state["momentum_buffer"].mul_(group["momentum"]).add_(update)
        else:
            state["momentum_buffer"] = update.clone()
        parameter.sub_(update)
