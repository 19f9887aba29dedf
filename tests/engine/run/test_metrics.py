"""ClassificationMetric against numbers worked out by hand."""

import math

import numpy as np
import pytest
import torch

from pld_mmdet.engine.run.metrics import ClassificationMetric


def evaluate(probabilities, targets, **options):
    metric = ClassificationMetric(**options)
    logits = torch.tensor(probabilities).log()
    metric.process({}, [{"logits": logits, "targets": torch.tensor(targets)}])
    return metric.evaluate(len(targets))


def test_worked_numbers():
    # confidences .8 (right), .6 (wrong), .9 (right); ten bins: all in bins of their own
    found = evaluate([[0.8, 0.2], [0.6, 0.4], [0.1, 0.9]], [0, 1, 1], bins=10)
    assert found["accuracy"] == pytest.approx(2 / 3)
    assert found["nll"] == pytest.approx(-math.log(0.8 * 0.4 * 0.9) / 3, abs=1e-6)
    assert found["ece"] == pytest.approx((0.2 + 0.6 + 0.1) / 3, abs=1e-6)


def test_every_class_counts_the_same_in_balanced_accuracy():
    # class 0: 1 of 3 right; class 2: 2 of 2; class 1 does not occur
    rows = [[0.7, 0.2, 0.1], [0.2, 0.7, 0.1], [0.1, 0.2, 0.7], *[[0.1, 0.3, 0.6]] * 2]
    found = evaluate(rows, [0, 0, 0, 2, 2])
    assert found["accuracy"] == pytest.approx(3 / 5)
    assert found["balanced_accuracy"] == pytest.approx((1 / 3 + 1) / 2)


def test_gaps_of_one_bin_cancel():
    found = evaluate([[0.75, 0.25]] * 4, [0, 0, 0, 1])
    assert found["ece"] == pytest.approx(0.0, abs=1e-6)


def test_batches_make_no_difference():
    torch.manual_seed(0)
    logits, targets = torch.randn(30, 4), torch.randint(4, (30,))
    whole, parts = ClassificationMetric(), ClassificationMetric()
    whole.process({}, [{"logits": logits, "targets": targets}])
    for x, y in zip(logits.split(7), targets.split(7), strict=True):
        parts.process({}, [{"logits": x, "targets": y}])
    a, b = whole.evaluate(30), parts.evaluate(30)
    assert a == pytest.approx(b)
    assert all(np.isfinite(value) for value in a.values())
