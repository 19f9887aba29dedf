"""Selections by hand, with ties, empty classes and empty batches."""

import numpy as np
import pytest
import torch

from pld_mmdet.distill.selection import (
    MeanThresholds,
    agreement,
    below_percentile,
    class_quantiles,
    confident,
    el2n,
    margins,
    quantile,
    topk_per_class,
)
from pld_mmdet.errors import UserError

P = torch.tensor([[0.7, 0.2, 0.1], [0.05, 0.15, 0.8], [0.3, 0.45, 0.25]])


class TestConfident:
    def test_one_threshold(self):
        labels, mask = confident(P.log(), 0.6)
        assert labels.tolist() == [0, 2, 1]
        assert mask.tolist() == [True, True, False]
        # a probability that is the threshold reaches it
        assert confident(torch.tensor([[0.0, 0.0]]), 0.5)[1].item()
        assert confident(P.log(), torch.tensor(0.75))[1].tolist() == [
            False,
            True,
            False,
        ]

    def test_a_threshold_for_each_class(self):
        _, mask = confident(P.log(), torch.tensor([0.75, 0.4, 0.79]))
        assert mask.tolist() == [False, True, True]
        with pytest.raises(UserError, match=r"\(2,\) thresholds for 3 classes"):
            confident(P, torch.zeros(2))

    def test_any_number_of_dimensions(self):
        maps = P.log().view(3, 1, 3).expand(3, 2, 3)
        labels, mask = confident(maps, torch.tensor([0.75, 0.4, 0.79]))
        assert labels.tolist() == [[0, 0], [2, 2], [1, 1]]
        assert mask.tolist() == [[False] * 2, [True] * 2, [True] * 2]
        same, agreed = agreement(maps, maps.flip(1))
        assert torch.equal(same, labels)
        assert agreed.all()
        expected = torch.tensor([[0.5], [0.65], [0.15]])
        torch.testing.assert_close(margins(maps), expected.expand(3, 2))
        torch.testing.assert_close(margins(maps[:, :1]), expected)

    def test_shapes_no_rows_half_precision(self):
        labels, mask = confident(torch.zeros(0, 3), 0.5)
        assert labels.shape == mask.shape == (0,)
        assert confident(torch.zeros(2, 4, 3), 0.1)[1].all()
        # 0.9999 is 1 in bfloat16
        logits = torch.tensor([[9.0, 0.0]]).bfloat16()
        assert not confident(logits, 0.99995)[1].item()
        assert not confident(P.requires_grad_(), 0.5)[1].requires_grad


class TestAgreement:
    def test_by_hand(self):
        other = torch.tensor([[9.0, 0, 1], [3, 2, 1], [0, 1, 0]])
        third = torch.tensor([[9.0, 0, 1], [0, 0, 1], [1, 0, 0]])
        assert agreement(P)[1].all()
        labels, mask = agreement(P, other)
        assert labels.tolist() == [0, 2, 1]
        assert mask.tolist() == [True, False, True]
        assert agreement(P, other, third)[1].tolist() == [True, False, False]
        assert agreement(torch.zeros(0, 3), torch.zeros(0, 3))[1].shape == (0,)

    def test_what_does_not_fit(self):
        with pytest.raises(UserError, match="there are no logits"):
            agreement()
        with pytest.raises(UserError, match="shapes differ"):
            agreement(P, P[:2])


def test_margins():
    expected = torch.tensor([0.5, 0.65, 0.15])
    torch.testing.assert_close(margins(P.log() + 2), expected)
    assert margins(P.bfloat16()).dtype == torch.float32
    two = torch.tensor([[0.3, 0.7]]).log()
    torch.testing.assert_close(margins(two), torch.tensor([0.4]))
    assert margins(torch.zeros(0, 3)).shape == (0,)
    with pytest.raises(UserError, match="1 class has no second"):
        margins(torch.zeros(2, 1))


def test_el2n():
    scores = el2n(P.log(), torch.tensor([0, 1, 2]))
    # |(-.3, .2, .1)|, |(.05, -.85, .8)|, |(.3, .45, -.75)|
    expected = torch.tensor([0.3741657, 1.1683321, 0.9246621])
    torch.testing.assert_close(scores, expected)
    assert el2n(P.half(), torch.tensor([0, 1, 2])).dtype == torch.float32
    none = torch.zeros(0, dtype=torch.long)
    assert el2n(torch.zeros(0, 3), none).shape == (0,)


class TestQuantile:
    def test_by_hand_and_as_numpy(self):
        values = torch.tensor([[5.0, 1.0], [2.0, 11.0]])
        assert quantile(values, 0.5).item() == 3.5
        assert quantile(values, 0.0).item() == 1
        assert quantile(values, 1.0).item() == 11
        assert quantile(values, 0.9).item() == pytest.approx(9.2)
        rows = torch.randn(101)
        for share in (0.03, 0.5, 0.777):
            expected = np.quantile(rows.numpy(), share)
            assert quantile(rows, share).item() == pytest.approx(expected, abs=1e-6)
        assert quantile(torch.tensor([7.0]), 0.3).item() == 7

    def test_no_value_or_share(self):
        with pytest.raises(UserError, match=r"no share 0\.5 of 0 values"):
            quantile(torch.zeros(0), 0.5)
        for share in (-0.1, 1.1):
            with pytest.raises(UserError, match="no share"):
                quantile(torch.zeros(3), share)

    def test_below_percentile(self):
        values = torch.tensor([0.1, 0.9, 0.4, 0.2, 5.0])
        valid = torch.tensor([True, True, True, True, False])
        # of 0.1 0.2 0.4 0.9 the 50th percentile is 0.3
        kept = [True, False, False, True, False]
        assert below_percentile(values, 50, valid).tolist() == kept
        assert torch.equal(below_percentile(values, 100, valid), valid)
        # 99 of 100 leaves out the largest
        kept = [True, False, True, True, False]
        assert below_percentile(values, 99, valid).tolist() == kept
        assert not below_percentile(values, 50, torch.zeros_like(valid)).any()
        # what is the percentile does not lie below it
        assert not below_percentile(values, 0, valid).any()

    def test_of_each_class(self):
        scores = torch.tensor([0.1, 0.5, 0.9, 0.3, 0.6])
        labels = torch.tensor([0, 2, 2, 0, 3])
        found = class_quantiles(scores, labels, 3, 0.25, empty=0.8)
        torch.testing.assert_close(found, torch.tensor([0.15, 0.8, 0.6]))
        labels = torch.tensor([0, -1, -1, 0, 3])
        found = class_quantiles(scores, labels, 2, 1.0)
        torch.testing.assert_close(found, torch.tensor([0.3, 1.0]))
        none = torch.zeros(0)
        assert class_quantiles(none, none.long(), 2, 0.5).tolist() == [1, 1]
        with pytest.raises(UserError, match="shapes differ"):
            class_quantiles(scores, labels[:2], 3, 0.5)


class TestTopK:
    scores = torch.tensor([0.2, 0.9, 0.9, 0.1, 0.5, 0.9])
    labels = torch.tensor([1, 0, 0, 1, 7, 0])

    def test_by_hand(self):
        kept = [True, True, False, False, True, False]
        assert topk_per_class(self.scores, self.labels, 1).tolist() == kept
        # among equals the first ones
        kept = [True, True, True, True, True, False]
        assert topk_per_class(self.scores, self.labels, 2).tolist() == kept
        assert topk_per_class(self.scores, self.labels, 3).all()
        assert not topk_per_class(self.scores, self.labels, 0).any()

    def test_equals_a_loop(self):
        torch.manual_seed(0)
        scores, labels = torch.rand(40).round(decimals=1), torch.randint(4, (40,))
        mask = topk_per_class(scores, labels, 5)
        for number in range(4):
            rows = [i for i in range(40) if labels[i] == number]
            best = sorted(rows, key=lambda i: (-scores[i].item(), i))[:5]
            assert mask.logical_and(labels == number).nonzero().flatten().tolist() == (
                sorted(best)
            )

    def test_no_rows_and_what_does_not_fit(self):
        none = torch.zeros(0)
        assert topk_per_class(none, none.long(), 3).shape == (0,)
        with pytest.raises(UserError, match="k=-1 is below 0"):
            topk_per_class(self.scores, self.labels, -1)
        with pytest.raises(UserError, match="shapes differ"):
            topk_per_class(self.scores, self.labels[:2], 1)


class TestMeanThresholds:
    def test_by_hand(self):
        tau = MeanThresholds(3, keep=0.9, start=0.1)
        tau.update(torch.tensor([0.7, 0.9, 0.4]), torch.tensor([0, 0, 2]))
        # .09 + .1 * .8; unchanged; .09 + .1 * .4
        expected = torch.tensor([0.17, 0.1, 0.13])
        torch.testing.assert_close(tau.thresholds, expected)
        scores, labels = torch.tensor([0.16, 0.18, 0.11]), torch.tensor([0, 0, 1])
        assert tau.reached(scores, labels).tolist() == [False, True, True]
        assert tau.reached(tau.thresholds, torch.arange(3)).all()
        assert MeanThresholds(1, 0.5).thresholds.item() == 0
        newest = MeanThresholds(2, keep=0.0, start=0.1)
        newest.update(torch.tensor([0.7, 0.9]), torch.tensor([1, 1]))
        torch.testing.assert_close(newest.thresholds, torch.tensor([0.1, 0.8]))

    def test_no_rows_and_the_checkpoint(self):
        tau = MeanThresholds(2, keep=0.5, start=0.3)
        tau.update(torch.zeros(0), torch.zeros(0, dtype=torch.long))
        assert tau.state_dict()["thresholds"].tolist() == pytest.approx([0.3, 0.3])
        scores = torch.ones(1, requires_grad=True)
        tau.update(scores.bfloat16(), torch.tensor([1]))
        assert not tau.thresholds.requires_grad
        assert tau.thresholds.tolist() == pytest.approx([0.3, 0.65])

    def test_what_does_not_fit(self):
        for keep in (-0.1, 1.5):
            with pytest.raises(UserError, match="is no share"):
                MeanThresholds(2, keep)
        tau = MeanThresholds(2, 1.0)
        labels = torch.zeros(2, dtype=torch.long)
        for function in (tau.update, tau.reached):
            with pytest.raises(UserError, match="shapes differ"):
                function(torch.zeros(3), labels)


def test_nothing_here_gets_a_gradient():
    logits = P.log().requires_grad_()
    scores, labels = logits[:, 0] + 2, torch.tensor([0, 1, 0])
    found = [
        margins(logits),
        el2n(logits, labels),
        quantile(scores, 0.3),
        class_quantiles(scores, labels, 2, 0.3),
    ]
    assert not any(value.requires_grad for value in found)
