"""A method's step beside the shortest loop of plain torch that does the same."""

import functools
from collections.abc import Callable
from dataclasses import dataclass

import torch
from mmengine.registry import MODELS
from torch import Tensor, nn

from pld_mmdet.benchmark.plan import Plan
from pld_mmdet.benchmark.timing import Comparison, run_in_turn
from pld_mmdet.engine.optim.finite import FiniteOptimWrapper

LR = 1e-2
TARGET = 1.15


@dataclass
class Pair:
    """Two ways to take the same step, each on networks of its own.

    Attributes:
        name: Of the method, as people write it.
        setting: Batch and what else decides the time; the size is added.
        model: Of our side.
        twin: A copy of it, whose networks the plain loop trains.
        ours: One step of ``model``.
        plain: One step of ``twin``, written from the equations.
        kept_apart: Tensors of the model that the plain loop holds in another form.
        weightless: The method trains a handful of numbers, not a network.
    """

    name: str
    setting: str
    model: nn.Module
    twin: nn.Module
    ours: Callable[[], object]
    plain: Callable[[], object]
    kept_apart: tuple[str, ...] = ()
    weightless: bool = False


def step_case(build: Callable[[], Pair]) -> Callable[[Plan], list[Comparison]]:
    """Make a benchmark case of the function that builds a pair."""

    @functools.wraps(build)
    def case(plan: Plan) -> list[Comparison]:
        torch.manual_seed(0)
        pair = build()
        return [
            compare(
                plan,
                f"{pair.name} step / plain torch",
                f"{pair.setting}, {size(pair.model)}",
                {type(pair.model).__name__: pair.ours, "plain loop": pair.plain},
            )
        ]

    return case


def compare(plan: Plan, case: str, setting: str, sides: dict) -> Comparison:
    """Time our side (the first) and the plain one in turn."""
    rounds = plan.choose(15, 3)
    ours, theirs = sides
    tick = plan.counter((rounds + 2) * 2)
    return Comparison(
        case=case,
        setting=setting,
        timings=run_in_turn(sides, rounds, 2, tick),
        subject=ours,
        rivals=(theirs,),
        target=TARGET,
    )


def build(kind: str, **config) -> nn.Module:
    """A model of this project."""
    return MODELS.build(dict(type=f"pld_mmdet.{kind}", **config))


def size(model: nn.Module) -> str:
    """How many weights, in words."""
    return f"{sum(p.numel() for p in model.parameters()) / 1e6:.1f} M parameters"


def sgd(network: nn.Module, momentum: float = 0.0) -> torch.optim.SGD:
    """The optimizer of both sides."""
    learning = [p for p in network.parameters() if p.requires_grad]
    return torch.optim.SGD(learning, lr=LR, momentum=momentum)


def ours(model: nn.Module, batch: dict, momentum: float = 0.0) -> Callable[[], object]:
    """The model's own ``train_step``, as the Runner calls it."""
    wrapper = FiniteOptimWrapper(sgd(model, momentum))
    return lambda: model.train_step(batch, wrapper)


def plain(twin: nn.Module, loss: Callable[[], Tensor]) -> Callable[[], None]:
    """Loss, gradient, step."""
    optimizer = sgd(twin)

    def step() -> None:
        descend(optimizer, loss())

    return step


def descend(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    """One step of the plain side."""
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


def conv_net(*widths: int) -> dict:
    """Config of a convolutional network for colour images."""
    return dict(type="pld_mmdet.SmallConvNet", in_channels=3, widths=widths)
