"""AdaBN: statistics of the new domain, and nothing else."""

import copy

import torch
from torch import nn

from pld_mmdet.distill.adabn import estimate_batch_norm


def test_statistics_are_the_average_over_batches():
    net = nn.Sequential(nn.BatchNorm1d(2), nn.Dropout(0.5)).train()
    net[0].running_mean.fill_(9.0)
    batches = [
        torch.tensor([[0.0, 1.0], [2.0, 3.0]]),
        torch.tensor([[4.0, 5.0], [4.0, 9.0]]),
    ]
    assert estimate_batch_norm(net, batches, net) == 1
    assert torch.allclose(net[0].running_mean, torch.tensor([2.5, 4.5]))
    # unbiased variances: (2, 2) and (0, 8), averaged
    assert torch.allclose(net[0].running_var, torch.tensor([1.0, 5.0]))


def test_weights_modes_and_momentum_stay():
    net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)).train()
    net[1].eval()
    before = copy.deepcopy(dict(net.named_parameters()))
    estimate_batch_norm(net, [torch.randn(2, 3, 5, 5)], net)
    assert net.training
    assert not net[1].training
    assert net[1].momentum == 0.1
    for name, value in net.named_parameters():
        assert torch.equal(value, before[name])
        assert value.grad is None


def test_without_batch_norm_no_batch_is_run():
    def forward(batch):
        raise AssertionError("ran a batch for nothing")

    assert estimate_batch_norm(nn.GroupNorm(1, 2), [torch.zeros(1)], forward) == 0
