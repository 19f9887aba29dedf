"""A distilled set as files: what is written is read, and a change is noticed."""

import numpy as np
import pytest
import torch

from pld_mmdet.dataset_distillation.data.distilled import DistilledPairs, SyntheticSet
from pld_mmdet.dataset_distillation.data.folders import (
    eight_bits,
    read_distilled,
    write_distilled,
)
from pld_mmdet.errors import UserError


def written(folder, channels=3, **more):
    torch.manual_seed(0)
    images = torch.rand(4, channels, 6, 5)
    targets, classes = torch.randn(4, 2), torch.tensor([0, 1, 1, 0])
    names = ("one", "two")
    write_distilled(folder, images, targets, classes, names, **more)
    return images, targets, classes


@pytest.mark.parametrize("channels", [1, 3])
def test_round_trip(tmp_path, channels):
    boxes = torch.arange(8).view(4, 2)
    about = dict(method="x", budget=1.5)
    images, targets, classes = written(tmp_path, channels, boxes=boxes, about=about)
    found = read_distilled(tmp_path)
    assert torch.allclose(found["images"], eight_bits(images), atol=1e-6)
    assert (found["images"] - images).abs().max() <= 0.5 / 255 + 1e-6
    assert torch.equal(found["targets"], targets)
    assert torch.equal(found["classes"], classes)
    assert torch.equal(found["boxes"], boxes)
    assert found["names"] == ["one", "two"]
    assert found["about"]["budget"] == 1.5
    sample = DistilledPairs(tmp_path)[2]
    assert sample["classes"] == 1
    assert torch.equal(sample["targets"], targets[2])
    by_record = DistilledPairs(tmp_path / "distilled.json")
    assert torch.equal(by_record.images, found["images"])


def test_eight_bits_by_hand():
    values = torch.tensor([-0.2, 0.1, 0.5004, 1.3])
    wanted = [0.0, 26 / 255, 128 / 255, 1.0]  # 25.5 and 127.6 steps; even wins a tie
    assert eight_bits(values).tolist() == pytest.approx(wanted)
    wide = eight_bits(torch.tensor([-2.0, 3.0, 9.0]), low=-2.0, high=8.0)
    assert wide.tolist() == pytest.approx([-2.0, -2 + 10 * 128 / 255, 8.0], abs=1e-5)


def test_free_pixels_keep_their_range(tmp_path):
    pairs = SyntheticSet(3, (1, 4, 4), 2)
    pairs.fill(torch.randn(3, 1, 4, 4) * 3, torch.randn(3, 2))
    pairs.export_folder(tmp_path)
    found = DistilledPairs(tmp_path)
    span = float(pairs.images.detach().max() - pairs.images.detach().min())
    assert (found.images - pairs.images).abs().max() <= span / 500
    assert torch.equal(found.targets, pairs.targets)
    black = SyntheticSet(2, (1, 4, 4), 2)
    black.export_folder(tmp_path)  # over the earlier one
    assert torch.equal(DistilledPairs(tmp_path).images, torch.zeros(2, 1, 4, 4))
    assert len(list(tmp_path.glob("images/*/*.png"))) == 2


def test_an_empty_set(tmp_path):
    write_distilled(tmp_path, torch.zeros(0, 3, 4, 4), torch.zeros(0, 2))
    assert len(DistilledPairs(tmp_path)) == 0


def test_a_change_is_noticed(tmp_path):
    written(tmp_path)
    image = tmp_path / "images/two/000001.png"
    other = (tmp_path / "images/two/000002.png").read_bytes()
    kept = image.read_bytes()
    image.write_bytes(other)
    with pytest.raises(UserError, match="checksum differs"):
        read_distilled(tmp_path)
    image.write_bytes(kept)
    read_distilled(tmp_path)
    image.unlink()
    with pytest.raises(UserError, match=r"000001\.png cannot be read"):
        read_distilled(tmp_path)
    image.write_bytes(kept)
    np.savez(tmp_path / "labels.npz", targets=np.zeros((4, 2)), classes=np.zeros(4))
    with pytest.raises(UserError, match=r"labels\.npz is not what"):
        read_distilled(tmp_path)


def test_what_does_not_fit_is_said(tmp_path):
    with pytest.raises(UserError, match="does not exist"):
        read_distilled(tmp_path)
    images, targets = torch.zeros(2, 3, 4, 4), torch.zeros(2, 5)
    for wrong in (
        dict(images=torch.zeros(2, 4, 4, 4)),
        dict(targets=torch.zeros(3, 5)),
        dict(classes=torch.tensor([0, 4]), names=("a", "b")),
        dict(low=1.0, high=1.0),
    ):
        with pytest.raises(UserError, match="write_distilled: images"):
            write_distilled(tmp_path, **(dict(images=images, targets=targets) | wrong))
