"""Low-rank increments beside frozen layers (LoRA), convolutions included."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from pld_mmdet.errors import UserError


class LowRank(nn.Module):
    """A layer that stays as it is, plus ``up(down(x))`` through a few channels.

    Hu et al. 2022; of a convolution ``down`` has its kernel and ``up`` is 1 x 1, as in
    peft. ``up`` starts at 0: nothing is changed. No scale beside the sum
    (alpha = rank).

    Args:
        layer: A linear layer or a convolution without groups.
        rank: Channels r between the two.
    """

    def __init__(self, layer: nn.Linear | nn.Conv2d, rank: int) -> None:
        super().__init__()
        self.layer = layer.requires_grad_(False)
        if isinstance(layer, nn.Linear):
            self.down = nn.Linear(layer.in_features, rank, bias=False)
            self.up: nn.Module = nn.Linear(rank, layer.out_features, bias=False)
        else:
            self.down = nn.Conv2d(
                layer.in_channels,
                rank,
                layer.kernel_size,
                layer.stride,
                layer.padding,
                layer.dilation,
                bias=False,
            )
            self.up = nn.Conv2d(rank, layer.out_channels, 1, bias=False)
        nn.init.zeros_(self.up.weight)

    def forward(self, x: Tensor) -> Tensor:
        """What the layer takes -> what it gives."""
        return self.layer(x) + self.up(self.down(x))


def adapt(network: nn.Module, rank: int, skip: Sequence[str] = ()) -> nn.Module:
    """Give every linear layer and convolution of a network an increment.

    Convolutions with groups (depth-wise ones) are left as they are.

    Args:
        network: Changed in place.
        rank: Of each increment, at least 1.
        skip: Full names of layers that are left as they are.

    Returns:
        The network.

    Raises:
        UserError: No layer to adapt, or no rank.
    """
    if rank < 1:
        raise UserError(f"adapt: rank={rank}.", "Give a rank of at least 1.")
    found = [
        (parent, name, layer)
        for prefix, parent in network.named_modules()
        for name, layer in parent.named_children()
        if f"{prefix}.{name}".lstrip(".") not in skip
        and (
            isinstance(layer, nn.Linear)
            or (isinstance(layer, nn.Conv2d) and layer.groups == 1)
        )
    ]
    if not found:
        raise UserError(
            f"{type(network).__name__} has no linear layer and no convolution.",
            "Adapt another network.",
        )
    for parent, name, layer in found:
        setattr(parent, name, LowRank(layer, rank))
    return network


def increments(network: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    """Names and weights of all increments: what has to be stored of an adaptation."""
    for name, module in network.named_modules():
        if isinstance(module, LowRank):
            start = f"{name}." if name else ""
            yield f"{start}down.weight", module.down.weight
            yield f"{start}up.weight", module.up.weight


@torch.no_grad()
def load_increments(network: nn.Module, stored: dict[str, Tensor]) -> None:
    """Put stored increments into an adapted network.

    Raises:
        UserError: Names or shapes are not the network's.
    """
    own = dict(increments(network))
    wrong = sorted(own.keys() ^ stored.keys()) or [
        name for name in own if own[name].shape != stored[name].shape
    ]
    if wrong:
        raise UserError(
            f"The stored increments do not fit {type(network).__name__}: {wrong[0]}.",
            "Adapt the network and ranks that they were made with.",
        )
    for name, weight in own.items():
        weight.copy_(stored[name])
