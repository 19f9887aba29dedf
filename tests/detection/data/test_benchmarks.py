"""Converters of the adaptation benchmarks, on trees in their native formats."""

import importlib
import json
from argparse import Namespace

import pytest

from pld_mmdet.detection.data import bdd100k, kitti, sim10k, voc
from pld_mmdet.detection.data.fewshot import VOC
from pld_mmdet.errors import UserError
from tests.detection.data import trees

PREPARE = {
    "kitti": "kitti",
    "bdd100k": "bdd100k",
    "sim10k": "sim10k",
    "clipart1k": "clipart",
    "watercolor2k": "watercolor",
    "voc": "VOCdevkit",
}


def run(name, root):
    module = importlib.import_module(f"pld_mmdet.detection.data.{name}")
    module.prepare(Namespace(root=root))


def read(root, name):
    return json.loads((root / "annotations" / f"{name}.json").read_text())


def boxes(content):
    names = {c["id"]: c["name"] for c in content["categories"]}
    return [
        (names[a["category_id"]], a["bbox"], a["iscrowd"], a["difficult"])
        for a in content["annotations"]
    ]


def test_kitti_cars_and_regions_to_ignore(tmp_path, capsys):
    trees.kitti(tmp_path)
    run("kitti", tmp_path)
    content = read(tmp_path, "train")
    assert [i["file_name"] for i in content["images"]] == [
        f"training/image_2/00000{i}.png" for i in range(3)
    ]
    assert boxes(content) == [
        ("car", [10.0, 20.0, 50.0, 30.0], 0, 0),  # inclusive corners: 59 - 10 + 1
        ("car", [70.0, 5.0, 21.0, 11.0], 1, 0),
    ]
    said = capsys.readouterr().out
    assert "3 images (2 without a box), 1 groups, boxes: car 1" in said
    assert "the full set has 7481" in said


def test_bdd_daytime_only_with_cityscapes_names(tmp_path):
    trees.bdd100k(tmp_path)
    run("bdd100k", tmp_path)
    content = read(tmp_path, "train_daytime")
    assert [i["file_name"] for i in content["images"]] == [
        "images/100k/train/train0.jpg",
        "images/100k/train/train2.jpg",
    ]
    assert boxes(content) == [("bicycle", [10.0, 20.0, 50.0, 30.0], 0, 0)]
    assert len(content["categories"]) == 8
    listed = (tmp_path / "annotations/val_daytime_images.txt").read_text().split()
    assert listed == ["images/100k/val/val0.jpg", "images/100k/val/val2.jpg"]


def test_sim10k_cars_of_all_images(tmp_path):
    trees.voc_folder(tmp_path, {"x": 3}, ["car", "person"])
    run("sim10k", tmp_path)
    content = read(tmp_path, "train")
    assert [i["file_name"] for i in content["images"]] == [
        "JPEGImages/x_000.jpg",
        "JPEGImages/x_001.jpg",
        "JPEGImages/x_002.png",
    ]
    # 1-based corners: 11 21 60 50 -> x 10, y 20, width 50, height 30
    assert boxes(content)[0] == ("car", [10.0, 20.0, 50.0, 30.0], 0, 0)
    assert [a["image_id"] for a in content["annotations"]] == [1, 1, 3]


@pytest.mark.parametrize(
    ("name", "folder"), [("clipart1k", "clipart"), ("watercolor2k", "watercolor")]
)
def test_art_keeps_the_20_categories_of_the_detector(tmp_path, name, folder):
    trees.benchmarks(tmp_path)
    run(name, tmp_path / folder)
    content = read(tmp_path / folder, "train")
    assert [c["name"] for c in content["categories"]] == VOC
    assert len(content["images"]) == 3
    assert [box[3] for box in boxes(content)] == [0, 1, 0]  # one difficult object
    assert len((tmp_path / folder / "annotations/test_images.txt").read_text()) > 0


def test_voc_joins_two_years(tmp_path):
    trees.benchmarks(tmp_path)
    run("voc", tmp_path / "VOCdevkit")
    content = read(tmp_path / "VOCdevkit", "train")
    assert [i["file_name"] for i in content["images"]] == [
        "VOC2007/JPEGImages/trainval_000.jpg",
        "VOC2007/JPEGImages/trainval_001.jpg",
        "VOC2012/JPEGImages/trainval_000.jpg",
        "VOC2012/JPEGImages/trainval_001.jpg",
    ]
    assert len(read(tmp_path / "VOCdevkit", "test")["images"]) == 2


@pytest.mark.parametrize("name", PREPARE)
def test_two_conversions_give_the_same_bytes(tmp_path, name):
    trees.benchmarks(tmp_path)
    root = tmp_path / PREPARE[name]
    run(name, root)
    first = {p.name: p.read_bytes() for p in (root / "annotations").iterdir()}
    run(name, root)
    assert first == {p.name: p.read_bytes() for p in (root / "annotations").iterdir()}


@pytest.mark.parametrize("name", PREPARE)
def test_a_missing_set_says_what_to_unpack(tmp_path, name):
    with pytest.raises(UserError, match=r"There is no|No xml|No txt") as caught:
        run(name, tmp_path)
    assert caught.value.fix.startswith("Unpack")


def test_a_missing_image_is_named(tmp_path):
    trees.voc_folder(tmp_path, {"train": 2, "test": 1}, ["dog"])
    (tmp_path / "JPEGImages/train_001.jpg").unlink()
    with pytest.raises(UserError, match=r"train_001\.jpg"):
        run("clipart1k", tmp_path)


def test_an_unknown_class_is_named_with_its_file(tmp_path):
    trees.voc_folder(tmp_path, {"x": 1}, ["tank"])
    with pytest.raises(UserError, match=r"x_000\.xml: unknown class 'tank'"):
        sim10k.prepare(Namespace(root=tmp_path))


@pytest.mark.parametrize("text", ["Car 0 0 0 1 2 x 4\n", "Car 1 2\n"])
def test_a_broken_kitti_line_is_named(tmp_path, text):
    trees.kitti(tmp_path)
    (tmp_path / "training/label_2/000001.txt").write_text(text)
    with pytest.raises(UserError, match=r"000001\.txt, line 1"):
        kitti.prepare(Namespace(root=tmp_path))


def test_a_broken_xml_is_named(tmp_path):
    path = tmp_path / "a.xml"
    trees.voc_xml(path, "<object><name>dog</name></object>")
    with pytest.raises(UserError, match=r"a\.xml is no annotation"):
        voc.read_xml(path)
    path.write_text("<annotation>")
    with pytest.raises(UserError, match=r"a\.xml is no annotation"):
        voc.read_xml(path)
    trees.voc_xml(path, size=(0, 5))
    with pytest.raises(UserError, match="states the size 0x5"):
        voc.read_xml(path)


def test_a_bdd_file_of_another_kind_is_refused(tmp_path):
    trees.bdd100k(tmp_path)
    (tmp_path / "labels/bdd100k_labels_images_train.json").write_text('[{"name": "a"}]')
    with pytest.raises(UserError, match="no label file of BDD100k"):
        bdd100k.prepare(Namespace(root=tmp_path))


def test_boxes_are_clipped_and_strays_are_counted(tmp_path):
    trees.voc_folder(tmp_path, {"x": 1}, ["car"])
    objects = [
        trees.voc_object("car", (-20, 1, 50, 30)),
        trees.voc_object("car", (200, 1, 250, 30)),
    ]
    trees.voc_xml(tmp_path / "Annotations/x_000.xml", *objects)
    sim10k.prepare(Namespace(root=tmp_path))
    content = read(tmp_path, "train")
    assert [a["bbox"] for a in content["annotations"]] == [[0.0, 0.0, 50.0, 30.0]]
    assert content["info"]["outside"] == 1
