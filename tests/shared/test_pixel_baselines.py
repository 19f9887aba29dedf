"""Trivial rivals of pixels: the colour and the place of each, and bicubic."""

import pytest
import torch
from torch.utils.data import Dataset

from pld_mmdet.errors import UserError
from pld_mmdet.registry import DATASETS, TRANSFORMS
from pld_mmdet.shared.readers import (
    pixel_features,
)
from tests.shared.told import listed, told


@DATASETS.register_module(force=True)
class Scenes(Dataset):
    """Sky above ground, 2 x 3, a red thing elsewhere in each; later ones darker."""

    metainfo = {"classes": ("sky", "ground", "thing")}

    def __init__(self, pipeline=(), scenes=2, first=0):
        self.pipeline = [TRANSFORMS.build(one) for one in pipeline]
        self.scenes, self.first = scenes, first

    def __len__(self):
        return self.scenes

    def __getitem__(self, index):
        image = torch.full((3, 2, 3), 100.0 - index)
        targets = torch.tensor([[0, 0, 0], [1, 1, 1]])
        row, column = ((1, 0), (0, 2), (1, 1))[(index + self.first) % 3]
        image[0, row, column], targets[row, column] = 250.0, 2
        sample = {"inputs": image, "targets": targets}
        for transform in self.pipeline:
            sample = transform(sample)
        return sample


@TRANSFORMS.register_module(force=True)
class Unlabelled:
    """Nothing but the first row, or no pixel, keeps its label."""

    def __init__(self, rows):
        self.rows = rows

    def __call__(self, sample):
        sample["targets"][self.rows :] = 254
        return sample


@TRANSFORMS.register_module(force=True)
class Whole:
    def __call__(self, sample):
        return sample


def scenes(**more):
    return dict(
        type="pld_mmdet.Scenes", pipeline=[dict(type="pld_mmdet.Whole")], **more
    )


def test_a_pixel_is_its_colour_and_its_place():
    image = torch.arange(4.0).view(1, 2, 2).repeat(2, 1, 1) + torch.tensor(
        [0, 9.0]
    ).view(2, 1, 1)
    assert pixel_features(image).tolist() == [
        [0, 9, 0.25, 0.25],
        [1, 10, 0.25, 0.75],
        [2, 11, 0.75, 0.25],
        [3, 12, 0.75, 0.75],
    ]


def test_pixels_are_read_by_their_colour_and_their_place():
    train = dict(dataset=dict(dataset=scenes(scenes=3)))
    rival = dict(type="pixelwise", c=1e4)
    found = told(scenes(first=1), rival, train_dataloader=train)
    assert [one["predictions"].tolist() for one in found] == [
        [[[0, 0, 2], [1, 1, 1]]],
        [[[0, 0, 0], [1, 2, 1]]],
    ]
    for one in found:
        assert torch.equal(one["predictions"], one["targets"])


def test_pixels_without_a_label_teach_nothing():
    train = dict(dataset=dict(dataset=scenes()))
    thin = dict(type="pld_mmdet.Unlabelled", rows=0)
    with pytest.raises(UserError, match="labels of two classes"):
        told(scenes(), dict(type="pixelwise", thin=thin), train_dataloader=train)
    train = dict(dataset=dict(dataset=scenes(scenes=0)))
    with pytest.raises(UserError, match="labels of two classes"):
        told(scenes(), "pixelwise", train_dataloader=train)
    # sky and the thing, no ground: 254 is no class
    thin["rows"] = 1
    train = dict(dataset=dict(dataset=scenes(first=1)))
    found = told(scenes(), dict(type="pixelwise", thin=thin), train_dataloader=train)
    assert set(found[0]["predictions"].unique().tolist()) <= {0, 2}


def test_so_many_pixels_of_each_image_by_the_seed(monkeypatch):
    from pld_mmdet.shared import baselines

    seen = []

    def remembered(inputs, targets, *_, **__):
        seen.append((inputs, targets))
        return lambda asked: torch.zeros(len(asked), 3)

    monkeypatch.setattr(baselines, "fitted", remembered)
    train = dict(dataset=dict(dataset=scenes(scenes=3)))
    for seed in (4, 4, 5):
        rival = dict(type="pixelwise", pixels=7)
        told(scenes(), rival, seed, train_dataloader=train)
    inputs = seen[0][0]
    assert inputs[:, 1].tolist() == [100.0] * 3 + [99.0] * 3 + [98.0] * 3  # 7 / 3, up
    assert torch.equal(inputs, seen[1][0])
    assert not torch.equal(inputs, seen[2][0])


def test_bicubic_keeps_what_is_flat_and_loses_what_is_fine():
    images = torch.full((2, 1, 8, 8), 0.3)
    images[1, :, :, ::2] = 0.9

    asked = listed(*(dict(inputs=image.tolist()) for image in images))
    found = told(asked, dict(type="bicubic", scale=4))[0]
    assert torch.equal(found["references"], images)
    flat = torch.full((1, 8, 8), 0.3), torch.full((1, 8, 8), 0.6)
    assert torch.allclose(found["samples"], torch.stack(flat), atol=1e-6)
