"""Sinkhorn: both sides' masses, by hand, against the partial solver, and nothing."""

import math

import pytest
import torch

from pld_mmdet.distill.transport import partial_ot, sinkhorn
from pld_mmdet.errors import UserError


class TestSinkhorn:
    def test_by_hand(self):
        """Q = [[a, b], [b, a]] with a / b = exp(C / epsilon), a + b = 1/2."""
        cost = torch.tensor([[0.0, 0.3], [0.3, 0.0]])
        plan = sinkhorn(cost, epsilon=0.2)
        a = 0.5 / (1 + math.exp(-1.5))
        expected = torch.tensor([[a, 0.5 - a], [0.5 - a, a]], dtype=torch.float64)
        torch.testing.assert_close(plan, expected, atol=1e-6, rtol=0)

    def test_masses_of_both_sides(self):
        torch.manual_seed(0)
        cost = torch.rand(4, 3)
        rows = torch.tensor([0.5, 0.1, 1.4, 0.0])
        columns = torch.tensor([1.2, 0.0, 0.8])
        plan = sinkhorn(cost, 0.1, rows, columns)
        torch.testing.assert_close(plan.sum(1), rows.double())
        torch.testing.assert_close(plan.sum(0), columns.double(), atol=1e-6, rtol=0)
        assert (plan >= 0).all()
        # Q_ij = u_i v_j exp(-C_ij / epsilon) is what an optimum looks like
        scaled = (plan * (cost.double() / 0.1).exp())[:3, [0, 2]]
        assert torch.linalg.matrix_rank(scaled, rtol=1e-9) == 1

    def test_equals_the_partial_solver_with_all_mass(self):
        torch.manual_seed(1)
        cost = torch.rand(9, 4) * 3
        plan, _ = partial_ot(cost, 1.0, 0.3, math.inf, tolerance=1e-12)
        ours = sinkhorn(cost, 0.3, tolerance=1e-12)
        torch.testing.assert_close(ours, plan, atol=1e-9, rtol=0)

    def test_costs_of_any_size(self):
        cost = torch.tensor([[1e6, -1e6], [0.0, 1e6]])
        plan = sinkhorn(cost, 0.01)
        torch.testing.assert_close(
            plan, torch.tensor([[0.0, 0.5], [0.5, 0.0]]).double()
        )

    def test_stops_when_the_columns_are_close_enough(self):
        torch.manual_seed(2)
        cost = torch.rand(6, 3)
        misses = [
            (sinkhorn(cost, 0.05, tolerance=t).sum(0) - 1 / 3).abs().max().item()
            for t in (1e-2, 1e-8)
        ]
        assert 1e-8 < misses[0] <= 1e-2
        assert misses[1] <= 1e-8
        one = sinkhorn(cost, 0.05, max_iterations=1)
        torch.testing.assert_close(one, (-cost.double() / 0.05).softmax(1) / 6)

    def test_no_rows_and_no_gradient(self):
        assert sinkhorn(torch.zeros(0, 3)).shape == (0, 3)
        assert sinkhorn(torch.zeros(3, 0)).shape == (3, 0)
        assert not sinkhorn(torch.rand(2, 2).requires_grad_()).requires_grad

    def test_what_does_not_fit(self):
        cost = torch.zeros(2, 3)
        with pytest.raises(UserError, match=r"epsilon=0\.0 is not positive"):
            sinkhorn(cost, 0.0)
        with pytest.raises(UserError, match=r"masses \(3,\) and \(3,\)"):
            sinkhorn(cost, rows=torch.ones(3), columns=torch.ones(3))
        with pytest.raises(UserError, match=r"masses \(2,\) and \(2,\)"):
            sinkhorn(cost, columns=torch.ones(2))
        with pytest.raises(UserError, match="rows hold 1, columns 3"):
            sinkhorn(cost, columns=torch.ones(3))
