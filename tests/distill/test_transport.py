"""Transport by hand, step by step in the log domain, and what is empty or wrong."""

import math
from itertools import pairwise

import pytest
import torch

from pld_mmdet.distill import transport
from pld_mmdet.distill.transport import (
    objective,
    partial_ot,
    semantic_partial_ot,
    sinkhorn,
)
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
        for count in (2, 4):
            with pytest.raises(UserError, match=rf"masses \(2,\) and \({count},\)"):
                sinkhorn(cost, columns=torch.ones(count))
        with pytest.raises(UserError, match=r"masses \(1,\) and \(3,\)"):
            sinkhorn(cost, rows=torch.ones(1))
        with pytest.raises(UserError, match="rows hold 1, columns 3"):
            sinkhorn(cost, columns=torch.ones(3))


def in_logarithms(cost, rho, epsilon, gamma, steps, v=None):
    """P2OT's scaling without absorption: ``steps`` steps from potentials ``v``."""
    n, clusters = cost.shape
    exponent = torch.cat([-cost / epsilon, torch.zeros(n, 1).double()], 1)
    target = torch.tensor([rho / clusters] * clusters + [1 - rho]).double()
    power = torch.tensor([gamma / (gamma + epsilon)] * clusters + [1.0]).double()
    v = torch.zeros(clusters + 1).double() if v is None else v
    for _ in range(steps):
        u = -math.log(n) - (exponent + v).logsumexp(1)
        v = power * (target.log() - (exponent + u[:, None]).logsumexp(0))
    u = -math.log(n) - (exponent + v).logsumexp(1)
    return (exponent + u[:, None] + v).exp()[:, :clusters], v


class TestPartial:
    cost = torch.tensor(
        [[0.1, 2.3, 1.0], [0.5, 0.9, 3.0], [0.6, 0.8, 0.2], [1.6, 0.2, -0.7]],
        dtype=torch.float64,
    )

    @pytest.mark.parametrize("absorb", [1e8, 1.2])
    @pytest.mark.parametrize("steps", [1, 4, 5, 13])
    def test_each_step(self, steps, absorb, monkeypatch):
        monkeypatch.setattr(transport, "_ABSORB", absorb)
        options = dict(rho=0.7, epsilon=0.3, gamma=0.8)
        plan, potentials = in_logarithms(self.cost, **options, steps=steps)
        found = partial_ot(self.cost, **options, max_iterations=steps, tolerance=0.0)
        torch.testing.assert_close(found[0], plan)
        torch.testing.assert_close(found[1], potentials)
        # the same from where another run has ended
        plan, potentials = in_logarithms(self.cost, **options, steps=2, v=potentials)
        found = partial_ot(self.cost, **options, potentials=found[1], max_iterations=2)
        torch.testing.assert_close(found[0], plan)
        torch.testing.assert_close(found[1], potentials)

    def test_all_mass_has_no_virtual_column(self):
        plan, potentials = partial_ot(self.cost, 1.0, 0.3, max_iterations=1)
        assert potentials.shape == (4,)
        assert potentials[3] == 0
        v = (-self.cost / 0.3).log_softmax(1).logsumexp(0)
        v = (math.log(1 / 3) - v + math.log(4)) * (1.0 / 1.3)
        torch.testing.assert_close(potentials[:3], v)
        torch.testing.assert_close(plan, (v - self.cost / 0.3).softmax(1) / 4)

    @pytest.mark.parametrize("tolerance", [1.0, 1e-2, 1e-5])
    def test_ends_at_the_first_look_that_finds_no_change(self, tolerance):
        options = dict(rho=0.7, epsilon=0.3, gamma=0.8)
        v = [in_logarithms(self.cost, **options, steps=n)[1] for n in range(99)]
        small = [((a - b).expm1().abs() <= tolerance).all() for a, b in pairwise(v)]
        end = next(n for n in range(5, 99, 5) if small[n - 1])
        assert tolerance == 1.0 or end > 5
        found = partial_ot(self.cost, **options, tolerance=tolerance)
        torch.testing.assert_close(found[1], v[end])


class TestSimilarity:
    # what is similar to what, and not the other way round
    similarity = torch.tensor(
        [[0, 3, 0, 1], [0, 0, 2, 0], [0.5, 0, 0, 0], [0, 0, 0.25, 0]],
        dtype=torch.float64,
    )

    def test_objective_by_hand(self):
        plan = torch.tensor([[0.2, 0.1], [0.0, 0.5]]).double()
        cost = torch.tensor([[1.0, 3.0], [7.0, 2.0]]).double()
        # 0.2 + 0.3 + 1; x ln x of 0.2, 0.1, 0.2 left over, 0.5, 0
        linear = 1.5
        entropy = 0.4 * math.log(0.2) + 0.1 * math.log(0.1) + 0.5 * math.log(0.5)
        # columns hold 0.2 and 0.6, where 0.4 is asked of each
        off = 0.2 * math.log(0.5) + 0.2 + 0.6 * math.log(1.5) - 0.2
        found = objective(plan, cost, 0.8, 0.3, math.inf)
        assert found == pytest.approx(linear + 0.3 * entropy)
        found = objective(plan, cost, 0.8, 0.3, 0.7)
        assert found == pytest.approx(linear + 0.3 * entropy + 0.7 * off)
        # rows multiply to (0.05, 0.05; 0.05, 0.25): 5 x 0.05 + 3 x 0.05 + 2 x 0.25
        similar = torch.tensor([[0.0, 5.0], [3.0, 2.0]]).double()
        found = objective(plan, cost, 0.8, 0.3, 0.7, similar, 0.6)
        expected = linear + 0.3 * entropy + 0.7 * off - 0.6 * 0.9
        assert found == pytest.approx(expected)

    @pytest.mark.parametrize("rounds", [1, 2])
    def test_each_round_solves_the_tangent(self, rounds):
        cost, s, lam = TestPartial.cost, self.similarity, 0.6
        options = dict(rho=0.7, epsilon=0.3, gamma=0.8)
        plan, potentials = torch.full_like(cost, 0.7 / 12), None
        for _ in range(rounds):
            tangent = cost - lam * (s + s.T) @ plan
            plan, potentials = partial_ot(tangent, **options, potentials=potentials)
        found = semantic_partial_ot(cost, s, lam=lam, **options, rounds=rounds)
        torch.testing.assert_close(found[0], plan, rtol=1e-12, atol=0)
        torch.testing.assert_close(found[1], potentials, rtol=1e-12, atol=0)

    def test_ends_when_the_objective_rests(self, monkeypatch):
        solve, calls = transport.partial_ot, []

        def counted(*args):
            calls.append(args[4:])
            return solve(*args)

        monkeypatch.setattr(transport, "partial_ot", counted)
        options = dict(rho=0.7, lam=0.6, epsilon=0.3, gamma=0.8)
        for tolerance, rounds in ((1e3, 2), (0.0, 9)):
            calls.clear()
            semantic_partial_ot(
                TestPartial.cost,
                self.similarity,
                **options,
                rounds=9,
                tolerance=tolerance,
                max_iterations=33,
            )
            assert len(calls) == rounds
            assert calls[0] == (None, 33, tolerance)
