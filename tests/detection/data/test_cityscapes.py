"""The converter on a Cityscapes tree that the test writes pixel by pixel."""

import json

import cv2
import numpy as np
import pytest

from pld_mmdet.detection.data import foggy_cityscapes
from pld_mmdet.detection.data.cityscapes import (
    CLASSES,
    EXPECTED_COUNTS,
    LABEL_IDS,
    PALETTE,
    annotate,
    convert,
    summary,
)
from pld_mmdet.detection.data.masks import boxes_of
from pld_mmdet.errors import UserError

HEIGHT, WIDTH = 20, 40


def street(*regions: tuple[int, int, int, int, int]) -> np.ndarray:
    """A mask of road (7) with rectangles (value, left, top, right, bottom)."""
    mask = np.full((HEIGHT, WIDTH), 7, np.uint16)
    for value, left, top, right, bottom in regions:
        mask[top:bottom, left:right] = value
    return mask


def write(root, split, city, stem, mask, betas=(0.02,)):
    """Mask, clear image and foggy images of one frame."""
    image = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    files = {
        f"gtFine/{split}/{city}/{stem}_gtFine_instanceIds.png": mask,
        f"leftImg8bit/{split}/{city}/{stem}_leftImg8bit.png": image,
    }
    for beta in betas:
        name = f"{stem}_leftImg8bit_foggy_beta_{beta:g}.png"
        files[f"leftImg8bit_foggy/{split}/{city}/{name}"] = image
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        assert cv2.imwrite(str(root / name), content)


@pytest.fixture
def tree(tmp_path):
    """Two cities; instances, groups, a caravan, and an image without anything."""
    both = street(
        (26000, 2, 3, 10, 8),  # a car, and
        (26001, 8, 5, 12, 9),  # one before it
        (24000, 20, 2, 23, 12),  # a person
        (25000, 20, 2, 23, 5),  # hides the upper part
        (29000, 30, 0, 34, 4),  # a caravan
        (24, 30, 10, 36, 14),  # a group of people
        (24, 38, 10, 40, 14),  # and another one
    )
    write(tmp_path, "val", "zwickau", "zwickau_000000_000019", both)
    write(tmp_path, "val", "aachen", "aachen_000000_000019", street())
    write(
        tmp_path, "val", "aachen", "aachen_000001_000019", street((33004, 0, 0, 1, 1))
    )
    return tmp_path


def test_boxes_groups_and_empty_images_by_hand(tree):
    counts = convert(tree, "val")
    content = json.loads((tree / "annotations/val.json").read_text())
    assert [image["file_name"] for image in content["images"]] == [
        "leftImg8bit/val/aachen/aachen_000000_000019_leftImg8bit.png",
        "leftImg8bit/val/aachen/aachen_000001_000019_leftImg8bit.png",
        "leftImg8bit/val/zwickau/zwickau_000000_000019_leftImg8bit.png",
    ]
    assert all(
        (image["height"], image["width"]) == (HEIGHT, WIDTH)
        for image in content["images"]
    )
    assert [(c["id"], c["name"]) for c in content["categories"]] == list(
        enumerate(CLASSES, start=1)
    )
    found = [
        (a["image_id"], a["category_id"], a["bbox"], a["area"], a["iscrowd"])
        for a in content["annotations"]
    ]
    assert found == [
        (2, 8, [0, 0, 1, 1], 1, 0),  # the bicycle: one pixel is a box of size 1
        (3, 1, [20, 5, 3, 7], 21, 0),  # the visible part of the person
        (3, 2, [20, 2, 3, 3], 9, 0),
        (3, 3, [2, 3, 8, 5], 40 - 6, 0),  # six of its pixels are hidden
        (3, 3, [8, 5, 4, 4], 16, 0),
        (3, 1, [30, 10, 6, 4], 24, 1),
        (3, 1, [38, 10, 2, 4], 8, 1),
    ]
    assert [a["id"] for a in content["annotations"]] == list(range(1, 8))
    assert (counts["images"], counts["empty"], counts["crowds"]) == (3, 1, 2)
    assert counts["boxes"]["car"] == 2
    assert counts["boxes"]["train"] == 0
    assert "3 images (1 without a box), 2 groups" in summary("val", counts)


def test_fog_shares_the_boxes_and_names_its_density(tree):
    convert(tree, "val", (None, 0.02))
    clear = json.loads((tree / "annotations/val.json").read_text())
    fog = json.loads((tree / "annotations/val_foggy_beta_0.02.json").read_text())
    assert fog["annotations"] == clear["annotations"]
    assert fog["images"][2]["file_name"] == (
        "leftImg8bit_foggy/val/zwickau/"
        "zwickau_000000_000019_leftImg8bit_foggy_beta_0.02.png"
    )


def test_conversion_does_not_depend_on_the_workers(tree):
    convert(tree, "val", workers=1)
    alone = (tree / "annotations/val.json").read_bytes()
    convert(tree, "val", workers=2)
    assert (tree / "annotations/val.json").read_bytes() == alone


def test_boxes_of_a_map_equal_a_search_value_by_value():
    mask = np.random.default_rng(0).integers(0, 9, (13, 17)).astype(np.uint16) * 7000
    values, boxes, areas = boxes_of(mask)
    assert values.tolist() == [7000 * k for k in range(1, 9)]
    for value, box, area in zip(values, boxes, areas, strict=True):
        rows, columns = np.nonzero(mask == value)
        assert box.tolist() == [
            columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
        ]  # fmt: skip
        assert area == len(rows)


def test_a_mask_without_classes_has_no_annotation():
    assert annotate(np.full((4, 5), 7, np.uint16)) == []


def test_constants_fit_together():
    assert len(PALETTE) == len(CLASSES) == len(LABEL_IDS) == 8
    assert LABEL_IDS["train"] == 31
    assert LABEL_IDS["bicycle"] == 33
    assert EXPECTED_COUNTS == {"train": 2975, "val": 500}


def test_a_missing_tree_says_what_to_download(tmp_path):
    with pytest.raises(UserError, match="instanceIds") as caught:
        convert(tmp_path / "nowhere", "train")
    assert "gtFine_trainvaltest.zip" in caught.value.fix


def test_a_missing_clear_image_is_named(tree):
    path = tree / "leftImg8bit/val/zwickau/zwickau_000000_000019_leftImg8bit.png"
    path.unlink()
    with pytest.raises(UserError, match=path.name):
        convert(tree, "val")


def test_a_missing_foggy_twin_says_what_to_download(tree):
    name = "aachen_000001_000019_leftImg8bit_foggy_beta_0.02.png"
    (tree / "leftImg8bit_foggy/val/aachen" / name).unlink()
    with pytest.raises(UserError, match=f"twin of .* is missing: .*{name}") as caught:
        convert(tree, "val", (0.02,))
    assert "leftImg8bit_trainvaltest_foggy.zip" in caught.value.fix


def test_another_density_lists_those_that_are_there(tree):
    with pytest.raises(UserError, match=r"there is fog of beta 0\.02 only") as caught:
        convert(tree, "val", (0.01,))
    assert "--beta 0.02" in caught.value.fix


def test_a_truncated_mask_is_named(tree):
    path = tree / "gtFine/val/zwickau/zwickau_000000_000019_gtFine_instanceIds.png"
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(UserError, match="no readable one-channel PNG"):
        convert(tree, "val")
    # The mistake ends the worker's job, not the worker.
    with pytest.raises(UserError, match=path.name):
        convert(tree, "val", workers=2)
    assert not (tree / "annotations/val.json").exists()


def test_prepare_prints_counts_and_says_when_images_lack(tree, capsys):
    from argparse import ArgumentParser

    from pld_mmdet.detection.data import cityscapes

    parser = ArgumentParser()
    cityscapes.arguments(parser)
    options = ["--root", str(tree), "--splits", "val", "--workers", "1"]
    cityscapes.prepare(parser.parse_args(options))
    printed = capsys.readouterr().out
    assert "val: 3 images, the full set has 500" in printed

    parser = ArgumentParser()
    foggy_cityscapes.arguments(parser)
    foggy_cityscapes.prepare(parser.parse_args([*options, "--beta", "0.02"]))
    assert "val, beta 0.02: 3 images" in capsys.readouterr().out
    assert (tree / "annotations/val_foggy_beta_0.02.json").is_file()
    with pytest.raises(SystemExit):  # the density is never guessed
        parser.parse_args(options)
