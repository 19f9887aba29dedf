"""Teachers stay in evaluation mode, get no gradient, and travel in the checkpoint."""

import copy

import pytest
import torch
from torch import nn

from pld_mmdet.distill.teachers import Averaged, Committee, Frozen, fixed
from pld_mmdet.errors import UserError


def network():
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.5))


def test_train_does_not_reach_a_teacher():
    model = nn.ModuleDict({"student": network(), "teacher": Frozen(network())})
    assert not any(m.training for m in model["teacher"].modules())
    model.train()
    assert model["student"].training
    assert not any(m.training for m in model["teacher"].modules())
    before = {k: v.clone() for k, v in model["teacher"].state_dict().items()}
    model["teacher"](torch.randn(5, 3))
    after = model["teacher"].state_dict()
    assert all(torch.equal(after[k], before[k]) for k in before)


def test_gradients_pass_through_to_the_input_only():
    teacher = Frozen(nn.Linear(3, 1))
    x = torch.ones(2, 3, requires_grad=True)
    teacher(x).sum().backward()
    torch.testing.assert_close(x.grad, teacher.network.weight.expand(2, 3))
    assert teacher.network.weight.grad is None


def test_an_averaged_teacher_is_a_copy():
    student = nn.Linear(3, 1)
    teacher = Averaged(student)
    assert torch.equal(teacher.network.weight, student.weight)
    assert student.weight.requires_grad
    with torch.no_grad():
        student.weight.add_(1)
    assert not torch.equal(teacher.network.weight, student.weight)


class Fixed(nn.Module):
    """Answers with the same logits whatever comes."""

    def __init__(self, *probabilities: float, scale: float = 1.0) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.tensor([probabilities]).log() + scale)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.logits.expand(len(x), -1)


class TestCommittee:
    one, two = (0.9, 0.1), (0.2, 0.8)

    def answer(self, weights=None, on="probabilities"):
        networks = [Fixed(*self.one, scale=3.0), Fixed(*self.two, scale=-1.0)]
        return Committee(networks, weights, on)(torch.zeros(1, 5))

    def test_mean_of_probabilities(self):
        torch.testing.assert_close(self.answer(), torch.tensor([[0.55, 0.45]]))
        weighted = self.answer([3.0, 1.0])
        torch.testing.assert_close(weighted, torch.tensor([[0.725, 0.275]]))
        torch.testing.assert_close(self.answer([0.75, 0.25]), weighted)
        alone = self.answer([0.0, 7.0])
        torch.testing.assert_close(alone, torch.tensor([[0.2, 0.8]]))

    def test_mean_of_logits(self):
        """Raw logits, scale included: (.9^3 .2)^(1/4) and (.1^3 .8)^(1/4), shifted."""
        logits = self.answer([3.0, 1.0], on="logits")
        expected = (3 * torch.tensor([self.one]).log() + 9) / 4
        expected = expected + (torch.tensor([self.two]).log() - 1) / 4
        torch.testing.assert_close(logits, expected)
        plain = self.answer(on="logits").softmax(-1)
        # sqrt(.18) and sqrt(.08): 3 to 2
        torch.testing.assert_close(plain, torch.tensor([[0.6, 0.4]]))

    def test_frozen_in_evaluation_mode_and_in_the_checkpoint(self):
        committee = Committee([network(), network()], statistics="batch").train()
        assert not any(m.training for m in committee.modules())
        assert not any(p.requires_grad for p in committee.parameters())
        assert "network.1.0.weight" in committee.state_dict()
        x = torch.randn(5, 3, requires_grad=True)
        committee(x)[:, 0].sum().backward()
        assert x.grad.abs().sum() > 0
        assert all(p.grad is None for p in committee.parameters())

    def test_running_statistics(self):
        net = network()
        net[1].running_mean.copy_(torch.tensor([1.0, 2.0, -1.0, 0.5]))
        x = torch.randn(5, 3)
        expected = copy.deepcopy(net).eval()(x).softmax(-1)
        torch.testing.assert_close(Committee([net])(x), expected)

    def test_statistics_of_the_batch_leave_no_trace(self):
        net = network()
        net[1].running_mean.copy_(torch.tensor([1.0, 2.0, -1.0, 0.5]))
        committee = Committee([net, network()], [1.0, 0.0], "logits", "batch")
        before = copy.deepcopy(committee.state_dict())
        x = torch.randn(6, 3)
        h = net[0](x)
        expected = (h - h.mean(0)) / (h.var(0, unbiased=False) + 1e-5).sqrt()
        torch.testing.assert_close(committee(x), expected)  # and no dropout
        after = committee.state_dict()
        assert after.keys() == before.keys()
        assert all(torch.equal(after[k], before[k]) for k in before)
        assert not any(m.training for m in committee.modules())
        assert net[1].track_running_stats
        # two rows more change what the others get: it is the batch that counts
        more = committee(torch.cat([x, torch.ones(2, 3)]))[:6]
        assert not torch.allclose(more, expected)

    def test_an_error_inside_leaves_no_trace_either(self):
        committee = Committee([network()], statistics="batch")
        with pytest.raises(RuntimeError):
            committee(torch.randn(2, 4))
        assert not any(m.training for m in committee.modules())
        assert committee.network[0][1].track_running_stats

    def test_half_precision_is_averaged_in_single(self):
        nets = [Fixed(*self.one).bfloat16(), Fixed(*self.two).bfloat16()]
        assert Committee(nets)(torch.zeros(1, 1)).dtype == torch.float32
        assert Committee(nets)(torch.zeros(0, 1)).shape == (0, 2)

    @pytest.mark.parametrize(
        "weights",
        [
            [1.0],
            [1.0, -0.5],
            [0.0, 0.0],
            [1.0, float("nan")],
            [1, float("inf")],
            [1, 1, 1],
        ],
    )
    def test_weights_that_do_not_fit(self, weights):
        with pytest.raises(UserError, match="for 2 networks"):
            self.answer(weights)

    def test_classes_lie_last_whatever_comes_before(self):
        logits = torch.randn(2, 3, 4)
        torch.testing.assert_close(
            Committee([nn.Identity()])(logits), logits.softmax(-1)
        )

    def test_words_networks_and_classes_that_do_not_fit(self):
        with pytest.raises(UserError, match="there is no network"):
            Committee([])
        with pytest.raises(UserError, match="on='votes' is not known"):
            self.answer(on="votes")
        with pytest.raises(UserError, match="statistics='none' is not known"):
            Committee([Fixed(1.0)], statistics="none")
        with pytest.raises(UserError, match=r"network 0 \(1, 1\), network 1 \(1, 2\)"):
            Committee([Fixed(1.0), Fixed(*self.one)])(torch.zeros(1, 1))


def test_fixed_stops_at_the_weights_and_gives_them_back():
    net = nn.Linear(2, 1)
    net.bias.requires_grad_(False)
    x = torch.ones(1, 2, requires_grad=True)
    with fixed(net):
        y = net(x)
    y.backward()
    torch.testing.assert_close(x.grad, net.weight.detach())
    assert net.weight.grad is None
    assert net.weight.requires_grad
    assert not net.bias.requires_grad
