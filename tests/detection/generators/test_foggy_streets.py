"""FoggyStreets: fog by hand, labels, layout, determinism, resuming."""

import json
import re
import time
from argparse import ArgumentParser, ArgumentTypeError
from pathlib import Path

import cv2
import numpy as np
import pytest

from pld_mmdet.detection.data import files
from pld_mmdet.detection.data.cityscapes import CLASSES, LABEL_IDS, annotate
from pld_mmdet.detection.data.pool import run_jobs
from pld_mmdet.detection.generators.foggy_streets import generate as module
from pld_mmdet.detection.generators.foggy_streets.camera import Camera, Pose
from pld_mmdet.detection.generators.foggy_streets.canvas import Canvas, Light
from pld_mmdet.detection.generators.foggy_streets.fog import (
    BETAS,
    add_fog,
    transmission,
)
from pld_mmdet.detection.generators.foggy_streets.generate import (
    CITIES,
    frame_files,
    generate,
    parse_size,
    prepare,
)
from pld_mmdet.detection.generators.foggy_streets.labels import instance_map
from pld_mmdet.detection.generators.foggy_streets.render import render
from pld_mmdet.detection.generators.foggy_streets.transit import draw_train
from pld_mmdet.detection.generators.foggy_streets.vehicles import draw_car
from pld_mmdet.errors import UserError

ROOT = Path(__file__).resolve().parents[3]
SMALL = (96, 48)


def contents(root: Path) -> dict[str, bytes]:
    """Every file below a folder."""
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


def seed(index: int) -> np.random.SeedSequence:
    return np.random.SeedSequence([0, 0, index])


def test_fog_of_one_pixel_by_hand():
    # t = exp(-0.02 * 50) = 0.36788; 100 t + 220 (1 - t) = 175.854, rounded to nearest.
    share = transmission(np.array([[50.0]]), 0.02)
    assert share[0, 0] == pytest.approx(0.367879, abs=1e-6)
    image = np.full((1, 1, 3), 100, np.uint8)
    assert add_fog(image, share, 220.0).tolist() == [[[176, 176, 176]]]


def test_fog_limits():
    image = np.random.default_rng(0).integers(0, 256, (2, 3, 3), np.uint8)
    assert np.array_equal(add_fog(image, np.ones((2, 3)), 220.0), image)
    assert (add_fog(image, np.zeros((2, 3)), 220.4) == 220).all()
    assert transmission(np.array(0.0), 0.02) == 1
    assert transmission(np.array(1000.0), 0.02) < 1e-8


def test_transmission_follows_the_depth_and_the_density():
    frame = render(seed(0), 48, 96)
    assert frame.thinness[:2].max() < np.exp(-0.005 * 10)  # sky or far facades
    near_road = frame.thinness[-1].mean()
    assert near_road > np.exp(-0.005 * 8)
    assert np.allclose(frame.transmission(0.02), frame.thinness**4)


def test_projection_by_hand():
    camera = Camera(height=192, width=384, horizon=80, vanish=192, focal=330)
    # On the ground 10 m ahead, 2 m to the right: 33 px per metre.
    pixels = camera.project(np.array([[2.0, 0.0, 10.0]]))
    assert pixels[0] == pytest.approx([192 + 66, 80 + 1.6 * 33])


def test_heading():
    # Pi / 2 goes to the right: forward is +x, and the right hand points at the camera.
    world = Pose(1.0, 20.0, np.pi / 2).world([[3, 0, 0], [0, 1, 0]])
    assert world == pytest.approx(np.array([[4, 0, 20], [1, 0, 19]]))


@pytest.mark.parametrize(
    ("draw", "along", "pose"),
    [
        (draw_car, 4.4, Pose(0, 15, np.pi / 2)),
        (draw_train, 24.0, Pose(0, 40, -np.pi / 2)),
    ],
)
def test_a_vehicle_seen_from_the_side_is_one_solid_piece(draw, along, pose):
    camera = Camera(height=384, width=768, horizon=150, vanish=384, focal=660)
    shape = (384, 768)
    canvas = Canvas(
        camera,
        Light(np.array([0, 1, 0]), 0.6),
        np.zeros((*shape, 3), np.uint8),
        np.full(shape, 1000, np.float32),
        np.zeros(shape, np.uint8),
        np.ones(shape, np.float32),
    )
    canvas.begin(pose)
    draw(canvas, pose, np.random.default_rng(0))
    canvas.finish(1, flat=False)
    inside = (canvas.owner == 1).astype(np.uint8)
    assert cv2.connectedComponents(inside)[0] == 2  # background and one piece
    # Filled: no background shows through below the roof.
    x, y, wide, tall = cv2.boundingRect(inside)
    near_side = pose.z - 1.0
    assert wide == pytest.approx(along * 660 / near_side, rel=0.15)
    ends = wide // 20  # the nose of the tram is slanted
    body = slice(y + tall // 2, y + tall * 3 // 4), slice(x + ends, x + wide - ends)
    assert inside[body].all()
    assert np.abs(canvas.depth[body] - pose.z).max() < 2


def test_visibility_rules_by_hand():
    # 192 rows, so the limits are 7 rows and 3 columns.
    owner = np.zeros((192, 384), np.uint16)
    owner[10:17, 0:3] = 1  # just large enough
    owner[30:36, 0:30] = 2  # too low
    owner[50:90, 0:2] = 3  # too narrow
    owner[100:140, 0:40] = 4  # large, but mostly hidden
    owner[10:20, 50:52] = 5  # two that are too small ...
    owner[10:20, 53:55] = 6  # ... and belong together
    owner[10:20, 80:82] = 7  # the last of another crowd
    names = ["person", "car", "person", "bus", "person", "person", "person"]
    ids, written = instance_map(
        owner,
        np.full((192, 384), 7, np.uint8),
        names,
        clusters=[-1, -1, -1, -1, 0, 0, 1],
        visible=[1.0, 1.0, 1.0, 0.29, 1.0, 1.0, 1.0],
    )
    assert written == {1: "person", 5: "persongroup", 6: "persongroup"}
    assert np.unique(ids).tolist() == [7, 24, 24000]
    assert (ids[10:17, 0:3] == 24000).all()
    assert (ids[10:20, 50:52] == 24).all()
    assert (ids == 24).sum() == 40


def test_the_same_scene_has_the_same_boxes_in_a_larger_picture():
    small, large = (
        np.array(
            [a["bbox"] for a in annotate(render(seed(3), rows, 2 * rows).instance_ids)]
        )
        for rows in (96, 192)
    )
    large_enough = small[small[:, 2] * small[:, 3] > 100]
    assert len(large_enough) >= 2
    for box in large_enough:
        assert np.abs(box * 2 - large).max(axis=1).min() <= 3


def test_all_classes_occur_and_riders_sit_on_something():
    found = dict.fromkeys(CLASSES, 0)
    riders = 0
    for index in range(30):
        annotations = annotate(render(seed(index), 96, 192).instance_ids)
        boxes = [a["bbox"] for a in annotations if a["category_id"] in (7, 8)]
        for annotation in annotations:
            found[CLASSES[annotation["category_id"] - 1]] += 1
            if annotation["category_id"] == 2 and boxes:
                x, y, wide, tall = annotation["bbox"]
                riders += any(
                    x < bx + bw and bx < x + wide and y < by + bh and by < y + tall
                    for bx, by, bw, bh in boxes
                )
    assert min(found.values()) >= 5, found
    assert found["person"] > 2 * found["train"]
    assert riders > 0.6 * found["rider"]


def test_layout_and_names_are_those_of_cityscapes(streets):
    names = {
        split: sorted(p.name for p in (streets / "gtFine" / split).iterdir())
        for split in ("train", "val", "test")
    }
    assert set(names["train"]) <= set(CITIES["train"])
    assert len(names["train"]) == 6
    assert not set(names["train"]) & set(names["val"])
    assert not set(names["val"]) & set(names["test"])
    patterns = [
        r"leftImg8bit/{s}/(?P<c>[a-z]+)/(?P=c)_\d{{6}}_\d{{6}}_leftImg8bit\.png",
        r"leftImg8bit_foggy/{s}/(?P<c>[a-z]+)/(?P=c)_\d{{6}}_\d{{6}}"
        r"_leftImg8bit_foggy_beta_(0\.005|0\.01|0\.02)\.png",
        r"gtFine/{s}/(?P<c>[a-z]+)/(?P=c)_\d{{6}}_\d{{6}}_gtFine_instanceIds\.png",
        r"gtFine/{s}/(?P<c>[a-z]+)/(?P=c)_\d{{6}}_\d{{6}}_gtFine_polygons\.json",
        r"annotations/{s}(_foggy_beta_(0\.005|0\.01|0\.02))?\.json",
    ]
    every = [
        str(path.relative_to(streets)) for path in streets.rglob("*") if path.is_file()
    ]
    every.remove("foggy_streets.json")
    for split, images in (("train", 8), ("val", 3), ("test", 3)):
        for pattern, each in zip(
            patterns, (images, 3 * images, images, images, 4), strict=True
        ):
            matching = [
                name for name in every if re.fullmatch(pattern.format(s=split), name)
            ]
            assert len(matching) == each, (split, pattern)
            every = [name for name in every if name not in matching]
    assert every == []


def test_contents_fit_together(streets):
    for index in range(3):
        clear, *foggy, ids, outlines = (
            streets / name for name in frame_files("val", index)
        )
        image = cv2.imread(str(clear), cv2.IMREAD_UNCHANGED)
        assert image.shape == (192, 384, 3)
        assert image.dtype == np.uint8
        # The airlight is brighter than these streets: fog makes them brighter.
        brightness = [image.mean()]
        for path in foggy:
            brightness.append(cv2.imread(str(path)).mean())
        assert brightness == sorted(brightness)
        mask = cv2.imread(str(ids), cv2.IMREAD_UNCHANGED)
        assert mask.dtype == np.uint16
        assert mask.shape == (192, 384)
        labels = set(np.unique(np.where(mask >= 1000, mask // 1000, mask)).tolist())
        assert labels <= {7, 8, 11, 23, 21, 17, 20, 4, *LABEL_IDS.values()}
        content = json.loads(outlines.read_text())
        assert (content["imgHeight"], content["imgWidth"]) == (192, 384)
        written = [
            one["label"] for one in content["objects"] if one["label"] in CLASSES
        ]
        values = np.unique(mask[mask >= 1000]).tolist()
        assert sorted(LABEL_IDS[name] for name in written) == sorted(
            value // 1000 for value in values
        )
        for one in content["objects"]:
            assert len(one["polygon"]) >= 3
            assert all(0 <= x <= 384 and 0 <= y <= 192 for x, y in one["polygon"]), one[
                "label"
            ]


def test_polygons_drawn_in_order_give_the_instances_back(streets):
    agree = []
    for index in range(8):
        *_, ids, outlines = (streets / name for name in frame_files("train", index))
        mask = cv2.imread(str(ids), cv2.IMREAD_UNCHANGED)
        drawn = np.zeros(mask.shape, np.uint8)
        for one in json.loads(outlines.read_text())["objects"]:
            polygon = np.array(one["polygon"], np.int32)
            cv2.fillPoly(drawn, [polygon], LABEL_IDS.get(one["label"], 7))
        wanted = np.where(mask >= 1000, mask // 1000, 7)
        known = mask >= 1000
        agree.append((drawn == wanted)[known].mean())
    assert np.mean(agree) > 0.85, agree


def test_worker_count_does_not_matter(tmp_path):
    counts = {"train": 5, "val": 2, "test": 0}
    generate(tmp_path / "one", counts, SMALL, workers=1)
    generate(tmp_path / "two", counts, SMALL, workers=2)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    generate(tmp_path / "other", counts, SMALL, seed=1)
    assert contents(tmp_path / "one") != contents(tmp_path / "other")
    assert not (tmp_path / "one/leftImg8bit/test").exists()


def test_a_finished_split_is_skipped_and_a_lost_file_is_drawn_again(
    tmp_path, monkeypatch, capsys
):
    generate(tmp_path, {"train": 3}, SMALL)
    before = contents(tmp_path)
    lost = tmp_path / frame_files("train", 1)[2]
    lost.unlink()
    drawn = []
    original = module.render
    monkeypatch.setattr(
        module, "render", lambda *a, **k: drawn.append(1) or original(*a, **k)
    )
    generate(tmp_path, {"train": 3}, SMALL)
    assert contents(tmp_path) == before
    assert len(drawn) == 1
    generate(tmp_path, {"train": 3}, SMALL)
    assert len(drawn) == 1
    assert "all 3 images are there" in capsys.readouterr().out


def test_changed_parameters_need_force(tmp_path):
    generate(tmp_path, {"train": 2}, SMALL)
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations/train.json").write_text("{}")
    before = contents(tmp_path)
    with pytest.raises(UserError, match=r"other parameters \(seed 0 -> 1\)") as caught:
        generate(tmp_path, {"train": 2}, SMALL, seed=1)
    assert "--force" in caught.value.fix
    assert contents(tmp_path) == before
    generate(tmp_path, {"train": 1}, SMALL, force=True)
    assert len(list(tmp_path.glob("gtFine/train/*/*.json"))) == 1
    assert not (tmp_path / "annotations/train.json").exists()


def test_a_split_grows_without_being_drawn_again(tmp_path):
    """The 200 test images of older tables are the first 200 of the 600."""
    generate(tmp_path, {"test": 2}, SMALL)
    (tmp_path / "annotations").mkdir()
    for name in ("test.json", "train.json"):
        (tmp_path / "annotations" / name).write_text("{}")
    before = contents(tmp_path)
    generate(tmp_path, {"test": 4}, SMALL)
    after = contents(tmp_path)
    kept = [n for n in before if "annotations" not in str(n) and str(n)[-4:] != "json"]
    assert len(kept) >= 8
    assert all(after[n] == before[n] for n in kept)
    assert len(list(tmp_path.glob("gtFine/test/*/*.json"))) == 4
    # labels of two images would be wrong now; those of other splits are not touched
    found = [p.name for p in (tmp_path / "annotations").iterdir()]
    assert found == ["train.json"]
    with pytest.raises(UserError, match="images 4 -> 2"):
        generate(tmp_path, {"test": 2}, SMALL)
    with pytest.raises(UserError, match="images 4 -> 6, seed 0 -> 1"):
        generate(tmp_path, {"test": 6}, SMALL, seed=1)


def test_the_default_test_split_has_600_images():
    parser = ArgumentParser()
    module.arguments(parser)
    assert parser.parse_args([]).test == 600


def test_a_foreign_data_set_is_never_touched(tmp_path):
    (tmp_path / "leftImg8bit/train/aachen").mkdir(parents=True)
    with pytest.raises(UserError, match="has not made") as caught:
        generate(tmp_path, {"train": 1}, SMALL, force=True)
    assert "--root" in caught.value.fix


def test_a_broken_record_is_named(tmp_path):
    (tmp_path / module.RECORD).write_text("{")
    with pytest.raises(UserError, match=r"foggy_streets\.json cannot be read"):
        generate(tmp_path, {"train": 1}, SMALL)


def test_sizes():
    assert parse_size("2048x1024") == (2048, 1024)
    with pytest.raises(ArgumentTypeError, match="WIDTHxHEIGHT"):
        parse_size("2048")
    with pytest.raises(UserError, match="too small"):
        generate("unused", {"train": 1}, (20, 10))


def test_a_full_disk_is_one_sentence_and_leaves_no_half_file(tmp_path, monkeypatch):
    def full(self, content):
        with self.open("wb") as file:
            file.write(content[:10])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(UserError, match="No space left on device") as caught:
        files.write_png(tmp_path / "a.png", np.zeros((4, 4, 3), np.uint8))
    assert "call the same command again" in caught.value.fix
    assert list(tmp_path.iterdir()) == []


def test_an_unwritable_root_is_one_sentence(tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    with pytest.raises(UserError, match="Cannot write"):
        generate(blocked / "data", {"train": 1}, SMALL)


def test_prepare_generates_and_converts_each_fog(tmp_path, capsys):
    parser = ArgumentParser()
    module.arguments(parser)
    options = ["--root", str(tmp_path), "--train", "2", "--val", "1", "--test", "0"]
    prepare(parser.parse_args([*options, "--size", "96x48", "--workers", "1"]))
    found = sorted(path.name for path in (tmp_path / "annotations").iterdir())
    assert found == sorted(
        f"{split}{fog}.json"
        for split in ("train", "val")
        for fog in ("", *(f"_foggy_beta_{beta:g}" for beta in BETAS))
    )
    assert "train: 2 images" in capsys.readouterr().out


def _blurred(value: int) -> float:
    cv2.setNumThreads(1)  # as the workers that draw do
    return float(cv2.GaussianBlur(np.full((64, 64), value, np.uint8), (0, 0), 3).mean())


@pytest.mark.timeout(30)
def test_workers_start_after_opencv_ran_with_threads():
    """A forked worker that inherits OpenCV's pool without its threads hangs."""
    threads = cv2.getNumThreads()
    cv2.setNumThreads(4)
    cv2.GaussianBlur(np.zeros((2000, 2000, 3), np.uint8), (0, 0), 5)
    time.sleep(0.5)  # its threads fall asleep; those awake would not be waited for
    try:
        assert run_jobs(_blurred, [1, 2, 3, 4], 2, "blur") == [1.0, 2.0, 3.0, 4.0]
        assert cv2.getNumThreads() == 4
    finally:
        cv2.setNumThreads(threads)
