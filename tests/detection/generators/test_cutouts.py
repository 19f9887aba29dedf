"""Cut-outs of a tiny stock: what shows, and the same bytes however they are made."""

import json

import numpy as np
import pytest
from mmengine import Config
from pycocotools import mask as rle
from pycocotools.coco import COCO

from pld_mmdet.detection.data.check import check_data, problems
from pld_mmdet.detection.generators.cutouts import crops, generate, scene, stamps
from pld_mmdet.detection.generators.cutouts.domains import DOMAINS, cartoon, night
from pld_mmdet.errors import UserError
from pld_mmdet.shared.packages import packages, read_members

SMALL = {("photo", "train"): 5, ("night", "test"): 2, ("clipart", "val"): 2}


@pytest.fixture(scope="module")
def stock(tmp_path_factory):
    """Four square stamps of each kind, in its own grey, and two grounds."""
    arrays = {
        f"ground/ground/{n}": np.full((480, 700, 3), 90 * n, np.uint8) for n in (1, 2)
    }
    for style in stamps.STYLES:
        for number, kind in enumerate(stamps.KINDS):
            for n in range(4):
                array = np.full((60, 80, 4), 255, np.uint8)
                array[..., :3] = 20 * number + n
                arrays[f"{style}/{kind}/{n}"] = array
    path = tmp_path_factory.mktemp("stock") / "stock.npz"
    np.savez(path, **arrays)
    return path


def contents(root):
    files = (path for path in sorted(root.rglob("*")) if path.is_file())
    return {str(path.relative_to(root)): path.read_bytes() for path in files}


def test_workers_change_no_byte(stock, tmp_path):
    generate.generate(stock, tmp_path / "one", SMALL, workers=1)
    generate.generate(stock, tmp_path / "two", SMALL, workers=2)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    assert len(contents(tmp_path / "one")) == 9 + 3 + 1


def test_goes_on_and_adds(stock, tmp_path, capsys):
    generate.generate(stock, tmp_path / "whole", SMALL)
    fewer = {**SMALL, ("photo", "train"): 3}
    generate.generate(stock, tmp_path / "grown", fewer)
    (tmp_path / "grown/photo/train/00001.jpg").unlink()
    generate.generate(stock, tmp_path / "grown", SMALL)
    assert contents(tmp_path / "grown") == contents(tmp_path / "whole")
    assert "night/test: all 2 pictures are there" in capsys.readouterr().out


def test_nothing_is_replaced_unasked(stock, tmp_path):
    generate.generate(stock, tmp_path, SMALL)
    before = contents(tmp_path)
    with pytest.raises(UserError, match="seed 0 -> 1"):
        generate.generate(stock, tmp_path, SMALL, seed=1)
    with pytest.raises(UserError, match="pictures 5 -> 4"):
        generate.generate(stock, tmp_path, {("photo", "train"): 4})
    assert contents(tmp_path) == before
    generate.generate(stock, tmp_path, SMALL, seed=1, overwrite=True)
    assert contents(tmp_path) != before
    (tmp_path / "other/photo").mkdir(parents=True)
    with pytest.raises(UserError, match="has not made"):
        generate.generate(stock, tmp_path / "other", SMALL)


def test_annotations_are_what_shows(stock, tmp_path):
    generate.generate(stock, tmp_path, {("photo", "train"): 20})
    coco = COCO(tmp_path / "annotations/photo_train.json")
    assert [c["name"] for c in coco.loadCats(coco.getCatIds())] == list(stamps.KINDS)
    for image in coco.getImgIds():
        rows = coco.loadAnns(coco.getAnnIds(image))
        assert 1 <= len(rows) <= 6
        masks = [coco.annToMask(row) for row in rows]
        assert np.sum(masks, axis=0).max() <= 1  # hidden pixels belong to nobody else
        for row, mask in zip(rows, masks, strict=True):
            assert row["area"] == mask.sum() >= scene.FEWEST
            assert row["bbox"] == rle.toBbox(row["segmentation"]).tolist()
            assert row["visible"] >= scene.VISIBLE - 0.1


def test_check_data_knows_it(stock, tmp_path):
    generate.generate(stock, tmp_path, {("photo", "train"): 6})
    dataset = dict(
        type="CocoDataset", data_root=str(tmp_path),
        data_prefix=dict(img="photo/train/"),
        ann_file="annotations/photo_train.json", metainfo=dict(classes=stamps.KINDS),
    )  # fmt: skip
    cfg = Config(dict(default_scope="mmdet", train_dataloader=dict(dataset=dataset)))
    assert problems(check_data(cfg)) == []
    (tmp_path / "photo/train/00004.jpg").write_bytes(b"\xff\xd8 half")
    assert len(problems(check_data(cfg))) == 1


def test_no_two_parts_share_a_seed(stock, tmp_path):
    wanted = {(d, s): 1 for d in ("photo", "cartoon") for s in generate.SPLITS}
    generate.generate(stock, tmp_path, wanted)
    things = {
        path.name: json.dumps(json.loads(path.read_text())["annotations"])
        for path in (tmp_path / "annotations").iterdir()
    }
    assert len(set(things.values())) == len(wanted) == 6


def test_counts():
    found = generate.counts()
    assert found["photo", "train"] == 1500
    assert found["photo", "val"] == 150
    assert {found[d, "test"] for d in DOMAINS} == {600}
    assert found["night", "train"] == 600
    assert min(generate.counts(1).values()) == 1


def test_a_hidden_thing_keeps_a_quarter():
    sprite = np.full((40, 40, 4), 255, np.float32)
    owner = np.zeros((240, 320), np.uint8)
    owner[100:140, 100:140] = 1
    assert not scene._fits(sprite, 108, 100, owner, [1600])  # 320 of 1600 would show
    assert scene._fits(sprite, 110, 100, owner, [1600])  # 400, a quarter
    assert not scene._fits(sprite, 300, 0, owner, [1600])  # half of it lies outside


def test_lay_mixes_by_alpha_and_cuts_at_the_border():
    image = np.full((4, 5, 3), 100.0, np.float32)
    sprite = np.zeros((2, 2, 4), np.float32)
    sprite[:, 1] = [51, 0, 102, 102]  # alpha 0.4, colours multiplied by it
    owner = np.zeros((4, 5), np.uint8)
    scene.lay(image, sprite, -1, 3, owner, 7)
    assert image[3, 0].tolist() == pytest.approx([111, 60, 162])
    assert (image[3, 1:] == 100).all()
    assert not owner.any()  # 102 is not opaque


def test_domains_keep_shape_and_darken():
    image = np.tile(np.arange(240, dtype=np.uint8)[:, None, None], (1, 320, 3))
    drawn = cartoon(image)
    assert drawn.shape == image.shape
    assert len(np.unique(drawn)) <= 6
    dark = night(image, np.random.default_rng(3))
    assert dark.mean() < 0.5 * image.mean()


class TestCrops:
    def test_no_stamp_of_test_is_trained_on(self, stock):
        every = stamps.read_stock(stock)
        for kind in range(9):
            parts = {
                s: {x.name for x in crops.stamps_of(every, "photo", kind, s)}
                for s in crops.SPLITS
            }
            assert [len(parts[s]) for s in crops.SPLITS] == [2, 1, 1]
            assert len(set.union(*parts.values())) == 4

    def test_files_by_kind(self, stock, tmp_path):
        wanted = {("photo", "train"): 3, ("cartoon", "test"): 1}
        crops.generate(stock, tmp_path / "one", wanted, ["mammal", "fish"])
        crops.generate(stock, tmp_path / "two", wanted, ["fish", "mammal"], workers=2)
        assert contents(tmp_path / "one") == contents(tmp_path / "two")
        folders = sorted(p.name for p in (tmp_path / "one/photo/train").iterdir())
        assert folders == ["fish", "mammal"]
        with pytest.raises(UserError, match="kinds"):
            crops.generate(stock, tmp_path / "one", wanted, ["bird"])


def test_a_stamp_is_cut_and_never_enlarged():
    from PIL import Image

    image = Image.new("RGBA", (400, 300))
    image.paste((200, 100, 40, 255), (50, 60, 370, 160))  # 320 x 100
    assert stamps.small_stamp(image).shape == (50, 160, 4)
    assert stamps.small_stamp(image.crop((40, 50, 90, 80))).shape == (20, 40, 4)


def test_the_table_names_what_it_uses():
    rows = read_members(stamps.MEMBERS)
    assert {row["package"] for row, _ in rows} <= set(packages())
    assert {row["kind"] for row, _ in rows} == {*stamps.KINDS, "ground"}
    assert len({member.path for _, member in rows}) == len(rows) == 473
