"""Converters of the adaptation benchmarks, on trees in their native formats."""

import importlib
import json
from argparse import Namespace

import pytest

from pld_mmdet.detection.data import bdd100k, cityscapes, kitti, sim10k, voc
from pld_mmdet.detection.data.fewshot import VOC
from pld_mmdet.detection.data.files import write_json
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
        ("car", [10.0, 20.0, 49.0, 29.0], 0, 0),  # 59 - 10, as KITTI evaluates
        ("car", [70.0, 5.0, 20.0, 10.0], 1, 0),
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


def test_boxes_are_clipped_and_strange_ones_are_counted_and_printed(tmp_path, capsys):
    trees.voc_folder(tmp_path, {"x": 2}, ["car"])
    objects = [
        trees.voc_object("car", (-20, 1, 50, 30)),
        trees.voc_object("car", (200, 1, 250, 30)),
        trees.voc_object("car", (60, 1, 20, 30)),
        trees.voc_object("car", (60, 9, 20, 30)),
        trees.voc_object("car", (11, 9, 10, 30)),  # 1-based: x from 10 to 10
    ]
    trees.voc_xml(tmp_path / "Annotations/x_000.xml", *objects)
    trees.voc_xml(tmp_path / "Annotations/x_001.xml", size=(64, 96))  # it is 96 x 64
    sim10k.prepare(Namespace(root=tmp_path))
    content = read(tmp_path, "train")
    assert [a["bbox"] for a in content["annotations"]] == [[0.0, 0.0, 50.0, 30.0]]
    assert [(i["width"], i["height"]) for i in content["images"]] == [(96, 64)] * 2
    said = capsys.readouterr().out
    for words in (
        "1 boxes outside of their image left out",
        "2 boxes with exchanged corners left out",
        "1 boxes without width or height left out",
        "1 images of another size than their annotation states",
    ):
        assert words in said
    assert sum(content["info"]["left_out"].values()) == 5


@pytest.mark.parametrize("number", ["nan", "inf", "-inf", "1e999"])
@pytest.mark.parametrize("name", ["sim10k", "clipart1k", "kitti", "bdd100k", "voc"])
def test_a_corner_that_is_no_number_is_refused_and_nothing_written(
    tmp_path, name, number
):
    trees.benchmarks(tmp_path)
    root = tmp_path / PREPARE[name]
    files = [*root.rglob("*.xml"), *root.rglob("label_2/*.txt")]
    if name == "bdd100k":
        path = root / "labels/bdd100k_labels_images_train.json"
        spelt = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}
        text = path.read_text().replace(
            '"x2": 60', f'"x2": {spelt.get(number, number)}'
        )
    else:
        path = min(p for p in files if "60" in p.read_text() or "Car" in p.read_text())
        text = path.read_text()
        old = "59.00" if name == "kitti" else ">60<"
        text = text.replace(old, number if name == "kitti" else f">{number}<")
    assert text != path.read_text()
    path.write_text(text)
    with pytest.raises(UserError, match=r"corners .*(nan|inf)|no number of json"):
        run(name, root)
    part = "test" if "test" in path.name else "train"
    assert not (root / f"annotations/{part}.json").exists()


def test_a_frame_that_is_listed_twice_is_refused(tmp_path):
    trees.bdd100k(tmp_path)
    path = tmp_path / "labels/bdd100k_labels_images_train.json"
    frames = json.loads(path.read_text())
    path.write_text(json.dumps([*frames, frames[0]]))
    with pytest.raises(UserError, match=r"train0\.jpg is listed twice"):
        bdd100k.prepare(Namespace(root=tmp_path))


def test_bdd_images_of_another_size_are_counted(tmp_path, capsys):
    trees.bdd100k(tmp_path)
    trees.image(tmp_path / "images/100k/train/train0.jpg", 0, (640, 360))
    bdd100k.prepare(Namespace(root=tmp_path))
    assert "1 images of another size" in capsys.readouterr().out
    assert read(tmp_path, "train_daytime")["images"][0]["width"] == 640


def test_a_mask_of_another_size_than_its_image_is_refused(tmp_path):
    trees.cityscapes(tmp_path)
    image = next((tmp_path / "leftImg8bit/val").rglob("*.png"))
    trees.image(image, 0, (48, 32))
    with pytest.raises(UserError, match=r"is 48 x 32 px, its mask .* is 96 x 64 px"):
        cityscapes.convert(tmp_path, "val")
    assert not (tmp_path / "annotations").exists()


def test_no_json_is_written_with_nan(tmp_path):
    with pytest.raises(UserError, match="NaN or infinite"):
        write_json(tmp_path / "a.json", {"bbox": [1.0, float("nan")]})
    assert not list(tmp_path.iterdir())
