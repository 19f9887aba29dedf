"""AdaBN: statistics of the new domain, and nothing else."""

import copy

import pytest
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


def test_a_batch_counts_as_its_images_at_each_call_of_a_shared_layer():
    net = nn.BatchNorm1d(1)

    def twice(batch):  # as a head does on two levels
        net(batch)
        net(batch + 100.0)

    batches = [torch.tensor([[0.0], [1.0], [5.0]]), torch.tensor([[3.0], [9.0]])]
    estimate_batch_norm(net, batches, twice, len)
    # means 2, 102 (of 3) and 6, 106 (of 2): (3 * 104 + 2 * 112) / 10
    assert net.running_mean.item() == pytest.approx(53.6)
    # unbiased variances 7 and 18, each twice
    assert net.running_var.item() == pytest.approx((3 * 14 + 2 * 36) / 10)
    assert not net._forward_pre_hooks


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


def test_what_a_trained_network_has_tracked_is_forgotten():
    """1,000 batches of mean 9 before, one of mean 2 now: 2, not 8.99."""
    net = nn.BatchNorm1d(1).train()
    net.running_mean.fill_(9.0)
    net.running_var.fill_(50.0)
    net.num_batches_tracked.fill_(1000)
    estimate_batch_norm(net, [torch.tensor([[1.0], [3.0]])], net)
    assert net.running_mean.tolist() == [2.0]
    assert net.running_var.tolist() == [2.0]
    assert net.num_batches_tracked.item() == 1


def test_everything_but_batch_norm_is_in_evaluation_mode_meanwhile():
    """A model left in training mode would drop half of what the norms see."""
    seen = []

    class Watch(nn.Module):
        def forward(self, x):
            seen.append(self.training)
            return x

    dropout, norm, watch = nn.Dropout(0.5), nn.BatchNorm1d(3), Watch()
    net = nn.Sequential(dropout, norm, watch).train()
    x = torch.tensor([[2.0, 4.0, 6.0], [4.0, 8.0, 1.0]])

    def forward(batch):
        assert not torch.is_grad_enabled()
        assert [m.training for m in (net, dropout, norm)] == [False, False, True]
        net(batch)

    estimate_batch_norm(net, [x, x], forward)
    assert seen == [False, False]
    torch.testing.assert_close(norm.running_mean, torch.tensor([3.0, 6.0, 3.5]))
    assert all(m.training for m in net.modules())


def test_an_error_on_the_way_puts_modes_and_momentum_back():
    net = nn.Sequential(nn.BatchNorm1d(2, momentum=0.3), nn.Dropout(0.5)).train()
    net[0].eval()
    with pytest.raises(RuntimeError):
        estimate_batch_norm(net, [torch.zeros(2, 5)], net)
    assert [m.training for m in net.modules()] == [True, False, True]
    assert net[0].momentum == 0.3


def test_layers_without_running_statistics_are_left_alone():
    net = nn.Sequential(
        nn.BatchNorm1d(2), nn.BatchNorm1d(2, track_running_stats=False)
    ).eval()
    assert estimate_batch_norm(net, [torch.randn(4, 2)], net) == 1
    assert net[1].momentum == 0.1
    assert not net[1].training
