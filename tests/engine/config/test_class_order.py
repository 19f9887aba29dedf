"""Labels that would mean another class are refused before anything is built."""

import json

import pytest
from mmengine.config import Config

from pld_mmdet.engine.config.class_order import categories, check_class_order
from pld_mmdet.engine.config.preflight import check_config
from pld_mmdet.engine.run.stack import import_mmdet
from pld_mmdet.errors import UserError

LISTED = ("cat", "dog", "hen")


@pytest.fixture
def cfg(tmp_path):
    import_mmdet()
    content = dict(
        images=[dict(id=1, file_name="0.png", width=9, height=9)],
        annotations=[
            dict(id=1, image_id=1, category_id=30, bbox=[1, 1, 4, 4], area=16)
        ],
        categories=[dict(id=10 * n + 10, name=name) for n, name in enumerate(LISTED)],
    )
    (tmp_path / "x.json").write_text(json.dumps(content))
    (tmp_path / "0.png").write_bytes(b"0")
    leaf = dict(type="CocoDataset", data_root=str(tmp_path), ann_file="x.json")
    leaf.update(data_prefix=dict(img=""), pipeline=[], metainfo=dict(classes=LISTED))
    return Config(
        dict(
            default_scope="mmdet",
            train_dataloader=dict(batch_size=1, dataset=leaf),
            work_dir=str(tmp_path / "work"),
        )
    )


@pytest.mark.parametrize(
    ("classes", "words"),
    [
        (("dog", "cat", "hen"), "class 0 of the config is 'dog', .* has 'cat' in its"),
        (
            ("cat", "Dog", "hen"),
            "class 1 of the config is 'Dog', and the file lacks it",
        ),
        (("cow",), "class 0 of the config is 'cow', and the file lacks it"),
        ("cow", "is 'cow', and the file lacks it"),
    ],
)
def test_other_names_and_another_order_are_refused(cfg, classes, words):
    cfg.train_dataloader.dataset.metainfo.classes = classes
    with pytest.raises(UserError, match=words):
        check_config(cfg, ("train",))


@pytest.mark.parametrize("classes", [LISTED, ["dog", "hen"], (*LISTED, "cow"), "cat"])
def test_a_part_in_the_order_of_the_file_is_right(cfg, classes):
    cfg.train_dataloader.dataset.metainfo.classes = classes
    check_class_order(cfg, ("train_dataloader",))


def test_classes_of_the_type_and_of_other_readers(cfg):
    data = cfg.train_dataloader.dataset
    del data.metainfo  # the 80 of COCO
    with pytest.raises(UserError, match="class 0 of the config is 'person'"):
        check_class_order(cfg, ("train_dataloader",))
    data.type = "Objects365V1Dataset"  # sorts the categories itself
    check_class_order(cfg, ("train_dataloader", "val_dataloader"))


def test_it_is_what_mmdet_does(cfg):
    from mmdet.registry import DATASETS

    data = cfg.train_dataloader.dataset
    data.metainfo.classes = ("hen", "cat", "dog")
    (instance,) = DATASETS.build(data).get_data_info(0)["instances"]
    assert instance["bbox_label"] == 2  # a hen, which the config calls a dog


def test_the_list_is_found_without_reading_the_rest(tmp_path):
    path = tmp_path / "x.json"
    for text, names in (
        ('{"info": {"categories": 3}, "categories": [{"id": 1, "name": "ö"}]}', ["ö"]),
        ('{"categories" : [ ], "images": []}', []),
        ('{"categories": [{"id": 1}], "images": []}', None),
        ("{}", None),
        ("", None),
    ):
        path.write_text(text, encoding="utf-8")
        assert categories(str(path)) == names
