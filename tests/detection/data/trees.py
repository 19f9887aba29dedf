"""Miniature data sets, each in its own native format and layout."""

import json
from pathlib import Path

import cv2
import numpy as np

WIDTH, HEIGHT = 96, 64


def image(path: Path, seed: int, size: tuple[int, int] = (WIDTH, HEIGHT)) -> None:
    """A grey image with a bright rectangle where the first box is."""
    pixels = np.full((size[1], size[0], 3), 20 + 10 * (seed % 5), np.uint8)
    pixels[20:50, 10:60] = np.random.default_rng(seed).integers(150, 255, 3)
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), pixels)


def voc_object(name, box, extra="") -> str:
    keys = ("xmin", "ymin", "xmax", "ymax")
    corners = "".join(f"<{k}>{v}</{k}>" for k, v in zip(keys, box, strict=True))
    return f"<object><name>{name}</name>{extra}<bndbox>{corners}</bndbox></object>"


def voc_xml(path: Path, *objects: str, size=(WIDTH, HEIGHT)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    head = f"<size><width>{size[0]}</width><height>{size[1]}</height></size>"
    path.write_text(f"<annotation>{head}{''.join(objects)}</annotation>")


def voc_folder(root: Path, lists: dict[str, int], names: list[str]) -> None:
    """VOC layout; jpg and png mixed, the second image without an object."""
    for part, number in lists.items():
        stems = [f"{part}_{i:03d}" for i in range(number)]
        for i, stem in enumerate(stems):
            suffix = ".png" if i % 3 == 2 else ".jpg"
            image(root / "JPEGImages" / f"{stem}{suffix}", i)
            objects = []
            if i != 1:
                pose = "<pose>Left</pose><difficult>0</difficult>" if i % 2 else ""
                objects = [voc_object(names[i % len(names)], (11, 21, 60, 50), pose)]
            if i == 0:
                hard = "<difficult>1</difficult>"
                objects.append(voc_object(names[0], (70, 1, 96, 12), hard))
            voc_xml(root / "Annotations" / f"{stem}.xml", *objects)
        listed = root / "ImageSets" / "Main" / f"{part}.txt"
        listed.parent.mkdir(parents=True, exist_ok=True)
        listed.write_text("".join(f"{stem}\n" for stem in stems))


def kitti(root: Path) -> None:
    """Three frames: a car with a region to ignore, nothing, a van only."""
    rest = "1.65 1.67 3.64 -0.65 1.71 46.70 -1.59"
    car = f"Car 0.00 0 -1.58 10.00 20.00 59.00 49.00 {rest}\n"
    ignored = (
        "DontCare -1 -1 -10 70.00 5.00 90.00 15.00 -1 -1 -1 -1000 -1000 -1000 -10\n"
    )
    van = car.replace("Car", "Van")
    for i, text in enumerate((car + ignored, "", van)):
        image(root / f"training/image_2/{i:06d}.png", i)
        label = root / f"training/label_2/{i:06d}.txt"
        label.parent.mkdir(parents=True, exist_ok=True)
        label.write_text(text)


def bdd100k(root: Path) -> None:
    """Of each split two frames by day (one without labels) and one by night."""
    for split in ("train", "val"):
        frames = []
        for i, time in enumerate(("daytime", "night", "daytime")):
            name = f"{split}{i}.jpg"
            image(root / f"images/100k/{split}/{name}", i, (1280, 720))
            labels = [
                {"category": "bike", "box2d": dict(x1=10, y1=20, x2=60, y2=50)},
                {"category": "train", "box2d": dict(x1=1, y1=1, x2=9, y2=9)},
                {"category": "traffic light", "box2d": dict(x1=1, y1=1, x2=9, y2=9)},
                {"category": "lane", "poly2d": []},
            ]
            frame = {"name": name, "attributes": {"timeofday": time}}
            frames.append({**frame, "labels": labels} if i < 2 else frame)
        path = root / f"labels/bdd100k_labels_images_{split}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(frames))


def cityscapes(root: Path) -> None:
    """One frame a split with a car and a person."""
    mask = np.full((HEIGHT, WIDTH), 7, np.uint16)
    mask[20:50, 10:60] = 26000
    mask[5:30, 70:80] = 24000
    for split in ("train", "val"):
        stem = f"{split}/aachen/aachen_000000_000019"
        image(root / f"leftImg8bit/{stem}_leftImg8bit.png", 0)
        for beta in ("0.02",):
            name = f"{stem}_leftImg8bit_foggy_beta_{beta}.png"
            image(root / "leftImg8bit_foggy" / name, 1)
        path = root / f"gtFine/{stem}_gtFine_instanceIds.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        assert cv2.imwrite(str(path), mask)


def benchmarks(root: Path) -> None:
    """All of them below one folder, as the configs name them."""
    kitti(root / "kitti")
    bdd100k(root / "bdd100k")
    cityscapes(root / "cityscapes")
    voc_folder(root / "sim10k", {"x": 3}, ["car", "person"])
    voc_folder(root / "clipart", {"train": 3, "test": 2}, ["dog", "sofa"])
    voc_folder(root / "watercolor", {"train": 3, "test": 2}, ["bicycle", "cat"])
    devkit = root / "VOCdevkit"
    voc_folder(devkit / "VOC2007", {"trainval": 2, "test": 2}, ["dog", "cat"])
    voc_folder(devkit / "VOC2012", {"trainval": 2}, ["boat", "bus"])
