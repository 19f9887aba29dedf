"""Relations between tokens: scores by hand, which way round, and nothing."""

import math

import pytest
import torch

from pld_mmdet.distill.relations import relation_kl, relation_mse, relation_scores
from pld_mmdet.errors import UserError
from tests.distill.test_losses import assert_zero_with_gradient, empty

T = torch.tensor([[[2.0, 0.0], [1.0, 1.0]]])
S = torch.tensor([[[1.0, 0.0], [0.0, 1.0]]])


def test_scores_by_hand():
    expected = torch.tensor([[[[4.0, 2.0], [2.0, 2.0]]]]) / math.sqrt(2)
    torch.testing.assert_close(relation_scores(T, 1), expected)
    # two heads of one number each: no scale
    heads = relation_scores(T, 2)
    assert heads.tolist() == [[[[4, 2], [2, 1]], [[0, 0], [0, 1]]]]


def test_keys_beside_queries():
    """Row i is query i: (2, 0) . (1, 3), (2, 0) . (5, 7), ..."""
    keys = torch.tensor([[[1.0, 3.0], [5.0, 7.0]]])
    scores = relation_scores(T, 1, keys) * math.sqrt(2)
    torch.testing.assert_close(scores, torch.tensor([[[[2.0, 10.0], [4.0, 12.0]]]]))


def test_heads_are_cut_from_the_width_in_order():
    x = torch.randn(2, 5, 12)
    scores = relation_scores(x, 3)
    assert scores.shape == (2, 3, 5, 5)
    middle = x[:, :, 4:8]
    torch.testing.assert_close(scores[:, 1], middle @ middle.mT / 2)


def test_divergence_by_hand_and_which_way_round():
    t, s = relation_scores(T, 1), relation_scores(S, 1)
    assert relation_kl(t, s).item() == pytest.approx(0.053081, abs=1e-6)
    assert relation_kl(s, t).item() == pytest.approx(0.054551, abs=1e-6)
    sharp = relation_scores(2 * S, 1)
    assert relation_kl(sharp, s).item() == pytest.approx(0.225024, abs=1e-6)
    assert relation_kl(s, sharp).item() == pytest.approx(0.357133, abs=1e-6)


def test_divergence_is_the_mean_over_batch_heads_and_queries():
    t, s = torch.randn(2, 3, 2, 4, 4, dtype=torch.float64)
    p, q = t.softmax(-1), s.softmax(-1)
    expected = (p * (p / q).log()).sum() / (3 * 2 * 4)
    torch.testing.assert_close(relation_kl(t, s), expected)


def test_squared_difference_by_hand():
    t, s = relation_scores(T, 1), relation_scores(S, 1)
    # (4-1)^2 + 2^2 + 2^2 + (2-1)^2 over 4 elements and sqrt(2)^2
    assert relation_mse(t, s).item() == pytest.approx(18 / 8)
    assert relation_mse(t, t).item() == 0


def test_half_precision_is_computed_in_single():
    x = torch.full((1, 2, 4), 200.0).half()
    scores = relation_scores(x, 1)
    assert scores.dtype == torch.float32
    assert scores[0, 0, 0, 0].item() == 80000  # beyond float16
    t = torch.full((1, 1, 1, 1), 300.0).half()
    assert relation_mse(t, -t).item() == 360000


def test_no_samples():
    for function in (relation_kl, relation_mse):
        source = empty(0, 4, 6)
        scores = relation_scores(source, 2)
        assert scores.shape == (0, 2, 4, 4)
        assert_zero_with_gradient(function(scores.detach(), scores), source)


def test_what_does_not_fit():
    for heads in (0, 3, -1):
        with pytest.raises(UserError, match=f"is not cut into {heads} heads"):
            relation_scores(torch.zeros(1, 2, 4), heads)
    for shape in ((2, 4), (1, 1, 2, 4)):
        with pytest.raises(UserError, match="is not cut into 1 heads"):
            relation_scores(torch.zeros(shape), 1)
    with pytest.raises(UserError, match=r"x \(1, 2, 2\), other \(1, 3, 2\)"):
        relation_scores(T, 1, torch.zeros(1, 3, 2))
    for function in (relation_kl, relation_mse):
        with pytest.raises(UserError, match=r"teacher .*, student \(1, 1, 3, 3\)"):
            function(torch.zeros(1, 1, 2, 2), torch.zeros(1, 1, 3, 3))
