"""Read what flows through a module, without touching the module's code."""

from collections.abc import Callable

from torch import nn


class FeatureTap:
    """Record inputs and outputs of named modules while a block runs.

    A method that needs a feature deep inside a stock network taps it during the pass
    that happens anyway: nothing is computed twice and no forward is re-written.

    Args:
        **modules: The modules to listen to, under the names they are asked by.

    Examples:
        >>> import torch
        >>> net = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
        >>> with FeatureTap(last=net[1]) as tap:
        ...     _ = net(torch.zeros(4, 2))
        >>> tap.inputs("last")[0].shape, tap.output("last").shape
        (torch.Size([4, 3]), torch.Size([4, 1]))
    """

    def __init__(self, **modules: nn.Module) -> None:
        self._modules = modules
        self._calls: dict[str, list] = {}
        self._handles: list = []

    def __enter__(self) -> "FeatureTap":
        self._calls = {name: [] for name in self._modules}
        self._handles = [
            module.register_forward_hook(self._recorder(name))
            for name, module in self._modules.items()
        ]
        return self

    def __exit__(self, *exc) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles = []

    def _recorder(self, name: str) -> Callable:
        def record(module, inputs, output):
            self._calls[name].append((inputs, output))

        return record

    def called(self, name: str) -> bool:
        """Whether the module ran inside the block."""
        return bool(self._calls[name])

    def inputs(self, name: str, call: int = 0) -> tuple:
        """Positional inputs of one call (the first by default)."""
        return self._calls[name][call][0]

    def output(self, name: str, call: int = 0):
        """Output of one call (the first by default)."""
        return self._calls[name][call][1]
