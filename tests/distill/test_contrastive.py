"""Contrastive losses by hand, as loops over rows, and where there is no pair."""

import math

import pytest
import torch

from pld_mmdet.distill.contrastive import barlow_twins_loss, nt_xent, sup_con
from pld_mmdet.errors import UserError
from tests.distill.test_losses import assert_zero_with_gradient, empty

A = torch.tensor([[3.0, 4.0], [1.0, 0.0]], dtype=torch.float64)  # (.6, .8), (1, 0)
B = torch.tensor([[0.0, 2.0], [4.0, 3.0]], dtype=torch.float64)  # (0, 1), (.8, .6)


def log_sum(*values: float) -> float:
    return math.log(sum(math.exp(v) for v in values))


class TestNTXent:
    def test_by_hand(self):
        """Cosines: a1a2 .6, a1b1 .8, a1b2 .96, a2b1 0, a2b2 .8, b1b2 .6; tau .5."""
        a1 = log_sum(1.2, 1.6, 1.92) - 1.6
        a2 = log_sum(1.2, 0.0, 1.6) - 1.6
        b1 = log_sum(1.6, 0.0, 1.2) - 1.6
        b2 = log_sum(1.92, 1.6, 1.2) - 1.6
        expected = (a1 + a2) / 2 + (b1 + b2) / 2
        assert nt_xent(A, B, 0.5).item() == pytest.approx(expected, rel=1e-12)
        assert expected == pytest.approx(1.7414275, abs=1e-6)

    def test_lengths_and_the_order_of_views_do_not_matter(self):
        lengths = torch.tensor([[2.0], [0.1]], dtype=torch.float64)
        torch.testing.assert_close(nt_xent(lengths * A, B, 0.2), nt_xent(A, B, 0.2))
        torch.testing.assert_close(nt_xent(B, A, 0.2), nt_xent(A, B, 0.2))
        assert nt_xent(A, B.flip(0), 0.2) != nt_xent(A, B, 0.2)

    def test_equals_a_loop_over_rows(self):
        torch.manual_seed(0)
        a, b = torch.randn(2, 5, 3, dtype=torch.float64)
        views = [v / v.norm() for v in torch.cat([a, b])]
        total = 0.0
        for i, view in enumerate(views):
            others = [j for j in range(10) if j != i]
            cosines = {j: (view @ views[j]).item() / 0.3 for j in others}
            total += log_sum(*cosines.values()) - cosines[(i + 5) % 10]
        assert nt_xent(a, b, 0.3).item() == pytest.approx(total / 5)

    def test_gradient_and_half_precision(self):
        pair = A.clone().requires_grad_(), B.clone().requires_grad_()
        assert torch.autograd.gradcheck(lambda a, b: nt_xent(a, b, 0.5), pair)
        half = nt_xent(A.half(), B.half(), 0.5)
        assert half.dtype == torch.float32
        assert half.item() == pytest.approx(1.7414275, abs=1e-5)

    def test_one_pair_and_none(self):
        one = A[:1].clone().requires_grad_()
        assert_zero_with_gradient(nt_xent(one, B[:1], 0.1), one)
        source = empty(0, 3)
        assert_zero_with_gradient(nt_xent(source, source.detach(), 0.1), source)

    def test_what_does_not_fit(self):
        with pytest.raises(UserError, match=r"a \(2, 2\), b \(1, 2\)"):
            nt_xent(A, B[:1], 0.5)
        for a, b in ((A[0], B[0]), (A[None], B[None])):
            with pytest.raises(UserError, match=r"a \(.*\) is not a matrix"):
                nt_xent(a, b, 0.5)
        with pytest.raises(UserError, match="temperature=0 is not positive"):
            nt_xent(A, B, 0)


class TestSupCon:
    bank = torch.tensor([[0.0, 5.0], [4.0, 3.0], [1.0, 0.0]], dtype=torch.float64)
    same = torch.tensor([[True, True, False], [False, False, True]])

    def test_by_hand(self):
        """Cosines of a1: .8 .96 .6; of a2: 0 .8 1; tau .2."""
        first = log_sum(4.0, 4.8, 3.0) - (4.0 + 4.8) / 2
        second = log_sum(0.0, 4.0, 5.0) - 5.0
        value = sup_con(A, self.bank, self.same, 0.2)
        assert value.item() == pytest.approx((first + second) / 2, rel=1e-12)

    def test_anchors_without_a_positive_do_not_count(self):
        same = self.same.clone()
        same[1] = False
        alone = sup_con(A[:1], self.bank, same[:1], 0.2)
        torch.testing.assert_close(sup_con(A, self.bank, same, 0.2), alone)

    def test_nothing_is_left_out_of_the_bank(self):
        """The anchor itself is in it: cosine 1 in the denominator and as positive."""
        value = sup_con(A, A, torch.eye(2, dtype=torch.bool), 0.5)
        assert value.item() == pytest.approx(log_sum(2.0, 1.2) - 2.0)

    def test_own_rows_leave_both_sums(self):
        """Without cosine .96 of a1, and without 1 of a2, whose only positive it was."""
        own = torch.tensor([[False, True, False], [False, False, True]])
        value = sup_con(A, self.bank, self.same, 0.2, own)
        assert value.item() == pytest.approx(log_sum(4.0, 3.0) - 4.0)
        with pytest.raises(UserError, match=r"same \(2, 3\), own \(2, 2\)"):
            sup_con(A, self.bank, self.same, 0.2, own[:, :2])

    def test_all_the_same_is_the_logarithm_of_the_bank(self):
        ones = torch.ones(4, 3)
        value = sup_con(ones[:2], 7 * ones, torch.ones(2, 4), 0.1)
        assert value.item() == pytest.approx(math.log(4))

    def test_gradient_and_half_precision(self):
        pair = A.clone().requires_grad_(), self.bank.clone().requires_grad_()
        assert torch.autograd.gradcheck(
            lambda a, b: sup_con(a, b, self.same, 0.5), pair
        )
        assert sup_con(A.half(), self.bank.half(), self.same, 0.5).dtype is (
            torch.float32
        )

    @pytest.mark.parametrize(("n", "m"), [(2, 3), (0, 3), (2, 0)])
    def test_no_positive_at_all(self, n, m):
        source = torch.ones(n, 2, requires_grad=True)
        same = torch.zeros(n, m, dtype=torch.bool)
        loss = sup_con(source, self.bank[:m].float(), same, 0.1)
        assert_zero_with_gradient(loss, source)

    def test_what_does_not_fit(self):
        for wrong in (self.same.T, self.same[:1]):
            with pytest.raises(UserError, match="do not fit together"):
                sup_con(A, self.bank, wrong, 0.1)
        for width in (1, 4):
            with pytest.raises(UserError, match="do not fit together"):
                sup_con(A, torch.zeros(3, width), self.same, 0.1)
        with pytest.raises(UserError, match=r"bank .* is not a matrix"):
            sup_con(A, self.bank[0], self.same, 0.1)
        with pytest.raises(UserError, match="temperature=-1"):
            sup_con(A, self.bank, self.same, -1)


class TestBarlowTwins:
    def test_by_hand(self):
        """Two features, perfectly correlated: C is all ones; 2 weight for the rest."""
        z = torch.tensor([[1.0, 1.0], [-1.0, -1.0], [1.0, 1.0], [-1.0, -1.0]])
        assert barlow_twins_loss(z, z, 0.3).item() == pytest.approx(0.6, abs=1e-3)
        assert barlow_twins_loss(z, z).item() == pytest.approx(0.01, abs=1e-4)
        z = torch.tensor([[1.0, 1.0], [-1.0, 1.0], [1.0, -1.0], [-1.0, -1.0]])
        assert barlow_twins_loss(z, z, 0.3).item() == pytest.approx(0.0, abs=1e-3)
        assert barlow_twins_loss(z, -z, 0.3).item() == pytest.approx(8.0, abs=1e-3)

    def test_equals_the_formula(self):
        torch.manual_seed(1)
        a, b = torch.randn(2, 7, 3, dtype=torch.float64)
        c = torch.corrcoef(torch.cat([a, b], 1).T)[:3, 3:]
        expected = (1 - c.diagonal()).square().sum()
        expected = expected + 0.3 * (c - c.diagonal().diag()).square().sum()
        found = barlow_twins_loss(a, b, 0.3)
        torch.testing.assert_close(found, expected, atol=1e-3, rtol=0)

    def test_scale_and_shift_of_a_feature_do_not_matter(self):
        torch.manual_seed(0)
        a, b = torch.randn(2, 16, 3, dtype=torch.float64)
        moved = barlow_twins_loss(5 * a + 2, b)
        torch.testing.assert_close(moved, barlow_twins_loss(a, b), atol=1e-4, rtol=0)

    def test_no_rows_and_one(self):
        source = empty(0, 3)
        assert_zero_with_gradient(barlow_twins_loss(source, source.detach()), source)
        with pytest.raises(UserError, match="one row has no correlation"):
            barlow_twins_loss(torch.ones(1, 3), torch.ones(1, 3))
        with pytest.raises(UserError, match="shapes differ"):
            barlow_twins_loss(torch.ones(4, 3), torch.ones(4, 2))
