"""Teachers: networks that answer and get no gradient."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


class Teacher(nn.Module):
    """A network in evaluation mode without gradients, whatever ``train()`` is told.

    Its weights are in the checkpoint of the model that holds it, so a run that is
    resumed needs no other file. Call it under ``torch.no_grad()``, or let autograd pass
    through it to its input (a score function, a discriminator).

    Args:
        network: The network; its parameters stop requiring gradients.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        network.eval()  # mmsegmentation's backbones return None from it
        self.network = network.requires_grad_(False)

    def train(self, mode: bool = True) -> "Teacher":
        """Stay in evaluation mode."""
        return super().train(False)

    def forward(self, *args, **kwargs):
        """The network's answer."""
        return self.network(*args, **kwargs)


class Frozen(Teacher):
    """A teacher whose weights never change."""


class Averaged(Teacher):
    """A teacher that starts as a copy of its student and follows it (an EMA).

    Who moves it: ``TeacherEMAHook``, or the model with ``ema_update``.

    Args:
        student: What is copied.
    """

    def __init__(self, student: nn.Module) -> None:
        super().__init__(copy.deepcopy(student))


@contextmanager
def fixed(network: nn.Module) -> Iterator[None]:
    """Gradients pass through a network to its input and stop at its weights.

    For networks that learn elsewhere: a critic in the generator's turn, the inner
    network of a bilevel problem. What was trainable is so again afterwards.

    Args:
        network: Run it inside the block; ``backward`` may come later.
    """
    parameters = [p for p in network.parameters() if p.requires_grad]
    for parameter in parameters:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in parameters:
            parameter.requires_grad_(True)
