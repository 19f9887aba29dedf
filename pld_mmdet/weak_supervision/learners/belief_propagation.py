"""Marginals of binary labels of which only the sums over bags are known."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from pld_mmdet.errors import UserError, one_of

LARGEST_ENUMERATION = 20  # 2^20 states of 20 nodes are 170 MB
LARGEST_LOG_ODDS = 300.0
Bags = Sequence[Sequence[int] | Tensor]


def marginals(
    bags: Bags,
    sums: Sequence[float] | Tensor,
    edges: Sequence | Tensor,
    weights: Sequence[float] | Tensor,
    bag_weight: float,
    smooth_weight: float,
    exact: bool = False,
    *,
    bag_factor: str = "cardinality",
    iterations: int = 100,
    damping: float = 0.5,
    tolerance: float = 1e-6,
) -> Tensor:
    """P(y_i = 1) of a Gibbs distribution over binary labels y.

    With Y_b the known sum of bag b and w_ij the similarity of two instances::

        log P(y) = - bag_weight * sum_b (sum_{i in b} y_i - Y_b)^2
                   - smooth_weight * sum_{ij} w_ij (y_i - y_j)^2 + constant

    Damped sum-product messages, all at once, as log-odds in float64. A bag's factor is
    one of the number of its ones, whose messages are exact (counts of the others,
    forward and backward), or it is written out into pairs, as the released code has it:
    that form oscillates in bags of 32 and more. Either way a bag of two is one pair,
    joined with the edge between its members, so that the result is exact on trees.

    Source: LLP-BP (Havaldar et al. 2023), section 3; google-deepmind/llp_bp (5bca483).

    Args:
        bags: Node indices of each bag; n is the largest index of bags and edges + 1.
        sums: Number of ones Y_b of each bag.
        edges: Pairs of nodes, E x 2. Repeated ones add up, an edge from a node to
            itself does nothing.
        weights: w of each edge, [E].
        bag_weight: lambda_b >= 0 [10 in the code].
        smooth_weight: lambda_s >= 0 [10 in the code].
        exact: Sum over all 2^n labellings instead; at most 20 nodes.
        bag_factor: ``cardinality`` or ``pairwise``.
        iterations: Rounds of messages at most [100].
        damping: Share of the old message that stays [0.5].
        tolerance: Ends before, when no log-odds would change by more [1e-6].

    Returns:
        [n] in the dtype of ``weights`` where that is a tensor of floats.

    Raises:
        UserError: Lengths that do not fit, a sum that its bag cannot have, a negative
            index or weight, or too many nodes to enumerate.
    """
    one_of("marginals", bag_factor=(bag_factor, ("cardinality", "pairwise")))
    is_float = isinstance(weights, Tensor) and weights.is_floating_point()
    dtype = weights.dtype if is_float else torch.get_default_dtype()
    bags = [torch.as_tensor(bag).long().flatten().cpu() for bag in bags]
    sums = torch.as_tensor(sums).double().flatten().cpu()
    edges = torch.as_tensor(edges).long().cpu()
    edges = edges.reshape(-1, 2) if edges.numel() == 0 else edges
    weights = torch.as_tensor(weights).double().flatten().cpu()
    _check(bags, sums, edges, weights, bag_weight, smooth_weight)
    if not bags and not len(edges):
        return torch.zeros(0, dtype=dtype)
    n = 1 + int(torch.cat([*bags, edges.flatten()]).max())
    pulls = smooth_weight * weights
    if exact:
        found = _enumerate(bags, sums, edges, pulls, bag_weight, n)
    else:
        found = _propagate(
            *_unary_and_pairs(bags, sums, edges, pulls, bag_weight, bag_factor, n),
            [] if bag_factor == "pairwise" else _by_size(bags, sums),
            bag_weight,
            (iterations, damping, tolerance),
        )
    return found.to(dtype)


def bag_errors(probabilities: Tensor, bags: Bags, sums: Sequence[float]) -> Tensor:
    """How far the expected sum of each bag is from its known sum, [number of bags]."""
    expected = [probabilities[torch.as_tensor(bag).long()].sum() for bag in bags]
    if not expected:
        return probabilities.new_zeros(0)
    return (torch.stack(expected) - torch.as_tensor(sums).to(probabilities)).abs()


def _check(bags, sums, edges, weights, bag_weight, smooth_weight) -> None:
    if len(bags) != len(sums):
        raise UserError(
            f"marginals: {len(bags)} bags and {len(sums)} sums",
            "give a sum for each bag",
        )
    if edges.shape != (len(weights), 2):
        raise UserError(
            f"marginals: edges of shape {tuple(edges.shape)}, {len(weights)} weights",
            "give edges as E x 2 node indices and one weight each",
        )
    for number, (bag, total) in enumerate(zip(bags, sums.tolist(), strict=True)):
        if not 0 <= total <= len(bag):
            raise UserError(
                f"marginals: bag {number} of {len(bag)} nodes has the sum {total:g}",
                "give the number of ones in the bag, not their share",
            )
        if len(bag.unique()) < len(bag):
            raise UserError(
                f"marginals: bag {number} names a node twice", "name each node once"
            )
    if any(len(nodes) and nodes.min() < 0 for nodes in (*bags, edges)):
        raise UserError("marginals: a negative node index", "count nodes from 0")
    if min(bag_weight, smooth_weight, *weights.tolist(), 0) < 0:
        raise UserError("marginals: a weight is negative", "give weights of 0 and more")


def _enumerate(bags, sums, edges, pulls, bag_weight: float, n: int) -> Tensor:
    if n > LARGEST_ENUMERATION:
        raise UserError(
            f"marginals: exact=True with {n} nodes",
            f"enumerate at most {LARGEST_ENUMERATION}, or leave exact out",
        )
    states = (torch.arange(2**n)[:, None] >> torch.arange(n) & 1).double()
    log_p = torch.zeros(len(states), dtype=torch.double)
    for bag, total in zip(bags, sums, strict=True):
        log_p -= bag_weight * (states[:, bag].sum(1) - total) ** 2
    for (i, j), pull in zip(edges.tolist(), pulls, strict=True):
        log_p -= pull * (states[:, i] - states[:, j]) ** 2
    return log_p.softmax(0) @ states


def _unary_and_pairs(bags, sums, edges, pulls, bag_weight, bag_factor, n):
    """u [n], ends P x 2 and J [P] of log P = sum u_i y_i + sum J_ij y_i y_j + ...

    (y_i - y_j)^2 = y_i + y_j - 2 y_i y_j for binary labels; a bag written out is
    (1 - 2 Y) sum y_i + 2 sum_{i<j} y_i y_j + Y^2. What is left are larger bags.
    """
    keep = edges[:, 0] != edges[:, 1]
    edges, pulls = edges[keep], pulls[keep]
    unary = torch.zeros(n, dtype=torch.double)
    unary.index_add_(0, edges.flatten(), -pulls.repeat_interleave(2))
    ends, strengths = [edges], [2 * pulls]
    for bag, total in zip(bags, sums, strict=True):
        if len(bag) > 2 and bag_factor == "cardinality":
            continue
        unary[bag] -= bag_weight * (1 - 2 * total)
        pairs = torch.combinations(bag, 2).reshape(-1, 2)
        ends.append(pairs)
        strengths.append(torch.full((len(pairs),), -2 * bag_weight).double())
    ends = torch.cat(ends).sort(1).values
    keys, place = (ends[:, 0] * n + ends[:, 1]).unique(return_inverse=True)
    joined = torch.zeros(len(keys), dtype=torch.double)
    joined.index_add_(0, place, torch.cat(strengths))
    return unary, torch.stack([keys // n, keys % n], 1), joined


def _by_size(bags, sums) -> list[tuple[Tensor, Tensor]]:
    """Bags of three and more as (nodes G x B, sums [G]), one entry for each size."""
    groups: dict[int, list[int]] = {}
    for number, bag in enumerate(bags):
        if len(bag) > 2:
            groups.setdefault(len(bag), []).append(number)
    return [
        (torch.stack([bags[b] for b in numbers]), sums[numbers])
        for numbers in groups.values()
    ]


def _propagate(unary, ends, pairs, groups, bag_weight, settings) -> Tensor:
    iterations, damping, tolerance = settings
    # Message m goes to node `to[m]` from `of[m]`; its reverse is half a list away.
    to, of = ends.T.flatten(), ends.flip(1).T.flatten()
    strength = pairs.repeat(2)
    from_pairs = torch.zeros(len(to), dtype=torch.double)
    from_bags = [torch.zeros(nodes.shape, dtype=torch.double) for nodes, _ in groups]

    def beliefs() -> Tensor:
        total = unary.clone().index_add_(0, to, from_pairs)
        for (nodes, _), message in zip(groups, from_bags, strict=True):
            total.index_add_(0, nodes.flatten(), message.flatten())
        return total

    for _ in range(iterations):
        total, largest = beliefs(), 0.0
        asked = total[of] - from_pairs.roll(len(pairs))
        found = [F.softplus(asked + strength) - F.softplus(asked)]
        for (nodes, known), message in zip(groups, from_bags, strict=True):
            found.append(_count_messages(total[nodes] - message, known, bag_weight))
        for old, new in zip([from_pairs, *from_bags], found, strict=True):
            if old.numel():
                largest = max(largest, (new - old).abs().max().item())
            old.lerp_(new, 1 - damping)
        if largest < tolerance:
            break
    return beliefs().sigmoid()


def _count_messages(asked: Tensor, sums: Tensor, bag_weight: float) -> Tensor:
    """Log-odds that a factor of the count tells each member, G x B.

    Counts of the members before i, and the factor summed over the members after i, as
    plain numbers: all log-odds are first moved by a common t, and the factor by -t for
    each one, so that the likeliest count is where neither of them is in its tail. Both
    are log-concave, so nothing that matters underflows. Log-odds beyond 300 are cut.

    Args:
        asked: Log-odds of the members without this factor, G x B.
        sums: Known counts, [G].
        bag_weight: Of the squared difference.
    """
    bags, size = asked.shape
    odds = asked.T.clamp(-LARGEST_LOG_ODDS, LARGEST_LOG_ODDS)
    tilt = _tilt(odds, sums, bag_weight)
    # Count axes first: a step then works on one stretch of memory.
    yes, no = (odds + tilt).sigmoid(), (-odds - tilt).sigmoid()
    counts = torch.arange(size + 1, dtype=torch.double)[:, None]
    factor = -bag_weight * (counts - sums) ** 2 - tilt * counts
    # before[i][k]: k ones among members 0 .. i-1.
    before = torch.zeros(size, size, bags, dtype=torch.double)
    before[0, 0] = 1
    # after[i][k]: members i+1 .. B-1 and the factor, if k ones are there already.
    after = torch.zeros(size, size + 1, bags, dtype=torch.double)
    after[-1] = (factor - factor.amax(0)).exp()
    for i in range(size - 1):
        torch.mul(before[i, : i + 2], no[i], out=before[i + 1, : i + 2])
        before[i + 1, 1 : i + 2].addcmul_(before[i, : i + 1], yes[i])
        j = size - 1 - i  # at most j ones are there before member j
        torch.mul(after[j, : j + 1], no[j], out=after[j - 1, : j + 1])
        after[j - 1, : j + 1].addcmul_(after[j, 1 : j + 2], yes[j])
    one = torch.einsum("ikg,ikg->gi", before, after[:, 1:])
    zero = torch.einsum("ikg,ikg->gi", before, after[:, :-1])
    # The factor holds -t for each one, the member itself included: give it back.
    told = one.log() - zero.log() + tilt[:, None]
    return told.nan_to_num(0.0).clamp(-LARGEST_LOG_ODDS, LARGEST_LOG_ODDS)


def _tilt(odds: Tensor, sums: Tensor, bag_weight: float) -> Tensor:
    """t of each bag, [G]: t + 2 bag_weight (sum_i sigmoid(odds_i + t) - Y) = 0."""
    bound = min(2 * bag_weight * len(odds), LARGEST_LOG_ODDS + 50.0)
    low = torch.full_like(sums, -bound)
    high = -low
    for _ in range(12):  # it need not be exact
        middle = (low + high) / 2
        excess = middle + 2 * bag_weight * ((odds + middle).sigmoid().sum(0) - sums)
        low, high = (
            torch.where(excess < 0, middle, low),
            torch.where(excess < 0, high, middle),
        )
    return (low + high) / 2
