"""Belief propagation over bags: worked numbers, exactness on trees, speed."""

import time

import pytest
import torch

from pld_mmdet.errors import UserError
from pld_mmdet.weak_supervision.learners.belief_propagation import bag_errors, marginals

THREE = ([[0, 1, 2]], [2], [[0, 1]], [1.0])
FOUR = ([[0, 1], [2, 3]], [1, 2], [[0, 2], [1, 3]], [0.8, 0.2])


def near(found: torch.Tensor, expected, within: float = 1e-5) -> bool:
    return torch.allclose(found, torch.tensor(expected), atol=within, rtol=0)


class TestNumbers:
    """Worked by hand."""

    def test_three_nodes(self):
        assert near(marginals(*THREE, 1, 1, exact=True), [0.677809, 0.677809, 0.533061])
        assert near(marginals(*THREE, 1, 0, exact=True), [0.609323] * 3)
        strong = marginals(*THREE, 10, 1, exact=True)
        assert near(strong, [0.788038, 0.788038, 0.423905])
        assert strong.sum().item() == pytest.approx(2, abs=1e-4)

    def test_four_nodes(self):
        exact = marginals(*FOUR, 1, 2, exact=True)
        assert near(exact, [0.661873, 0.46906, 0.765471, 0.765471])
        # one loop: messages come close, and do not meet it
        assert near(marginals(*FOUR, 1, 2), exact.tolist(), within=0.01)

    def test_without_smoothness_messages_are_exact(self):
        assert near(marginals(*THREE, 1, 0), [0.609323] * 3, within=1e-4)


@pytest.mark.parametrize("bag_weight", [0.3, 10.0])
def test_messages_are_exact_on_trees(bag_weight):
    """Bags of 4, 2, 1 and 3, joined so that factors and nodes make a tree."""
    bags = [[0, 1, 2, 3], [4, 5], [6], [7, 8, 9]]
    edges = [[0, 4], [5, 4], [2, 6], [6, 7], [7, 6]]
    tree = (bags, [3, 1, 1, 0], edges, torch.tensor([0.7, 0.4, 1.3, 0.2, 0.3]))
    found = marginals(*tree, bag_weight, 1.5, tolerance=1e-9)
    expected = marginals(*tree, bag_weight, 1.5, exact=True)
    assert near(found, expected.tolist())
    assert expected.max() - expected.min() > 0.2


def test_both_forms_of_a_bag_have_one_energy():
    """Bags of two are pairs in either form, an edge inside joins them."""
    pair = ([[1, 0]], [2], [[0, 1]], [0.6])
    for form in ("pairwise", "cardinality"):
        found = marginals(*pair, 2, 3, bag_factor=form)
        assert near(found, marginals(*pair, 2, 3, exact=True).tolist())
    # weak factors, where the pairwise form has no trouble yet
    weak = marginals(*THREE, 0.05, 0.1, bag_factor="pairwise")
    assert near(weak, marginals(*THREE, 0.05, 0.1, exact=True).tolist(), within=1e-3)


def test_pure_bags_and_large_weights():
    bags = [[0, 1, 2, 3], [4, 5, 6], [7, 8, 9, 10, 11]]
    edges, weights = [[0, 4], [4, 7]], [0.5, 0.25]
    found = marginals(bags, [0, 3, 2], edges, weights, 1000.0, 1.0)
    assert found[:4].max() < 1e-6
    assert found[4:7].min() > 1 - 1e-6
    assert found[7:].sum().item() == pytest.approx(2, abs=1e-3)
    assert found[7] > found[8]  # its neighbour is a one


def test_published_weights_do_not_diverge_in_bags_of_32():
    """Two clusters that a bag's count tells apart; pairs written out lose it."""
    generator = torch.Generator().manual_seed(0)
    label = torch.rand(320, generator=generator) < 0.4
    bags = torch.randperm(320, generator=generator).view(10, 32)
    sums = label[bags].sum(1)
    near_by = [group.nonzero().flatten() for group in (label, ~label)]
    edges = torch.cat([torch.stack([g, g.roll(1)], 1) for g in near_by])
    graph = (bags, sums, edges, torch.full((320,), 0.05), 10, 10)
    assert bag_errors(marginals(*graph), bags, sums).max() < 1
    pairs = marginals(*graph, bag_factor="pairwise")
    assert bag_errors(pairs, bags, sums).max() > 8


def test_ten_thousand_instances_are_under_a_second():
    """Time of this process: the machine may have other work."""
    generator = torch.Generator().manual_seed(1)
    bags = torch.randperm(10_016, generator=generator).view(-1, 32)
    sums = (torch.rand(bags.shape, generator=generator) < 0.4).sum(1)
    edges = torch.randint(10_016, (50_000, 2), generator=generator)
    weights = 0.1 * torch.rand(50_000, generator=generator)
    start = time.process_time()
    found = marginals(bags, sums, edges, weights, 0.1, 1.0)
    assert time.process_time() - start < 1
    assert found.shape == (10_016,)
    assert bag_errors(found, bags, sums).max() < 8


def test_nothing_and_loose_nodes():
    assert marginals([], [], [], [], 1, 1).shape == (0,)
    assert bag_errors(torch.zeros(0), [], []).shape == (0,)
    # node 1 is in no bag, and hangs on node 0 only
    found = marginals([[0], []], [1, 0], [[0, 1]], torch.tensor([2.0]).double(), 1, 1)
    assert found.dtype == torch.double
    one, two = torch.tensor([1.0, 2.0]).double().sigmoid()
    follows = one * two + (1 - one) * (1 - two)
    assert torch.allclose(found, torch.stack([one, follows]))


@pytest.mark.parametrize(
    ("graph", "words"),
    [
        (([[0, 1]], [1, 1], [], []), "1 bags and 2 sums"),
        (([[0, 1]], [3], [], []), "bag 0 of 2 nodes has the sum 3"),
        (([[0, 0]], [1], [], []), "bag 0 names a node twice"),
        (([[0, 1]], [1], [[0, 1]], []), "0 weights"),
        (([[0, 1]], [1], [[0, -1]], [1.0]), "negative node index"),
        (([[0, 1]], [1], [[0, 1]], [-1.0]), "a weight is negative"),
    ],
)
def test_what_does_not_fit_is_named(graph, words):
    with pytest.raises(UserError, match=words):
        marginals(*graph, 1, 1)


def test_what_is_too_large_or_unknown_is_named():
    with pytest.raises(UserError, match="exact=True with 21 nodes"):
        marginals([range(21)], [4], [], [], 1, 1, exact=True)
    with pytest.raises(UserError, match="bag_factor='sum'"):
        marginals(*THREE, 1, 1, bag_factor="sum")
