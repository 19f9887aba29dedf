"""Taps: what is recorded, in which order, and that nothing stays behind."""

import pytest
import torch
from torch import nn

from pld_mmdet.distill.feature_tap import FeatureTap


class Net(nn.Module):
    """y = twice(twice(x) + 1), and a layer that never runs."""

    def __init__(self) -> None:
        super().__init__()
        self.twice, self.idle = nn.Linear(1, 1, bias=False), nn.Identity()
        nn.init.constant_(self.twice.weight, 2.0)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.twice(self.twice(x) + 1.0)


def test_every_call_in_order():
    net = Net()
    with FeatureTap(inner=net.twice, whole=net, idle=net.idle) as tap:
        net(torch.tensor([[3.0]]))
    assert [tap.called(name) for name in ("inner", "whole", "idle")] == [
        True,
        True,
        False,
    ]
    # the first call unless another one is named
    assert [tap.inputs("inner")[0].item(), tap.output("inner").item()] == [3, 6]
    assert [tap.inputs("inner", 1)[0].item(), tap.output("inner", 1).item()] == [7, 14]
    assert [tap.inputs("whole")[0].item(), tap.output("whole").item()] == [3, 14]


def test_a_block_begins_empty_and_nothing_is_heard_outside():
    net = Net()
    tap = FeatureTap(inner=net.twice)
    with tap:
        net(torch.tensor([[3.0]]))
    net(torch.tensor([[5.0]]))
    with pytest.raises(IndexError):
        tap.output("inner", 2)
    with pytest.raises(RuntimeError), tap:
        net(torch.zeros(1, 2))
    net(torch.tensor([[5.0]]))
    assert not tap.called("inner")
