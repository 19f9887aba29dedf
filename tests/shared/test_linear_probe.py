"""LinearProbeMetric: separable features, features that say nothing, folds."""

import pytest
import torch

from pld_mmdet.errors import UserError
from pld_mmdet.shared.linear_probe import LinearProbeMetric


def evaluate(features, targets, **options):
    metric = LinearProbeMetric(**options)
    for part in range(2):  # two batches
        rows = slice(part, None, 2)
        sample = {"features": features[rows], "targets": targets[rows]}
        metric.process({}, [sample])
    return metric.evaluate(len(targets))["accuracy"]


def test_separable_classes_are_all_found():
    targets = torch.arange(40) % 4
    assert evaluate(torch.eye(4)[targets], targets) == 1.0


def test_a_feature_that_says_nothing_finds_the_larger_class():
    """Equal features: every fold answers with the class of 30 among 40."""
    targets = (torch.arange(40) < 10).long()
    assert evaluate(torch.zeros(40, 3), targets) == pytest.approx(0.75)


def test_no_image_is_read_with_its_own_label():
    """One direction an image would be learnt by heart; held-out ones stay unknown."""
    targets = torch.arange(40) % 2
    assert evaluate(torch.eye(40), targets) <= 0.6


def test_scale_of_a_feature_does_not_matter():
    generator = torch.Generator().manual_seed(0)
    targets = torch.arange(60) % 3
    features = torch.randn(60, 4, generator=generator) + targets[:, None]
    scale = torch.tensor([1.0, 1e3, 1e-3, 10.0])
    assert evaluate(features, targets) == evaluate(features * scale, targets)


def test_too_few_images_of_a_class():
    with pytest.raises(UserError, match="a class has 3 images, fewer than 5 folds"):
        evaluate(torch.zeros(6, 2), torch.arange(6) % 2)
