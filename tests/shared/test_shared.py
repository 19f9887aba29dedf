"""Toy data and networks: fixed parts, label noise, what a bad argument is told."""

import pytest
import torch
from mmengine.registry import DATASETS, MODELS

from pld_mmdet.errors import UserError
from pld_mmdet.shared import MLP, Classifier, Digits, LabelSubsets, SmallConvNet


def test_digits_parts_are_disjoint_and_whole():
    parts = [Digits(part) for part in ("train", "val", "test")]
    assert [len(part) for part in parts] == [1077, 360, 360]
    images = torch.cat([part.images for part in parts]).flatten(1)
    assert len(images.unique(dim=0)) == 1797
    sample = parts[0][3]
    assert sample["inputs"].shape == (1, 8, 8)
    assert 0 <= sample["inputs"].min() <= sample["inputs"].max() <= 1
    assert sample["index"] == 3


def test_labelled_and_the_rest_are_the_whole():
    few, rest = Digits("train", labelled=4), Digits("train", labelled=-4)
    assert torch.equal(few.targets.bincount(), torch.full((10,), 4))
    assert len(few) + len(rest) == 1077
    both = torch.cat([few.images, rest.images]).flatten(1)
    assert len(both.unique(dim=0)) == 1077


def test_classes_are_renumbered():
    some = Digits("test", classes=[7, 3])
    assert some.metainfo["classes"] == ("3", "7")
    assert set(some.targets.tolist()) == {0, 1}


def test_label_subsets_are_draws_of_their_own():
    digits = dict(type="pld_mmdet.Digits", part="train")
    draws, again = (LabelSubsets(digits, labelled=2, subsets=3) for _ in range(2))
    samples = [draws[i] for i in range(len(draws))]
    assert [sample["subset"] for sample in samples] == 20 * [0] + 20 * [1] + 20 * [2]
    numbers = [sample["index"] for sample in samples]
    assert numbers == [again[i]["index"] for i in range(60)]
    parts = [set(numbers[i : i + 20]) for i in (0, 20, 40)]
    assert [len(part) for part in parts] == [20, 20, 20]  # no image twice in a draw
    assert parts[0] != parts[1] != parts[2]
    labels = [int(sample["targets"]) for sample in samples[20:40]]
    assert sorted(labels) == sorted(2 * list(range(10)))
    with pytest.raises(UserError, match="images, not 1000"):
        LabelSubsets(digits, labelled=1000, subsets=1)


def test_noise_is_wrong_everywhere_it_is():
    noisy = Digits("train", noise=0.3, noise_seed=1)
    wrong = noisy.targets != noisy.clean_targets
    assert wrong.sum().item() == round(0.3 * 1077)
    again = Digits("train", noise=0.3, noise_seed=1)
    other = Digits("train", noise=0.3, noise_seed=2)
    assert torch.equal(noisy.targets, again.targets)
    assert not torch.equal(noisy.targets, other.targets)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"part": "rest"}, "part='rest'"),
        ({"part": "test", "classes": [10]}, "no classes"),
        ({"part": "test", "labelled": 1000}, "has .* images, not 1000"),
    ],
)
def test_wrong_arguments_are_named(options, match):
    with pytest.raises(UserError, match=match):
        Digits(**options)


def test_they_are_found_by_name_from_any_project():
    assert isinstance(MODELS.build(dict(type="pld_mmdet.MLP", sizes=(64, 10))), MLP)
    assert DATASETS.get("pld_mmdet.Digits") is Digits


def test_networks_and_the_plain_classifier():
    net = SmallConvNet(widths=(4, 8))
    x = torch.rand(2, 1, 8, 8)
    assert net.features(x).shape == (2, 8)
    assert net(x).shape == (2, 10)
    model = Classifier(dict(type="pld_mmdet.MLP", sizes=(64, 5, 10)))
    with torch.no_grad():
        for p in model.parameters():
            p.zero_()
    loss = model.loss(inputs=x, targets=torch.tensor([1, 2]))["loss"]
    assert loss.item() == pytest.approx(2.302585, abs=1e-5)  # ln 10
