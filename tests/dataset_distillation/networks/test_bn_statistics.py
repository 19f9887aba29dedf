"""The gap between a batch's statistics and those that batch norm has kept."""

import pytest
import torch

from pld_mmdet.dataset_distillation.networks.bn_statistics import statistics_gap
from pld_mmdet.errors import UserError

# |(1, 0)| + |(0, 3)| = 4 and |(3, 4)| + |(0, 0)| = 5
FIRST = [torch.tensor(v) for v in ([1.0, 2], [1.0, 4], [0.0, 2], [1.0, 1])]
SECOND = [torch.tensor(v) for v in ([3.0, 6], [1.0, 2], [0.0, 2], [1.0, 2])]


def gap(*layers, **options) -> torch.Tensor:
    return statistics_gap(*map(list, zip(*layers, strict=True)), **options)


def test_numbers_worked_by_hand():
    assert gap(FIRST, first=1.0).item() == pytest.approx(4)
    assert gap(FIRST).item() == pytest.approx(40)
    assert gap(FIRST, SECOND).item() == pytest.approx(45)
    assert gap(SECOND, FIRST, first=3.0).item() == pytest.approx(19)


def test_gradients_go_to_the_batch_only_and_are_finite_without_a_gap():
    layer = [vector.clone().requires_grad_() for vector in SECOND]
    gap(layer).backward()
    assert torch.allclose(layer[0].grad, torch.tensor([6.0, 8.0]))  # 10 x (.6, .8)
    assert torch.equal(layer[1].grad, torch.zeros(2))
    assert layer[2].grad is None
    assert layer[3].grad is None


def test_no_layers():
    assert statistics_gap([], [], [], []).item() == 0


def test_what_does_not_fit_is_named():
    with pytest.raises(UserError, match=r"of \[1, 1, 0, 1\] layers"):
        statistics_gap([FIRST[0]], [FIRST[1]], [], [FIRST[3]])
    with pytest.raises(UserError, match="layer 1 has vectors of the shapes"):
        gap(FIRST, [torch.ones(1), *SECOND[1:]])
