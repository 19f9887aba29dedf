"""Transport by hand, in the log domain, against POT, and what is empty or wrong."""

import math
import warnings
from itertools import pairwise

import numpy as np
import pytest
import torch

from pld_mmdet.distill import transport
from pld_mmdet.distill.transport import (
    objective,
    partial_ot,
    semantic_partial_ot,
    sinkhorn,
)
from pld_mmdet.engine.run.optional import require
from pld_mmdet.errors import UserError

PROBS = torch.tensor([[0.9, 0.1], [0.6, 0.4], [0.55, 0.45], [0.2, 0.8]])


@pytest.fixture(scope="module")
def problem():
    """Costs of 40 samples and 5 clusters, and similarities in blocks."""
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(40, 5, generator=generator, dtype=torch.double)
    features = torch.randn(40, 3, generator=generator, dtype=torch.double)
    return -logits.log_softmax(1), (-(torch.cdist(features, features) ** 2)).exp()


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


class TestPartialAgainstOthers:
    def test_numbers_of_the_specification(self):
        plan, _ = partial_ot(-PROBS.log(), rho=0.5)
        expected = [[0.889515, 0], [0.121565, 0.007729], [0.053789, 0.026511]]
        expected = torch.tensor([*expected, [0, 0.900891]], dtype=torch.double)
        assert torch.allclose(4 * plan, expected, atol=2e-6)
        assert plan.sum(0).tolist() == pytest.approx([0.266217, 0.233783], abs=1e-6)
        uniform, _ = partial_ot(-PROBS.log(), rho=0.5, gamma=math.inf)
        assert uniform.sum(0).tolist() == pytest.approx([0.25, 0.25])

    @pytest.mark.parametrize("rho", [0.1, 0.5, 1.0])
    def test_masses(self, problem, rho):
        plan, _ = partial_ot(problem[0], rho, max_iterations=5000)
        assert plan.sum().item() == pytest.approx(rho, abs=1e-5)
        assert plan.min() >= 0
        assert plan.sum(1).max() <= 1 / 40 + 1e-12

    def test_balanced_case_is_pots_sinkhorn(self, problem):
        ot = require("ot", "weak_supervision")
        rows, columns = np.full(40, 1 / 40), np.full(5, 1 / 5)
        cost, exact = problem[0].numpy(), dict(stopThr=1e-12, numItermax=20000)
        reference = ot.sinkhorn(rows, columns, cost, 0.1, **exact)
        plan, _ = partial_ot(
            problem[0], 1.0, gamma=math.inf, tolerance=1e-10, max_iterations=20000
        )
        assert np.abs(plan.numpy() - reference).max() < 1e-8
        # A virtual column of cost 0 makes the partial problem a balanced one.
        wide = np.hstack([cost, np.zeros((40, 1))])
        targets = np.array([0.06] * 5 + [0.7])
        reference = ot.sinkhorn(rows, targets, wide, 0.1, **exact)[:, :5]
        plan, _ = partial_ot(
            problem[0], 0.3, gamma=math.inf, tolerance=1e-10, max_iterations=20000
        )
        assert np.abs(plan.numpy() - reference).max() < 1e-7

    def test_relaxed_columns_are_pots_semi_relaxed_transport(self, problem):
        ot = require("ot", "weak_supervision")
        rows, columns = np.full(40, 1 / 40), np.full(5, 1 / 5)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it says that `entropy` sets c to one
            reference = ot.unbalanced.sinkhorn_unbalanced(
                rows,
                columns,
                problem[0].numpy(),
                0.1,
                (math.inf, 0.7),
                reg_type="entropy",
                stopThr=1e-12,
            )
        plan, _ = partial_ot(problem[0], 1.0, gamma=0.7, tolerance=1e-10)
        assert np.abs(plan.numpy() - reference).max() < 1e-8

    def test_huge_costs_of_either_sign_do_not_overflow(self, problem):
        plan, _ = partial_ot(100 * problem[0] - 500, 0.5, max_iterations=5000)
        assert torch.isfinite(plan).all()
        far = problem[0].clone()
        far[:, 4] += 1e4  # a whole column underflows
        plan, potentials = partial_ot(far, 1.0, gamma=math.inf, max_iterations=5000)
        assert torch.isfinite(potentials).all()
        assert plan.sum(0).tolist() == pytest.approx([0.2] * 5, abs=1e-4)

    def test_a_warm_start_changes_nothing_but_the_time(self, problem):
        cold, potentials = partial_ot(problem[0], 0.4, max_iterations=9000)
        warm, _ = partial_ot(problem[0], 0.4, potentials=potentials, max_iterations=5)
        assert torch.allclose(cold, warm, atol=1e-7)

    def test_confident_rows_get_more_mass(self):
        mass = partial_ot(-PROBS.log(), rho=0.5)[0].sum(1)
        assert mass.argsort(descending=True).tolist() == [3, 0, 1, 2]


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

    def test_weight_0_is_p2ot(self, problem):
        cost, similarity = problem
        plain, _ = partial_ot(cost, 0.4)
        for s, lam in ((similarity, 0.0), (None, 5.0)):
            assert torch.equal(semantic_partial_ot(cost, s, 0.4, lam)[0], plain)

    def test_similar_samples_agree_more(self, problem):
        cost, similarity = problem
        plans = [
            semantic_partial_ot(cost, similarity, 0.5, lam)[0] for lam in (0.0, 20.0)
        ]
        weak, strong = ((q @ q.T * similarity).sum() for q in plans)
        assert strong > 1.05 * weak

    def test_the_objective_never_rises(self, problem):
        """For a positive semi-definite S each round majorises."""
        cost, similarity = problem
        values = []
        for rounds in range(1, 6):
            plan, _ = semantic_partial_ot(
                cost, similarity, 0.5, 10.0, rounds=rounds, tolerance=1e-9
            )
            values.append(objective(plan, cost, 0.5, 0.1, 1.0, similarity, 10.0))
        assert all(b <= a + 1e-7 for a, b in pairwise(values))
        assert values[-1] < values[0] - 1e-4
