"""A COCO json of a user: each broken entry is a sentence, never an AP."""

import copy
import json

import pytest

from pld_mmdet.detection.data.coco import check_coco, read_coco
from pld_mmdet.errors import UserError

GOOD = dict(
    categories=[dict(id=1, name="cat"), dict(id=7, name="dog")],
    images=[
        dict(id=3, file_name="a.png", width=96, height=64),
        dict(id=4, file_name="b.png", width=30, height=20),
    ],
    annotations=[
        dict(id=1, image_id=3, category_id=7, bbox=[10, 5, 30, 20], area=600),
        dict(id=2, image_id=3, category_id=1, bbox=[80, 50, 20.5, 16], iscrowd=1),
        dict(id=3, image_id=4, category_id=1, bbox=[5, 5, 0, 3], area=0),  # COCO has it
    ],
)
BAD = {
    "NaN, infinite or no number": [
        ("annotations", 0, "bbox", [float("nan"), 5, 30, 20]),
        ("annotations", 0, "bbox", [10, 5, float("inf"), 20]),
        ("annotations", 0, "bbox", [10, 5, "30", 20]),
        ("annotations", 0, "bbox", [10, None, 30, 20]),
    ],
    "no bbox of four": [("annotations", 0, "bbox", [1, 2, 3])],
    "negative width or height": [("annotations", 0, "bbox", [30, 5, -20, 20])],
    "outside of their image": [
        ("annotations", 0, "bbox", [97, 5, 3, 3]),
        ("annotations", 2, "bbox", [80, 5, 3, 3]),  # would be inside image 3
        ("annotations", 0, "bbox", [-9, -9, 3, 3]),
    ],
    "more than twice as large": [("annotations", 0, "bbox", [0, 0, 193, 5])],
    "an area that is no number": [
        ("annotations", 0, "area", float("nan")),
        ("annotations", 0, "area", -600),
    ],
    "belong to no image": [("annotations", 0, "image_id", 5)],
    "unknown category": [
        ("annotations", 0, "category_id", 2),
        ("annotations", 0, "category_id", [7]),
    ],
    "annotations have no id of their own": [("annotations", 1, "id", 1)],
    "images have an id twice": [("images", 1, "id", 3)],
    "images are listed twice": [("images", 1, "file_name", "a.png")],
    "no width and height above 0": [
        ("images", 1, "width", 0),
        ("images", 1, "height", float("nan")),
        ("images", 1, "height", "20"),
    ],
    "categories have an id twice": [("categories", 1, "id", 1)],
}


def test_a_good_file_passes(tmp_path):
    path = tmp_path / "good.json"
    path.write_text(json.dumps(GOOD))
    assert read_coco(path) == GOOD
    check_coco(dict(images=[dict(id=1)]), "no labels, no sizes")
    check_coco(dict(categories=[], annotations=[]), "no images")
    for part, key in (
        ("images", "width"),
        ("images", "file_name"),
        ("annotations", "id"),
    ):
        content = copy.deepcopy(GOOD)
        del content[part][0][key]
        check_coco(content, "x.json")
        with pytest.raises(UserError, match=rf"x\.json: 1 {part} have no .*{key[:4]}"):
            check_coco(content, "x.json", complete=True)
    with pytest.raises(UserError, match="1 annotations have an area"):
        check_coco(GOOD, "x.json", complete=True)  # mmdet's CocoDataset would stop


@pytest.mark.parametrize(
    ("words", "part", "row", "key", "value"),
    [(words, *change) for words, changes in BAD.items() for change in changes],
)
def test_each_broken_entry_is_counted_and_shown(words, part, row, key, value):
    content = copy.deepcopy(GOOD)
    content[part][row][key] = value
    with pytest.raises(
        UserError, match=rf"x\.json: 1 .*{words}.*, e\.g\. {{"
    ) as caught:
        check_coco(content, "x.json")
    assert caught.value.fix == "Correct or delete these entries."


def test_two_faults_in_one_sentence():
    content = copy.deepcopy(GOOD)
    content["annotations"][0]["bbox"][2] = -1
    content["annotations"][1]["image_id"] = 99
    content["annotations"][2]["image_id"] = 98
    with pytest.raises(UserError, match=r"2 annotations belong to no image.*; 1 annot"):
        check_coco(content, "x.json")


def other_boxes(rewrite) -> dict:
    """Five sound boxes of each image, written otherwise."""
    content = copy.deepcopy(GOOD)
    content["annotations"] = []
    for image in content["images"]:
        wide, tall = image["width"], image["height"]
        for n in range(1, 6):
            box = rewrite(wide, tall, n * wide / 8, n * tall / 8, wide / 5, tall / 5)
            row = dict(id=len(content["annotations"]), image_id=image["id"])
            content["annotations"].append(row | dict(category_id=7, bbox=box, area=9))
    return content


def test_boxes_of_another_file_format():
    check_coco(other_boxes(lambda w, h, *box: list(box)), "x.json", complete=True)
    for words, rewrite in (
        ("shares of", lambda w, h, x, y, a, b: [x / w, y / h, a / w, b / h]),
        ("corners", lambda w, h, x, y, a, b: [x, y, x + a, y + b]),
    ):
        content = other_boxes(rewrite)
        with pytest.raises(UserError, match=f"10 annotations have a bbox .*{words}"):
            check_coco(content, "x.json")
    whole = other_boxes(lambda w, h, *box: [0, 0, 1.02 * w, 1.02 * h])
    check_coco(whole, "x.json")  # large boxes a little over the edge


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[1, 2]",
        '"a"',
        "{}",
        '{"images": 3}',
        '{"images": [3]}',
        "\x00\x01",
        "[" * 9999,
    ],
)
def test_other_files_are_named(tmp_path, text):
    path = tmp_path / "x.json"
    path.write_text(text)
    with pytest.raises(UserError, match=r"x\.json"):
        read_coco(path)
    with pytest.raises(UserError, match="cannot be read"):
        read_coco(tmp_path)
