"""Making StreetCrops: the same bytes for a seed, parts by city, what is cut out."""

import argparse
import json

import numpy as np
import pytest

from pld_mmdet.detection.data import street_crops
from pld_mmdet.detection.data.street_crops import (
    _cut,
    _empty_box,
    _shaken,
    cut_scene,
    make_part,
    packed,
    prepare,
)
from pld_mmdet.errors import UserError
from pld_mmdet.shared.data.street_crops import BACKGROUND, FIELDS, StreetCrops


def options(root, *words):
    parser = argparse.ArgumentParser()
    street_crops.arguments(parser)
    return parser.parse_args(["--root", str(root), "--workers", "1", *words])


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    root = tmp_path_factory.mktemp("crops")
    prepare(options(root, "--crops", "40"))
    return root


def test_equal_bytes_for_a_seed_and_a_smaller_part_is_the_beginning(made):
    arrays = make_part("train", 24)
    assert packed(arrays) == (made / "train.npz").read_bytes()  # 60 % of 40
    fewer = make_part("train", 7, workers=2)
    for name in FIELDS:
        assert np.array_equal(fewer[name], arrays[name][:7])
    other = make_part("train", 7, seed=1)
    assert not np.array_equal(other["images"], fewer["images"])


def test_a_scene_gives_things_of_twelve_pixels_and_background():
    arrays = cut_scene("test", 0, 0.1, 0.5, 5)
    things = arrays["labels"] < BACKGROUND
    sides = (arrays["boxes"][:, 2:] - arrays["boxes"][:, :2]).max(1)
    assert 0 < things.sum() < len(things)
    assert sides[things].min() >= 12
    assert set(arrays["scenes"]) == {5}
    assert set(arrays["cities"]) == {5 % 3}  # test has three cities
    none = cut_scene("test", 0, 0.1, 0.0, 5)
    assert (none["labels"] < BACKGROUND).all()
    exact = cut_scene("test", 0, 0.0, 0.0, 5)
    assert np.array_equal(exact["boxes"], none["boxes"])  # the true ones, not shaken
    assert not np.array_equal(exact["images"], none["images"])


def test_boxes_are_shaken_within_the_jitter():
    box = np.array([100, 50, 120, 90])
    dice = np.random.default_rng(0)
    shaken = np.array([_shaken(box, 0.2, dice) for _ in range(300)])
    centres = (shaken[:, :2] + shaken[:, 2:]) / 2 - [110, 70]
    assert 3.5 < np.abs(centres[:, 0]).max() <= 4  # a fifth of 20 and of 40 pixels
    assert 7 < np.abs(centres[:, 1]).max() <= 8
    sizes = (shaken[:, 2] - shaken[:, 0]) / 20
    assert 0.8 <= sizes.min() < 0.85
    assert 1.15 < sizes.max() <= 1.2


def test_a_crop_is_the_square_around_its_box_with_its_margin():
    image = np.zeros((60, 80), np.uint8)
    image[20:30, 40:60] = 200
    crop = _cut(image, np.array([40.0, 20.0, 60.0, 30.0]))
    # 20 pixels and 15 % on both sides are 26; 32/26 pixels each
    assert crop.shape == (32, 32)
    assert abs((crop[16] > 100).sum() - 20 * 32 / 26) <= 1
    assert abs((crop[:, 16] > 100).sum() - 10 * 32 / 26) <= 1
    corner = _cut(np.full((60, 80, 3), 7, np.uint8), np.array([-5.0, -5.0, 9.0, 9.0]))
    assert (corner == 7).all()  # borders are repeated


def test_background_covers_no_thing_or_is_left_out():
    covered = np.zeros((40, 60), bool)
    covered[:, :30] = True
    dice = np.random.default_rng(1)
    like = np.array([0.0, 0.0, 10.0, 20.0])
    found = [_empty_box(like, covered, dice) for _ in range(30)]
    found = [box for box in found if box is not None]
    assert found
    assert all(box[0] >= 29 for box in found)  # 5 % of ten pixels is half a one
    assert _empty_box(like, np.ones((40, 60), bool), dice) is None


def test_parts_read_as_a_data_set_of_the_recorded_classes(made):
    crops = StreetCrops("val", str(made), background=True)
    assert len(crops) == 6  # 15 % of 40
    assert len(StreetCrops("train", str(made))) < 24  # background is left out
    record = json.loads((made / "street_crops.json").read_text())
    assert crops.metainfo["classes"] == tuple(record["classes"])
    # the far end of the street is not at its near end
    assert 5 < crops.distances.min() < 80


def test_what_is_there_is_kept_and_other_parameters_ask_for_force(made, capsys):
    before = (made / "train.npz").stat().st_mtime_ns
    prepare(options(made, "--crops", "40"))
    assert "train: all 24 crops are there" in capsys.readouterr().out
    assert (made / "train.npz").stat().st_mtime_ns == before
    with pytest.raises(UserError, match="other parameters"):
        prepare(options(made, "--crops", "40", "--jitter", "0.2"))
    with pytest.raises(UserError, match="makes no sense"):
        prepare(options(made, "--background", "1"))
