"""Teachers: networks that answer and get no gradient."""

import copy
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from pld_mmdet.distill._checks import same_shape, wide
from pld_mmdet.errors import UserError, one_of


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
        self.training = False

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


class Committee(Teacher):
    """Several frozen networks whose weighted mean is the answer.

    Args:
        networks: Each answers with logits [..., K] of the same classes.
        weights: One a network, at least 0; divided by their sum. None: all alike.
        on: What is averaged and returned: ``probabilities``, or ``logits``.
        statistics: ``running``: batch norm as in evaluation. ``batch``: it normalises
            by the batch at hand, and the running buffers stay as they are.

    Raises:
        UserError: No network, weights that do not fit, or an unknown word.
    """

    def __init__(
        self,
        networks: Sequence[nn.Module],
        weights: Sequence[float] | None = None,
        on: str = "probabilities",
        statistics: str = "running",
    ) -> None:
        one_of(
            "Committee",
            on=(on, ("probabilities", "logits")),
            statistics=(statistics, ("running", "batch")),
        )
        networks = list(networks)
        if not networks:
            raise UserError("Committee: there is no network.", "Give one or more.")
        weights = (
            [1.0] * len(networks) if weights is None else list(map(float, weights))
        )
        total = math.fsum(weights)
        if len(weights) != len(networks) or not (
            min(weights) >= 0 and 0 < total < math.inf
        ):
            raise UserError(
                f"Committee: weights={weights} for {len(networks)} networks.",
                "Give each network a weight of at least 0, not 0 to all.",
            )
        super().__init__(nn.ModuleList(networks))
        self.weights = tuple(weight / total for weight in weights)
        self.on, self.statistics = on, statistics

    def forward(self, *args, **kwargs) -> Tensor:
        """Mean probabilities or logits [..., K], whatever the networks are fed with."""
        if self.statistics == "batch":
            with batch_statistics(self.network):
                answers = [network(*args, **kwargs) for network in self.network]
        else:
            answers = [network(*args, **kwargs) for network in self.network]
        same_shape("Committee", **{f"network {i}": a for i, a in enumerate(answers)})
        answers = [wide(answer) for answer in answers]
        if self.on == "probabilities":
            answers = [answer.softmax(-1) for answer in answers]
        pairs = zip(self.weights, answers, strict=True)
        return sum(weight * answer for weight, answer in pairs)


@contextmanager
def batch_statistics(network: nn.Module) -> Iterator[None]:
    """Batch norm normalises by the batch at hand; its running buffers do not move.

    Everything else (dropout) stays in the mode that it is in.

    Args:
        network: Run it inside the block.
    """
    layers = [m for m in network.modules() if isinstance(m, _BatchNorm)]
    before = [(layer.training, layer.track_running_stats) for layer in layers]
    for layer in layers:
        layer.training, layer.track_running_stats = True, False
    try:
        yield
    finally:
        for layer, state in zip(layers, before, strict=True):
            layer.training, layer.track_running_stats = state


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
