"""PhotoPatches: real pixels, parts without a common one, the same places for a seed."""

import pytest
import torch

from pld_mmdet.errors import UserError
from pld_mmdet.shared.data.photo_patches import PhotoPatches, _photographs


def test_patches_are_windows_of_the_photographs():
    data = PhotoPatches("train", count=6)
    assert data.targets.tolist() == [0, 1, 0, 1, 0, 1]
    assert data.metainfo["classes"] == ("china", "flower")
    sample = data[3]
    assert sample["inputs"].shape == (3, 16, 16)
    assert sample["targets"] == 1
    assert sample["index"] == 3
    assert torch.equal(data.images[3], sample["inputs"])
    photo = torch.tensor(_photographs()[0][1]).permute(2, 0, 1)
    windows = photo.unfold(1, 16, 1).unfold(2, 16, 1)  # 3 x rows x columns x 16 x 16
    same = (windows == data.pixels[3][:, None, None]).all(-1).all(-1).all(0)
    (row, column), *_ = same.nonzero().tolist()
    assert column + 16 <= round(0.6 * photo.shape[2])  # train is on the left
    assert 0 <= row <= photo.shape[1] - 16


def test_places_follow_the_seed_and_parts_differ():
    first, again = PhotoPatches("val", count=20), PhotoPatches("val", count=20)
    assert torch.equal(first.pixels, again.pixels)
    assert not torch.equal(first.pixels, PhotoPatches("val", 20, seed=1).pixels)
    assert not torch.equal(first.pixels, PhotoPatches("test", 20).pixels)
    assert torch.equal(PhotoPatches("val", count=7).pixels, first.pixels[:7])
    assert len(PhotoPatches("val", count=0)) == 0


def test_what_does_not_fit_is_said():
    with pytest.raises(UserError, match="part='all'"):
        PhotoPatches("all")
    with pytest.raises(UserError, match="too small for patches of 200"):
        PhotoPatches("val", size=200)
