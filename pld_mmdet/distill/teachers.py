"""Teachers: networks that answer and get no gradient."""

import copy

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
        self.network = network.eval().requires_grad_(False)

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
