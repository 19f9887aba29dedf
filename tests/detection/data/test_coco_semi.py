"""Folds of few labels: disjoint, reproducible, and no box in the unlabelled file."""

import argparse
import json

import numpy as np
import pytest

from pld_mmdet.detection.data import coco_semi
from pld_mmdet.errors import UserError


@pytest.fixture
def root(tmp_path):
    images = [dict(id=10 * n, file_name=f"{n}.jpg") for n in range(40)]
    boxes = [
        dict(id=n, image_id=image["id"], category_id=1 + n % 2, bbox=[0, 0, 5, 5])
        for n, image in enumerate(images)
        if n != 7
    ]
    categories = [
        dict(id=1, name="cat"),
        dict(id=2, name="dog"),
        dict(id=3, name="yak"),
    ]
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations/all.json").write_text(
        json.dumps(
            dict(images=images, annotations=boxes, categories=categories, info={})
        )
    )
    return tmp_path


def read(root, name):
    return json.loads((root / name).read_text())


def test_folds_are_disjoint_complete_and_without_hidden_boxes(root):
    lines = coco_semi.write_folds(root, "annotations/all.json", [1, 2], [10, 25])
    assert len(lines) == 4
    assert lines[0].startswith("10 %, fold 1: 4 labelled images")
    assert lines[0].endswith("36 unlabelled; no labelled box of: yak")
    chosen = {}
    for percent, number in ((10, 4), (25, 10)):
        for fold in (1, 2):
            names = coco_semi.fold_names("annotations/all.json", fold, percent)
            assert names[0] == f"semi_anns/all.{fold}@{percent}.json"
            assert names[1] == f"semi_anns/all.{fold}@{percent}-unlabeled.json"
            labelled, others = (read(root, name) for name in names)
            ids = [{i["id"] for i in part["images"]} for part in (labelled, others)]
            assert len(ids[0]) == number
            assert not ids[0] & ids[1]
            assert len(ids[0] | ids[1]) == 40
            assert {a["image_id"] for a in labelled["annotations"]} == ids[0] - {70}
            assert others["annotations"] == []
            assert labelled["categories"] == others["categories"]
            chosen[percent, fold] = ids[0]
    assert chosen[10, 1] != chosen[10, 2]


def test_the_draw_is_that_of_the_published_folds(root):
    """numpy's global generator, seeded by the fold, without replacement."""
    np.random.seed(3)
    expected = set(np.random.choice(range(40), size=10, replace=False))
    labelled, _ = coco_semi.split(read(root, "annotations/all.json"), 3, 25)
    assert {i["id"] // 10 for i in labelled["images"]} == expected


def test_fractions_of_a_percent_keep_their_name():
    assert coco_semi.fold_names("a/b.json", 1, 0.5)[0] == "semi_anns/b.1@0.5.json"


def test_unlabelled_images_of_coco_get_categories(root):
    assert coco_semi.write_unlabeled(root, "annotations/all.json") is None
    (root / "annotations/image_info_unlabeled2017.json").write_text(
        json.dumps(dict(images=[dict(id=1, file_name="u.jpg")]))
    )
    line = coco_semi.write_unlabeled(root, "annotations/all.json")
    assert line == "instances_unlabeled2017.json: 1 unlabelled images"
    content = read(root, "annotations/instances_unlabeled2017.json")
    assert content["annotations"] == []
    assert len(content["categories"]) == 3


def test_command_line(root, capsys):
    parser = argparse.ArgumentParser()
    coco_semi.arguments(parser)
    args = ["--root", str(root), "--ann", "annotations/all.json"]
    coco_semi.prepare(parser.parse_args([*args, "--percents", "50", "--folds", "4"]))
    assert capsys.readouterr().out.startswith("50 %, fold 4: 20 labelled images")
    assert (root / "semi_anns/all.4@50-unlabeled.json").is_file()


def test_bad_input_is_named(root):
    with pytest.raises(UserError, match="1 % of 40 images are 0"):
        coco_semi.write_folds(root, "annotations/all.json", [1], [1])
    with pytest.raises(UserError, match=r"none\.json cannot be read"):
        coco_semi.write_folds(root, "annotations/none.json", [1], [10])
    (root / "broken.json").write_text("{")
    with pytest.raises(UserError, match="is no json"):
        coco_semi.write_folds(root, "broken.json", [1], [10])
    (root / "list.json").write_text("[]")
    with pytest.raises(UserError, match="no COCO annotation file"):
        coco_semi.write_folds(root, "list.json", [1], [10])
