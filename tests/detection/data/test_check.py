"""check_data: each fault in the data gives its sentence."""

import json
import pickle
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config

from pld_mmdet.detection.data.check import check_data, problems, raise_problems
from pld_mmdet.detection.data.cityscapes import CLASSES
from pld_mmdet.engine.data.images import image_fault
from pld_mmdet.errors import UserError
from tests.engine.processes import Tool


@pytest.fixture
def data(streets):
    """The small FoggyStreets tree, which a test may damage."""
    return streets


def config(root: Path, classes=CLASSES, **more) -> Config:
    """Unlabelled training images with two views, labelled val and test images."""
    pack = dict(type="PackDetInputs")
    views = dict(type="MultiBranch", branch_field=["weak", "strong"])
    views.update(weak=[pack], strong=[pack])

    def labelled(split):
        return dict(
            dataset=dict(
                type="CocoDataset",
                data_root=f"{root}/",
                ann_file=f"annotations/{split}_foggy_beta_0.02.json",
                data_prefix=dict(img=""),
                metainfo=dict(classes=classes),
                test_mode=True,
                pipeline=[pack],
            )
        )

    train = dict(
        type="pld_mmdet.ImageFolder",
        data_root=str(root),
        pattern="leftImg8bit_foggy/train/*/*_beta_0.02.png",
        metainfo=dict(classes=classes),
        pipeline=[dict(type="LoadImageFromFile"), views],
    )
    return Config(
        dict(
            default_scope="mmdet",
            train_dataloader=dict(
                dataset=dict(type="pld_mmdet.SeededDataset", dataset=train)
            ),
            val_dataloader=labelled("val"),
            test_dataloader=labelled("test"),
            **more,
        )
    )


def sentences(parts) -> str:
    return "; ".join(problem.what for problem in problems(parts))


def change(path: Path, edit) -> None:
    content = json.loads(path.read_text())
    edit(content)
    path.write_text(json.dumps(content))


def test_good_data_has_no_problem(streets):
    cfg = config(streets, expected_counts=dict(train=8, val=3, test=3))
    parts = check_data(cfg)
    assert problems(parts) == []
    train, val, test = parts
    assert (train.split, len(train.paths), train.counts) == ("train", 8, None)
    assert (len(val.paths), len(test.paths)) == (3, 3)
    assert val.sizes == {(384, 192): 3}
    assert train.sizes == {(384, 192): 8}
    annotations = json.loads(Path(val.source).read_text())["annotations"]
    assert sum(val.counts["boxes"].values()) == sum(
        not one["iscrowd"] for one in annotations
    )
    raise_problems([], None)


def test_counts_are_compared(streets):
    parts = check_data(config(streets, expected_counts=dict(train=2975, val=3)))
    assert sentences(parts) == "train has 8 images, expected are 2975"


@pytest.mark.parametrize("fast", [True, False])
def test_missing_and_truncated_images(data, fast):
    first, second = sorted(data.glob("leftImg8bit_foggy/val/*/*_beta_0.02.png"))[:2]
    first.unlink()
    second.write_bytes(second.read_bytes()[:-200])
    third = sorted(data.glob("leftImg8bit_foggy/train/*/*_beta_0.02.png"))[0]
    third.write_bytes(b"")
    parts = check_data(config(data), fast=fast, workers=2)
    text = sentences(parts)
    assert f"1 val image is missing, e.g. {first}" in text
    assert f"1 val image is truncated, e.g. {second}" in text
    assert f"1 train image is empty file, e.g. {third}" in text
    assert parts[1].missing == 1
    with pytest.raises(UserError) as caught:
        raise_problems(problems(parts), "python tools/prepare.py foggy_streets")
    assert caught.value.fix == (
        "Delete the broken files; then: python tools/prepare.py foggy_streets"
    )


def test_damage_in_the_middle_needs_the_full_look(data):
    path = sorted(data.glob("leftImg8bit_foggy/test/*/*_beta_0.02.png"))[0]
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)
    assert problems(check_data(config(data), fast=True)) == []
    assert "1 test image is damaged" in sentences(check_data(config(data)))


def test_class_order_and_names(data):
    swapped = ("rider", "person", *CLASSES[2:])
    text = sentences(check_data(config(data, swapped), fast=True))
    assert "in the order person, rider, car" in text
    assert "the config in the order rider, person, car" in text
    text = sentences(check_data(config(data, ("person", "tram")), fast=True))
    assert "lacks the class tram of the config" in text
    # A part of the classes in the right order is a setting, not a mistake.
    assert sentences(check_data(config(data, ("car",)), fast=True)) == ""


def test_splits_with_different_classes(streets):
    cfg = config(streets)
    cfg.test_dataloader.dataset.metainfo.classes = ("car",)
    text = sentences(check_data(cfg, fast=True))
    assert text.startswith("test has the classes car, train has person, rider")


def test_classes_of_the_checkpoint(streets, tmp_path, capsys):
    path = tmp_path / "last.pth"

    def look(meta) -> str:
        torch.save({"meta": meta, "state_dict": {}}, path)
        return sentences(check_data(config(streets), str(path), fast=True))

    assert look({"dataset_meta": {"classes": CLASSES}}) == ""
    text = look({"dataset_meta": {"classes": ("car", "person")}})
    assert (
        "was trained on the classes car, person, the config has person, rider" in text
    )
    assert "trained on the classes car, the" in look({"CLASSES": "car"})  # mmdet 2
    capsys.readouterr()
    assert look({}) == ""
    assert "does not say its classes" in capsys.readouterr().out
    with pytest.raises(UserError, match="does not exist"):
        check_data(config(streets), str(tmp_path / "none.pth"), fast=True)


def test_broken_annotations(data):
    path = data / "annotations/val_foggy_beta_0.02.json"
    whole = path.read_text()

    def stray(content):
        content["annotations"][0]["image_id"] = 999

    def flat(content):
        content["annotations"][1]["bbox"][2] = 0

    def twice(content):
        content["images"][1]["file_name"] = content["images"][0]["file_name"]

    def sizes(content):
        content["images"][0]["width"] = 1

    def thin(content):
        content["annotations"][0]["area"] = 0
        content["annotations"][1]["bbox"][2] = 0.4

    def shares(content):
        for one in content["annotations"]:
            one["bbox"] = [number / 400 for number in one["bbox"]]

    for edit, wanted in (
        (thin, "2 boxes have an area of 0 or a side below one pixel"),
        (shares, "annotations have a bbox in shares of the image"),
        (lambda content: content["annotations"][0].pop("area"), "1 annotations have"),
        (stray, "1 boxes belong to no image"),
        (flat, "1 boxes have no width or height"),
        (twice, "lists 1 images twice"),
        (sizes, "states the sizes 2 x 384x192, 1 x 1x192, the images have 3 x 384x192"),
        (lambda content: content.pop("images"), "is no COCO file (KeyError"),
    ):
        path.write_text(whole)
        change(path, edit)
        assert wanted in sentences(check_data(config(data)))
    path.write_text("[")
    assert "is no COCO file (JSONDecodeError" in sentences(check_data(config(data)))
    path.unlink()
    assert f"the annotation file {path} is missing" in sentences(
        check_data(config(data), fast=True)
    )


def test_what_mmdet_ignores_is_no_box(data):
    path = data / "annotations/val_foggy_beta_0.02.json"
    before = check_data(config(data), fast=True)[1].counts
    change(path, lambda c: [one.update(ignore=1) for one in c["annotations"]])
    after = check_data(config(data), fast=True)[1].counts
    assert sum(before["boxes"].values()) > 0 == sum(after["boxes"].values())
    assert after["empty"] == after["images"]


def test_a_missing_root_names_the_command_that_makes_it(tmp_path):
    parts = check_data(config(tmp_path / "nowhere"))
    with pytest.raises(UserError) as caught:
        raise_problems(problems(parts), "python tools/prepare.py foggy_streets")
    assert "train: No image found" in caught.value.what
    assert caught.value.fix == "python tools/prepare.py foggy_streets"


def test_a_config_without_data(tmp_path):
    with pytest.raises(UserError, match="none of train_dataloader"):
        check_data(Config(dict(model=dict())))


def test_labelled_data_sets_of_other_types_count_their_boxes(streets, tmp_path):
    cfg = config(streets)
    cfg.pop("train_dataloader")
    cfg.pop("test_dataloader")
    listing = dict(
        metainfo=dict(classes=CLASSES),
        data_list=[
            dict(
                img_path=str(streets / "foggy_streets.json"),
                instances=[
                    dict(bbox=[0, 0, 4, 4], bbox_label=2, ignore_flag=0),
                    dict(bbox=[0, 0, 4, 4], bbox_label=0, ignore_flag=1),
                ],
            )
        ],
    )
    path = tmp_path / "list.pkl"
    path.write_bytes(pickle.dumps(listing))
    cfg.val_dataloader.dataset = dict(
        type="BaseDetDataset",
        ann_file=str(path),
        metainfo=dict(classes=CLASSES),
        test_mode=True,
    )
    (part,) = check_data(cfg)
    assert part.counts["boxes"]["car"] == 1
    assert part.counts["boxes"]["person"] == 0
    assert "1 val image is not decodable" in sentences([part])


def test_classes_of_a_data_set_without_metainfo(data):
    cfg = config(data)
    cfg.val_dataloader.dataset.pop("metainfo")
    text = sentences(check_data(cfg, fast=True))
    # CocoDataset then has the 80 classes of COCO.
    assert "lacks the classes airplane" in text
    assert "val has the classes person, bicycle, car" in text


def test_jpeg(tmp_path):
    path = tmp_path / "a.jpg"
    cv2.imwrite(str(path), np.zeros((30, 50, 3), np.uint8))
    assert image_fault(path) == (None, (50, 30))
    whole = path.read_bytes()
    path.write_bytes(whole + b"appended by a camera")
    assert image_fault(path, fast=True) == (None, None)
    path.write_bytes(whole[:-20])
    assert image_fault(path) == ("truncated", None)
    assert image_fault(path, fast=True) == ("truncated", None)


def test_the_command(data):
    path = data.parent / "config.py"
    config(data, how_to_get=dict(data="python make_it.py")).dump(path)
    (data / "annotations/val_foggy_beta_0.02.json").unlink()
    tool = Tool("check_data", path, "--fast", log=data.parent / "log")
    said = tool.finish(code=2)
    assert "Traceback" not in said
    lines = said.strip().splitlines()[-2:]
    assert lines[0].startswith("error: the annotation file")
    assert lines[1] == "fix:   python make_it.py"
    assert "Images" in said
