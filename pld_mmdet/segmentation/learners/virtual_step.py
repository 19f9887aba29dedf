"""Where a student stands, to be gone back to after steps that only looked ahead."""

import torch
from mmengine.optim import OptimWrapper
from torch import Tensor, nn


class StandPoint:
    """A copy of a network's weights and of its optimizer's state.

    Args:
        network: Its parameters are copied.
        buffers: Also copy its buffers (batch-norm statistics).
        optim_wrapper: Also copy this optimizer's state (moments, step counts) and the
            count of steps of its wrapper. None: they keep what the steps did to them.

    Examples:
        >>> from torch import nn
        >>> net = nn.Linear(1, 1)
        >>> before = net.weight.item()
        >>> here = StandPoint(net)
        >>> _ = nn.init.constant_(net.weight, 9)
        >>> here.restore()
        >>> net.weight.item() == before
        True
    """

    def __init__(
        self,
        network: nn.Module,
        buffers: bool = True,
        optim_wrapper: OptimWrapper | None = None,
    ) -> None:
        self.tensors = [p.data for p in network.parameters()]
        if buffers:
            self.tensors += list(network.buffers())
        self.copies = [tensor.clone() for tensor in self.tensors]
        self.wrapper = optim_wrapper
        if optim_wrapper is not None:
            self.count = optim_wrapper._inner_count
            self.state = {
                parameter: {name: _copy(value) for name, value in entries.items()}
                for parameter, entries in optim_wrapper.optimizer.state.items()
            }

    @torch.no_grad()
    def restore(self) -> None:
        """Go back; may be called several times."""
        for tensor, copy in zip(self.tensors, self.copies, strict=True):
            tensor.copy_(copy)
        if self.wrapper is None:
            return
        self.wrapper._inner_count = self.count
        state = self.wrapper.optimizer.state
        for parameter in list(state):
            if parameter not in self.state:  # its first step was a virtual one
                del state[parameter]
                continue
            state[parameter] = {
                name: _copy(value) for name, value in self.state[parameter].items()
            }


def _copy(value: Tensor | float | None) -> Tensor | float | None:
    return value.clone() if isinstance(value, Tensor) else value


class RunningMean:
    """The mean of a network's states, gathered one by one.

    Args:
        network: Whose parameters are averaged.
        buffers: Also average its floating-point buffers.
    """

    def __init__(self, network: nn.Module, buffers: bool = True) -> None:
        self.tensors = [p.data for p in network.parameters()]
        if buffers:
            self.tensors += [b for b in network.buffers() if b.is_floating_point()]
        self.sums = [torch.zeros_like(tensor) for tensor in self.tensors]
        self.count = 0

    @torch.no_grad()
    def add(self) -> None:
        """Add the present state."""
        torch._foreach_add_(self.sums, self.tensors)
        self.count += 1

    @torch.no_grad()
    def put(self) -> None:
        """Make the mean the network's state."""
        for tensor, total in zip(self.tensors, self.sums, strict=True):
            tensor.copy_(total / self.count)
