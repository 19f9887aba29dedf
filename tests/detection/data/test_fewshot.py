"""Few-shot splits, K shots, VOC's files, and the box head with more classes."""

import json
import runpy
from pathlib import Path

import pytest
import torch

from pld_mmdet.detection.data.fewshot import (
    COCO_NOVEL,
    STREETS,
    STREETS_NOVEL,
    VOC,
    VOC_NOVEL,
    base_then_novel,
    few_shot_files,
    select_shots,
)
from pld_mmdet.detection.data.voc import voc_to_coco
from pld_mmdet.detection.detectors.class_surgery import remap_classes
from pld_mmdet.errors import UserError

ROOT = Path(__file__).resolve().parents[3]
NAMES = ("cat", "dog", "cow")


def content(per_class=(9, 5, 4), extra=()):
    """Images of two boxes each; classes in turn."""
    labels = [c for c, n in enumerate(per_class) for _ in range(n)]
    annotations = [
        dict(id=i + 1, image_id=i // 2 + 1, category_id=c + 1, bbox=[0, 0, 5, 5])
        for i, c in enumerate(labels)
    ]
    images = [dict(id=i + 1, file_name=f"{i}.png") for i in range(len(labels))]
    categories = [dict(id=c + 1, name=n) for c, n in enumerate(NAMES)]
    return dict(
        images=images, annotations=[*annotations, *extra], categories=categories
    )


def test_splits():
    assert len(VOC) == len(set(VOC)) == 20
    assert len(COCO_NOVEL) == len(set(COCO_NOVEL)) == 20
    for novel in VOC_NOVEL.values():
        base, last = base_then_novel(VOC, novel)
        assert len(base) == 15
        assert base == sorted(base)
        assert last == novel
        assert not set(base) & set(novel)
    assert base_then_novel(STREETS, STREETS_NOVEL)[0][-1] == "bicycle"
    with pytest.raises(UserError, match="'zebra' is not a class"):
        base_then_novel(VOC, ["zebra"])


class TestShots:
    def test_exactly_k_of_each_class_in_label_order(self):
        drawn = select_shots(content(), ("cow", "cat", "dog"), 3)
        ids = [row["category_id"] for row in drawn["annotations"]]
        assert sorted(ids) == [1, 1, 1, 2, 2, 2, 3, 3, 3]
        assert [c["name"] for c in drawn["categories"]] == ["cow", "cat", "dog"]
        used = {row["image_id"] for row in drawn["annotations"]}
        assert {image["id"] for image in drawn["images"]} == used

    def test_drawn_the_same_again_nested_and_class_by_class(self):
        def ids(drawn, category):
            rows = drawn["annotations"]
            return {r["id"] for r in rows if r["category_id"] == category}

        one = select_shots(content(), NAMES, 3, seed=4)
        assert one == select_shots(content(), NAMES, 3, seed=4)
        shuffled = content()
        shuffled["annotations"].reverse()
        assert one == select_shots(shuffled, NAMES, 3, seed=4)
        more = select_shots(content(), NAMES, 4, seed=4)
        alone = select_shots(content(), ["dog"], 3, seed=4)
        assert ids(one, 1) < ids(more, 1)
        assert ids(alone, 2) == ids(one, 2)
        draws = {tuple(ids(select_shots(content(), NAMES, 3, s), 1)) for s in range(9)}
        assert len(draws) > 1

    def test_crowds_and_difficult_objects_are_not_drawn(self):
        extra = [
            dict(id=90, image_id=1, category_id=3, bbox=[0, 0, 5, 5], iscrowd=1),
            dict(id=91, image_id=1, category_id=3, bbox=[0, 0, 5, 5], difficult=1),
        ]
        drawn = select_shots(content(extra=extra), NAMES, 4)
        assert not {90, 91} & {row["id"] for row in drawn["annotations"]}

    def test_more_shots_than_there_are(self):
        with pytest.raises(UserError, match=r"5 shots of 'cow' .* has 4"):
            select_shots(content(), NAMES, 5)
        with pytest.raises(UserError, match="cannot be drawn"):
            select_shots(content(), NAMES, 0)
        with pytest.raises(UserError, match="no category 'bus'"):
            select_shots(content(), ["bus"], 1)

    def test_files(self):
        files = few_shot_files(content(), content(), ["cat", "cow"], ["dog"], [1, 2], 7)
        assert set(files) == {"base", "test_base", "test", "1shot_seed7", "2shot_seed7"}
        assert all(r["category_id"] != 2 for r in files["base"]["annotations"])
        assert [c["name"] for c in files["test"]["categories"]] == ["cat", "cow", "dog"]
        assert len(files["2shot_seed7"]["annotations"]) == 6


def test_voc_files(tmp_path):
    folder = tmp_path / "VOC2007"
    (folder / "ImageSets" / "Main").mkdir(parents=True)
    (folder / "Annotations").mkdir()
    (folder / "JPEGImages").mkdir()
    (folder / "JPEGImages" / "000001.jpg").touch()
    (folder / "ImageSets" / "Main" / "test.txt").write_text("000001\n")
    thing = (
        "<object><name>{}</name><difficult>{}</difficult><bndbox><xmin>1</xmin>"
        "<ymin>1</ymin><xmax>40</xmax><ymax>30</ymax></bndbox></object>"
    )
    xml = folder / "Annotations" / "000001.xml"
    size = "<size><width>40</width><height>30</height></size>"
    things = thing.format("cat", 0) + thing.format("dog", 1)
    xml.write_text(f"<annotation>{size}{things}</annotation>")
    read = voc_to_coco(tmp_path, [("2007", "test")])
    assert read["images"][0]["file_name"] == "VOC2007/JPEGImages/000001.jpg"
    assert read["annotations"][0]["bbox"] == [0, 0, 40, 30]  # 1, 1, W, H -> 0, 0, W, H
    assert [row["difficult"] for row in read["annotations"]] == [0, 1]
    xml.write_text(f"<annotation>{size}{thing.format('yeti', 0)}</annotation>")
    with pytest.raises(UserError, match="unknown class 'yeti'"):
        voc_to_coco(tmp_path, [("2007", "test")])
    with pytest.raises(UserError, match="There is no"):
        voc_to_coco(tmp_path, [("2012", "trainval")])


class TestSurgery:
    def weights(self, classes=2, agnostic=False):
        head = "roi_head.bbox_head."
        boxes = 4 if agnostic else 4 * classes
        return {
            f"{head}fc_cls.weight": torch.randn(classes + 1, 5),
            f"{head}fc_cls.bias": torch.randn(classes + 1),
            f"{head}fc_reg.weight": torch.randn(boxes, 5),
            f"{head}fc_reg.bias": torch.randn(boxes),
            "backbone.conv1.weight": torch.randn(3),
        }

    def test_rows_move_by_name_and_background_stays_last(self):
        old = self.weights()
        new = remap_classes(old, ["cat", "dog"], ["dog", "cow", "cat"])
        key = "roi_head.bbox_head.fc_cls."
        assert torch.equal(new[key + "weight"][[2, 0, 3]], old[key + "weight"])
        assert torch.equal(new[key + "bias"][[2, 0, 3]], old[key + "bias"])
        assert new[key + "bias"][1] == 0
        assert 0 < new[key + "weight"][1].abs().max() < 0.1
        key = "roi_head.bbox_head.fc_reg."
        assert torch.equal(new[key + "weight"][8:], old[key + "weight"][:4])
        assert torch.equal(new[key + "weight"][:4], old[key + "weight"][4:])
        assert new["backbone.conv1.weight"] is old["backbone.conv1.weight"]

    def test_class_agnostic_boxes_stay(self):
        old = self.weights(agnostic=True)
        new = remap_classes(old, ["cat", "dog"], ["cat", "dog", "cow"])
        key = "roi_head.bbox_head.fc_reg.weight"
        assert new[key] is old[key]

    def test_what_does_not_fit(self):
        with pytest.raises(UserError, match="3 rows; 3 classes"):
            remap_classes(self.weights(), NAMES, NAMES)
        with pytest.raises(UserError, match="no box head"):
            remap_classes({"a": torch.zeros(1)}, NAMES, NAMES)


def test_tool_on_streets(streets, tmp_path, capsys):
    """Files by the real command, then a base checkpoint that learns more classes."""
    tool = runpy.run_path(str(ROOT / "tools/make_fewshot.py"), run_name="tool")
    arguments = ["streets", "--root", str(streets), "--shots", "1", "--seed", "2"]
    tool["main"](tool["parse_args"](arguments))
    folder = streets / "annotations" / "fewshot"
    assert "streets_1shot_seed2.json: " in capsys.readouterr().out
    shots = json.loads((folder / "streets_1shot_seed2.json").read_text())
    assert len(shots["annotations"]) == 8
    names = [c["name"] for c in shots["categories"]]
    assert names[-2:] == ["train", "motorcycle"]
    base = json.loads((folder / "streets_base.json").read_text())
    classes = tuple(c["name"] for c in base["categories"])
    weights = TestSurgery().weights(classes=6)
    path = tmp_path / "base.pth"
    meta = {"dataset_meta": {"classes": classes}}
    torch.save({"meta": meta, "state_dict": weights}, path)
    out = tmp_path / "all.pth"
    arguments = ["extend", str(path), str(out), "--classes"]
    tool["main"](
        tool["parse_args"]([*arguments, str(folder / "streets_1shot_seed2.json")])
    )
    result = torch.load(out, weights_only=True)
    assert list(result["meta"]["dataset_meta"]["classes"]) == names
    assert len(result["state_dict"]["roi_head.bbox_head.fc_cls.weight"]) == 9
