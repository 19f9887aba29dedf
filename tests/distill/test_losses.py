"""Losses by hand, their limits, what is empty, ruled out, half precise or wrong."""

import math

import pytest
import torch
from torch.nn import functional as F

from pld_mmdet.distill.losses import (
    channelwise_kl,
    entropy,
    entropy_of_log,
    masked_mean,
    pseudo_huber,
    soft_cross_entropy,
    soft_nll,
)
from pld_mmdet.errors import UserError

P = torch.tensor([[0.7, 0.2, 0.1], [0.05, 0.15, 0.8]], dtype=torch.float64)
# -sum p ln p of each row, worked out by hand
H = torch.tensor([0.8018185525433372, 0.6128694524619496], dtype=torch.float64)
INF = float("inf")


def empty(*shape: int) -> torch.Tensor:
    return torch.zeros(shape, requires_grad=True)


def assert_zero_with_gradient(loss: torch.Tensor, source: torch.Tensor) -> None:
    assert loss.item() == 0
    loss.backward()
    assert source.grad.shape == source.shape
    assert torch.isfinite(source.grad).all()


class TestEntropy:
    def test_by_hand(self):
        # a shift of logits is no other distribution
        torch.testing.assert_close(entropy(P.log() + 3.0), H)
        torch.testing.assert_close(entropy_of_log(P.log()), H)
        normalised = entropy(P.log(), normalise=True)
        torch.testing.assert_close(normalised, H / 1.0986122886681098)
        two = torch.tensor([0.7, 0.3]).log()
        # 0.6108643 / ln 2
        assert entropy(two, normalise=True).item() == pytest.approx(0.8812909)

    def test_the_classes_may_lie_elsewhere(self):
        pixels = P.log().T.reshape(1, 3, 2, 1)
        torch.testing.assert_close(entropy(pixels, dim=1), H.reshape(1, 2, 1))
        torch.testing.assert_close(entropy_of_log(pixels, 1), H.reshape(1, 2, 1))
        last = pixels.movedim(1, -1)
        torch.testing.assert_close(entropy_of_log(last), H.reshape(1, 2, 1))
        torch.testing.assert_close(entropy(last), H.reshape(1, 2, 1))
        half = entropy(pixels, 1, True)
        torch.testing.assert_close(half, H.reshape(1, 2, 1) / math.log(3))

    def test_uniform_has_most_and_one_hot_none(self):
        uniform = entropy(torch.zeros(4, 5), normalise=True)
        torch.testing.assert_close(uniform, torch.ones(4))
        assert entropy(torch.tensor([9e3, 0.0, 0.0])).item() == 0
        assert entropy(torch.randn(3, 1), normalise=True).tolist() == [0, 0, 0]

    def test_ruled_out_classes_add_nothing(self):
        logits = torch.tensor([[0.7, 0.3, 0.0]]).log().requires_grad_()
        value = entropy(logits)
        # -(0.7 ln 0.7 + 0.3 ln 0.3)
        assert value.item() == pytest.approx(0.6108643, abs=1e-6)
        value.sum().backward()
        assert torch.isfinite(logits.grad).all()
        assert logits.grad[0, 2] == 0

    def test_half_precision_is_computed_in_single(self):
        logits = torch.tensor([[1.0, 2.0, 5.0]], dtype=torch.bfloat16)
        value = entropy(logits)
        assert value.dtype == torch.float32
        torch.testing.assert_close(value, entropy(logits.double()).float())
        assert entropy(logits.double()).dtype == torch.float64
        log_p = logits.float().log_softmax(-1).bfloat16()
        assert entropy_of_log(log_p).dtype == torch.float32

    def test_gradient_and_no_rows(self):
        assert torch.autograd.gradcheck(entropy, P.log().requires_grad_())
        source = empty(0, 4)
        assert_zero_with_gradient(entropy(source, normalise=True).sum(), source)


class TestSoftCrossEntropy:
    target = torch.tensor([[0.1, 0.6, 0.3], [0.25, 0.0, 0.25]], dtype=torch.float64)
    # row 1: -(.1 ln .7 + .6 ln .2 + .3 ln .1); row 2 holds half a mass
    rows = torch.tensor([1.6921057697525468, 0.8047189562170503], dtype=torch.float64)

    def test_by_hand(self):
        logits = P.log() - 2.0
        each = soft_cross_entropy(logits, self.target, reduction="none")
        torch.testing.assert_close(each, self.rows)
        torch.testing.assert_close(soft_nll(P.log(), self.target), self.rows)
        mean = soft_cross_entropy(logits, self.target)
        assert mean.item() == pytest.approx((1.69210577 + 0.80471896) / 2)

    def test_weights_do_not_enter_the_divisor(self):
        weight = torch.tensor([3.0, 0.2], dtype=torch.float64)
        each = soft_cross_entropy(P.log(), self.target, weight, "none")
        torch.testing.assert_close(each, weight * self.rows)
        mean = soft_cross_entropy(P.log(), self.target, weight)
        expected = (3 * 1.69210577 + 0.2 * 0.80471896) / 2
        assert mean.item() == pytest.approx(expected)

    def test_hard_targets_and_own_targets(self):
        logits = torch.randn(6, 4)
        labels = torch.tensor([0, 3, 1, 1, 2, 0])
        hard = soft_cross_entropy(logits, F.one_hot(labels, 4))
        torch.testing.assert_close(hard, F.cross_entropy(logits, labels))
        own = soft_cross_entropy(logits, logits.softmax(-1), reduction="none")
        torch.testing.assert_close(own, entropy(logits))

    def test_more_dimensions(self):
        logits, target = torch.randn(2, 2, 3, 4)
        weight = torch.tensor([[0.5, 1.0, 2.0], [0.0, 3.0, 0.1]])
        flat = soft_cross_entropy(
            logits.flatten(0, 1), target.flatten(0, 1), weight.flatten()
        )
        torch.testing.assert_close(soft_cross_entropy(logits, target, weight), flat)
        maps = soft_nll(logits.log_softmax(1), target, dim=1)
        assert maps.shape == (2, 4)
        moved = soft_cross_entropy(logits.mT, target.mT, reduction="none")
        torch.testing.assert_close(maps, moved)

    def test_gradients_flow_to_both(self):
        pair = P.log().requires_grad_(), self.target.clone().requires_grad_()
        assert torch.autograd.gradcheck(soft_cross_entropy, pair)

    def test_ruled_out_classes(self):
        logits = torch.tensor([[0.2, 0.8, 0.0]]).log().requires_grad_()
        target = torch.tensor([[0.5, 0.5, 0.0]], requires_grad=True)
        value = soft_cross_entropy(logits, target)
        assert value.item() == pytest.approx(0.9162907, abs=1e-6)
        value.backward()
        expected = torch.tensor([[-0.3, 0.3, 0.0]])
        torch.testing.assert_close(logits.grad, expected)
        assert torch.isfinite(target.grad).all()
        # mass where the network rules it out costs infinitely much, as in kl
        lost = soft_cross_entropy(logits, torch.tensor([[0.5, 0.4, 0.1]]))
        assert lost.item() == INF

    def test_large_but_possible_is_not_infinite(self):
        logits = torch.tensor([[0.0, 5e3]])
        value = soft_cross_entropy(logits, torch.tensor([[1.0, 0.0]]))
        assert value.item() == 5e3

    def test_half_precision_is_computed_in_single(self):
        logits = torch.tensor([[1.0, 2.0, 5.0]]).half()
        target = torch.tensor([[0.1, 0.2, 0.7]]).half()
        value = soft_cross_entropy(logits, target, torch.ones(1).half())
        assert value.dtype == torch.float32
        wide = soft_cross_entropy(logits.double(), target.double())
        torch.testing.assert_close(value, wide.float())

    def test_no_rows(self):
        source = empty(0, 3)
        loss = soft_cross_entropy(source, torch.zeros(0, 3), torch.zeros(0))
        assert_zero_with_gradient(loss, source)

    def test_what_does_not_fit(self):
        z = torch.zeros(2, 3)
        with pytest.raises(UserError, match=r"logits \(2, 3\), target \(2, 1\)"):
            soft_cross_entropy(z, z[:, :1])
        with pytest.raises(UserError, match=r"weight \(2, 1\), rows \(2,\)"):
            soft_cross_entropy(z, z, z[:, :1])
        with pytest.raises(UserError, match="reduction='sum' is not known") as error:
            soft_cross_entropy(z, z, reduction="sum")
        assert error.value.fix == "Choose one of 'mean', 'none'."


class TestMaskedMean:
    def test_by_hand(self):
        values = torch.tensor([[1.0, 5.0], [9.0, 3.0]])
        mask = torch.tensor([[True, False], [True, True]])
        assert masked_mean(values, mask).item() == pytest.approx(13 / 3)
        assert masked_mean(values, mask.float()) == masked_mean(values, mask)
        one = torch.tensor([[False, True], [False, False]])
        assert masked_mean(values, one).item() == 5

    def test_what_is_not_marked_may_be_anything(self):
        values = torch.tensor([math.nan, 4.0, INF], requires_grad=True)
        loss = masked_mean(values, torch.tensor([False, True, False]))
        assert loss.item() == 4
        loss.backward()
        assert values.grad.tolist() == [0, 1, 0]

    def test_nothing_marked(self):
        values = torch.tensor([2.0, 3.0], requires_grad=True)
        loss = masked_mean(values, torch.zeros(2, dtype=torch.bool))
        assert_zero_with_gradient(loss, values)
        none = empty(0)
        assert_zero_with_gradient(masked_mean(none, none.detach() > 0), none)

    def test_half_precision_is_summed_in_single(self):
        values = torch.full((4096,), 1.5, dtype=torch.bfloat16)
        mean = masked_mean(values, values > 0)
        assert mean.dtype == torch.float32
        assert mean.item() == 1.5

    def test_shapes_that_differ(self):
        with pytest.raises(UserError, match=r"values \(2, 3\), mask \(3,\)"):
            masked_mean(torch.zeros(2, 3), torch.ones(3, dtype=torch.bool))


class TestPseudoHuber:
    def test_by_hand(self):
        d = torch.tensor([[3.0, 4.0], [0.0, -1.0]])
        rows = pseudo_huber(d, 2.0, over="sample")
        # sqrt(25 + 4) - 2, sqrt(1 + 4) - 2
        torch.testing.assert_close(rows, torch.tensor([3.3851648, 0.2360680]))
        mean = pseudo_huber(d, 2.0, over="element")
        # sqrt 13 - 2, sqrt 20 - 2, 0, sqrt 5 - 2
        expected = (1.6055513 + 2.4721360 + 0.2360680) / 4
        assert mean.item() == pytest.approx(expected, abs=1e-6)
        images = pseudo_huber(d.reshape(2, 1, 2, 1), 2.0, over="sample")
        assert torch.equal(images, rows)
        numbers = pseudo_huber(torch.tensor([3.0, -4.0]), 2.0, over="sample")
        torch.testing.assert_close(numbers, torch.tensor([1.6055513, 2.4721360]))

    def test_small_and_large_differences(self):
        small = torch.tensor([[1e-4]])
        # exact to the last digits where sqrt(d^2 + c^2) - c would be 0 in float32
        value = pseudo_huber(small, 3.0, "sample").item()
        assert value == pytest.approx(1e-8 / 6, rel=1e-6)
        large = pseudo_huber(torch.tensor([[3e4]]), 3.0, "sample").item()
        assert large == pytest.approx(3e4 - 3, rel=1e-6)

    @pytest.mark.parametrize("over", ["sample", "element"])
    def test_gradient_also_at_zero(self, over):
        d = torch.tensor([[0.0, 0.0], [0.3, -2.0]], dtype=torch.float64)
        d.requires_grad_()
        assert torch.autograd.gradcheck(lambda x: pseudo_huber(x, 0.7, over), d)

    def test_no_rows(self):
        for over in ("sample", "element"):
            source = empty(0, 3)
            value = pseudo_huber(source, 1.0, over)
            assert value.shape == ((0,) if over == "sample" else ())
            assert_zero_with_gradient(value.sum(), source)

    def test_half_precision_is_computed_in_single(self):
        value = pseudo_huber(torch.full((2, 3), 300.0).half(), 1.0, "element")
        assert value.dtype == torch.float32
        assert value.item() == pytest.approx(299.00167, rel=1e-6)

    def test_over_has_no_default_and_two_words(self):
        d = torch.zeros(2, 3)
        with pytest.raises(TypeError, match="over"):
            pseudo_huber(d, 1.0)
        with pytest.raises(UserError, match="over='batch' is not known"):
            pseudo_huber(d, 1.0, "batch")
        for c in (0.0, -1.0, math.nan):
            with pytest.raises(UserError, match=r"c=.* is not positive"):
                pseudo_huber(d, c, "sample")
        with pytest.raises(UserError, match="a single number has no samples"):
            pseudo_huber(torch.tensor(1.0), 1.0, "sample")
        one = pseudo_huber(torch.tensor(3.0), 2.0, "element")
        assert one.item() == pytest.approx(1.6055513)


class TestChannelwiseKL:
    def test_by_hand(self):
        """Two channels of 1 x 2 pixels: pixel distributions (.7 .3), (.4 .6)."""
        teacher = torch.tensor([[[[0.7, 0.3]], [[0.4, 0.6]]]]).log()
        student = torch.tensor([[[[0.2, 0.8]], [[0.5, 0.5]]]]).log()
        # .7 ln 3.5 + .3 ln .375 and .4 ln .8 + .6 ln 1.2, mean of the two
        expected = (0.5826853 + 0.0201355) / 2
        value = channelwise_kl(student, teacher, 1.0)
        assert value.item() == pytest.approx(expected, abs=1e-6)
        # logits times tau at temperature tau: the same distributions, tau^2 beside
        scaled = channelwise_kl(3 * student, 3 * teacher, 3.0)
        assert scaled.item() == pytest.approx(9 * expected, abs=1e-5)

    def test_equals_the_formula(self):
        student, teacher = torch.randn(2, 2, 3, 4, 5)
        tau = 4.0
        t = (teacher.flatten(2) / tau).softmax(-1)
        s = (student.flatten(2) / tau).softmax(-1)
        expected = tau**2 / (2 * 3) * (t * (t / s).log()).sum()
        torch.testing.assert_close(channelwise_kl(student, teacher, tau), expected)

    def test_a_shift_of_a_channel_changes_nothing(self):
        maps = torch.randn(2, 3, 4, 4)
        shifted = maps + torch.randn(2, 3, 1, 1)
        assert channelwise_kl(maps, shifted, 2.0).item() == pytest.approx(0, abs=1e-5)

    def test_the_gradient_stops_at_the_teacher(self):
        student, teacher = (torch.randn(1, 2, 3, 3, requires_grad=True) for _ in "st")
        channelwise_kl(student, teacher, 1.0).backward()
        assert teacher.grad is None
        assert student.grad.abs().sum() > 0

    def test_no_images_and_what_does_not_fit(self):
        source = empty(0, 2, 3, 3)
        loss = channelwise_kl(source, source.detach(), 1.0)
        assert_zero_with_gradient(loss, source)
        z = torch.zeros(1, 2, 3, 3)
        with pytest.raises(UserError, match=r"student .*, teacher \(1, 2, 3, 1\)"):
            channelwise_kl(z, z[..., :1], 1.0)
        for maps in (z[0], z[None]):
            with pytest.raises(UserError, match="is not \\[N, C, H, W\\]"):
                channelwise_kl(maps, maps, 1.0)
        with pytest.raises(UserError, match="temperature=0"):
            channelwise_kl(z, z, 0.0)
