"""Optimal transport as a pseudo-labeller: Sinkhorn, P2OT, SP2OT (Zhang et al. 2024).

Everything here is a pure function of scores, without gradient, in double precision.
"""

import math

import torch
from torch import Tensor

from pld_mmdet.distill._checks import positive
from pld_mmdet.errors import UserError

_ABSORB = 1e8  # scalings beyond this go into the potentials (released code)
_TINY = 1e-200  # keeps scalings finite between two looks
_LOOK = 5  # steps between two looks at the scalings: each waits for the device


@torch.no_grad()
def sinkhorn(
    cost: Tensor,
    epsilon: float = 0.1,
    rows: Tensor | None = None,
    columns: Tensor | None = None,
    max_iterations: int = 1000,
    tolerance: float = 1e-6,
) -> Tensor:
    """Transport with fixed masses on both sides (Cuturi 2013), in the log domain.

    Minimises ``<C, Q> - epsilon H(Q)`` under ``Q 1 = rows`` and ``Q^T 1 = columns``.

    Args:
        cost: N x K, usually ``-log`` of probabilities.
        epsilon: Weight of the entropy, > 0.
        rows: Mass of each row, [N]; None: 1/N.
        columns: Mass of each column, [K]; None: 1/K.
        max_iterations: Most scaling steps of both sides.
        tolerance: Stops when no column misses its mass by more.

    Returns:
        Q [N, K] in double precision; its rows are exact, its columns to the tolerance.

    Raises:
        UserError: No positive epsilon, masses of a wrong shape, or masses whose sums
            differ.
    """
    positive("sinkhorn", epsilon=epsilon)
    count, clusters = cost.shape
    exponent = -cost.double() / epsilon
    if not cost.numel():
        return exponent.exp()
    if rows is None:
        rows = exponent.new_full((count,), 1.0 / count)
    if columns is None:
        columns = exponent.new_full((clusters,), 1.0 / clusters)
    rows, columns = rows.to(exponent), columns.to(exponent)
    if rows.shape != (count,) or columns.shape != (clusters,):
        raise UserError(
            f"sinkhorn: masses {tuple(rows.shape)} and {tuple(columns.shape)} for a "
            f"cost {tuple(cost.shape)}.",
            "They are [N] and [K] of a cost [N, K].",
        )
    if not torch.isclose(rows.sum(), columns.sum()):
        raise UserError(
            f"sinkhorn: rows hold {rows.sum():g}, columns {columns.sum():g}.",
            "Give both sides the same mass, or use partial_ot.",
        )
    v = torch.zeros_like(columns)
    for _ in range(max_iterations):
        u = rows.log() - (exponent + v).logsumexp(1)
        plan = (exponent + u[:, None] + v).exp()
        if ((plan.sum(0) - columns).abs() <= tolerance).all():
            break
        v = columns.log() - (exponent + u[:, None]).logsumexp(0)
    return plan


def _partial_kernel(
    cost: Tensor, rho: float, epsilon: float, gamma: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Exponent of the kernel, targets and powers of the columns; virtual column last.

    Without mass left over (rho = 1) there is no virtual column.
    """
    clusters = cost.shape[1]
    exponent = -cost / epsilon
    target = cost.new_full((clusters,), rho / clusters)
    relaxed = 1.0 if math.isinf(gamma) else gamma / (gamma + epsilon)
    power = torch.full_like(target, relaxed)
    if rho < 1.0:
        exponent = torch.cat([exponent, exponent.new_zeros(len(cost), 1)], 1)
        target = torch.cat([target, target.new_tensor([1.0 - rho])])
        power = torch.cat([power, power.new_ones(1)])
    return exponent, target, power


@torch.no_grad()
def partial_ot(
    cost: Tensor,
    rho: float,
    epsilon: float = 0.1,
    gamma: float = 1.0,
    potentials: Tensor | None = None,
    max_iterations: int = 1000,
    tolerance: float = 1e-6,
) -> tuple[Tensor, Tensor]:
    """Transport a share ``rho`` of N samples to K clusters (P2OT).

    Minimises ``<C, Q> - epsilon H(Q) + gamma KL(Q^T 1 || rho/K)`` under ``Q 1 <= 1/N``
    and total mass ``rho``. A virtual column of cost 0 takes the mass that is left, so
    that scaling solves it: rows exactly, the virtual column exactly, the K real ones
    by the power ``gamma / (gamma + epsilon)``. The scalings are absorbed into
    potentials when they grow, so costs of any size and sign are fine.

    Args:
        cost: N x K, usually ``-log`` of probabilities.
        rho: Mass that is transported, in (0, 1].
        epsilon: Weight of the entropy.
        gamma: Weight of the divergence of the columns; inf: uniform exactly.
        potentials: Log scalings of the columns to start from, [K + 1]; see Returns.
        max_iterations: Most scaling steps.
        tolerance: Stops when no column's scaling changes by a larger share; looked at
            every fifth step.

    Returns:
        Q [N, K] without the virtual column, and the columns' log scalings [K + 1] to
        start the next call from.
    """
    exponent, target, power = _partial_kernel(cost.double(), rho, epsilon, gamma)
    columns = exponent.shape[1]
    v = exponent.new_zeros(columns)
    if potentials is not None:
        v = potentials[:columns].to(v)
    row = exponent.new_tensor(1.0 / len(cost))
    u = -(exponent + v).amax(1)
    kernel = (exponent + u[:, None] + v).exp()
    b = torch.ones_like(v)
    gain = ((power - 1.0) * v).exp()  # the power of the scaling that is already in v
    for step in range(1, max_iterations + 1):
        before = b
        a = row / (kernel @ b).clamp_(min=_TINY)
        # A column that underflows is lifted by the next absorption.
        b = (target / (a @ kernel).clamp_(min=_TINY)).pow_(power).mul_(gain)
        if step % _LOOK and step < max_iterations:
            continue
        low, high = b.aminmax()  # rows of the kernel reach 1, so a <= 1 / low
        if high > _ABSORB or low * _ABSORB < 1:
            # The clamp keeps an underflowing column within double's range.
            v = v + b.log().clamp(-500, 500)
            u = -(exponent + v).amax(1)
            kernel = (exponent + u[:, None] + v).exp()
            b = torch.ones_like(v)
            gain = ((power - 1.0) * v).exp()
        elif ((b - before).abs() <= tolerance * b).all():
            break
    a = row / (kernel @ b).clamp(min=_TINY)
    plan = a[:, None] * kernel * b
    scalings = torch.zeros(cost.shape[1] + 1, dtype=v.dtype, device=v.device)
    scalings[:columns] = v + b.log()
    return plan[:, : cost.shape[1]], scalings


def objective(
    plan: Tensor,
    cost: Tensor,
    rho: float,
    epsilon: float,
    gamma: float,
    similarity: Tensor | None = None,
    lam: float = 0.0,
) -> float:
    """What (S)P2OT minimises, virtual column and its entropy included.

    Args:
        plan: Q, N x K.
        cost: N x K.
        rho: As in :func:`partial_ot`.
        epsilon: As there.
        gamma: As there; with inf the divergence is 0 and left out.
        similarity: S, N x N; None: none.
        lam: Its weight.
    """
    rows, clusters = plan.shape
    rest = (1.0 / rows - plan.sum(1)).clamp(min=0)
    whole = torch.cat([plan, rest[:, None]], 1)
    value = (cost * plan).sum() + epsilon * torch.special.xlogy(whole, whole).sum()
    if not math.isinf(gamma):
        mass, target = plan.sum(0), rho / clusters
        divergence = torch.special.xlogy(mass, mass / target) - mass + target
        value = value + gamma * divergence.sum()
    if similarity is not None:
        value = value - lam * (plan * (similarity @ plan)).sum()
    return value.item()


@torch.no_grad()
def semantic_partial_ot(
    cost: Tensor,
    similarity: Tensor | None,
    rho: float,
    lam: float,
    epsilon: float = 0.1,
    gamma: float = 1.0,
    potentials: Tensor | None = None,
    rounds: int = 100,
    tolerance: float = 1e-6,
    max_iterations: int = 1000,
) -> tuple[Tensor, Tensor]:
    """P2OT whose similar samples go together: ``- lam <S, Q Q^T>`` is added (SP2OT).

    Majorise and minimise: the added term is replaced by its tangent at Q, whose cost
    is ``C - lam (S + S^T) Q``, and P2OT is solved; from ``Q = rho / (N K)`` until the
    objective changes by less than ``tolerance``.

    Args:
        cost: N x K.
        similarity: S, N x N, not necessarily symmetric; None: plain P2OT.
        rho: As in :func:`partial_ot`.
        lam: Weight of the similarity.
        epsilon: As in :func:`partial_ot`.
        gamma: As in :func:`partial_ot`.
        potentials: As in :func:`partial_ot`.
        rounds: Most solves of P2OT [100].
        tolerance: Change of the objective that ends it, and of the scalings [1e-6].
        max_iterations: Of each solve.

    Returns:
        As :func:`partial_ot`.
    """
    cost = cost.double()
    solver = (rho, epsilon, gamma)
    if similarity is None or lam == 0.0:
        return partial_ot(cost, *solver, potentials, max_iterations, tolerance)
    similarity = similarity.to(cost)
    both = lam * (similarity + similarity.T)
    plan = torch.full_like(cost, rho / cost.numel())
    value = math.inf
    for _ in range(rounds):
        tangent = cost - both @ plan
        plan, potentials = partial_ot(
            tangent, *solver, potentials, max_iterations, tolerance
        )
        before = value
        value = objective(plan, cost, *solver, similarity, lam)
        if abs(before - value) < tolerance:
            break
    return plan, potentials
