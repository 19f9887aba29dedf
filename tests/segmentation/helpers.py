"""A segmentor, batches and config paths that the family's tests share."""

import shutil
from pathlib import Path

import cv2
import numpy as np
import torch
from mmengine.config import Config

from tests.engine.processes import prepare

ROOT = Path(__file__).resolve().parents[2]


def tiny_segmentor(classes: int = 4) -> dict:
    """A segmentor of the toy configs' shape with 4 base channels."""
    cfg = Config.fromfile(ROOT / "configs/_base_/models/segmentor_small.py")
    found = cfg.segmentor.to_dict()
    found["backbone"].update(base_channels=4, stem_channels=4)
    found["decode_head"].update(in_channels=[4, 8, 16], channels=8, num_classes=classes)
    return found


def semi_batch(count: int = 4, size=(32, 64), classes: int = 4) -> dict:
    """Half of the images labelled, half not."""
    draw = torch.Generator().manual_seed(3)
    targets = torch.randint(classes, (count, *size), generator=draw)
    labelled = torch.arange(count) < count // 2
    targets[~labelled] = 255
    shape = (count, 3, *size)
    images = torch.randint(256, shape, generator=draw, dtype=torch.uint8)
    return dict(inputs=images, targets=targets, labelled=labelled)


def make_streets(root: Path) -> Path:
    """A FoggyStreets tree of the configs' size, by the real command."""
    counts = ("--train", 12, "--val", 2, "--test", 2, "--workers", 1)
    prepare("foggy_streets", "--root", root, "--size", "128x64", *counts)
    return root


def toy_config(name: str, data: Path, work_dir: Path, **changes) -> Config:
    """A config on a small tree, its indices limited to the images there are."""
    cfg = Config.fromfile(ROOT / "configs" / name)
    text = cfg.pretty_text.replace("data/street_maps/", f"{data}/")
    cfg = Config.fromstring(text, ".py")
    cfg.work_dir = str(work_dir)
    cfg.merge_from_dict(changes)
    return cfg


def run(cfg: Config):
    """Train in this process; returns the runner."""
    from pld_mmdet.cli import build_runner

    cfg.launcher = "none"
    runner = build_runner(cfg)
    runner.train()
    return runner


def same(one: dict, two: dict) -> bool:
    """Whether two state dicts are equal to the bit."""
    return one.keys() == two.keys() and all(torch.equal(one[k], two[k]) for k in one)


def copy_tree(source: Path, target: Path) -> Path:
    """A copy to change."""
    return Path(shutil.copytree(source, target))


def images_of(folder: Path, count: int = 3) -> list[str]:
    """Images of noise, 32 x 64, on disk."""
    paths = []
    for number in range(count):
        path = str(folder / f"image_{number}.png")
        image = np.random.default_rng(number).integers(256, size=(32, 64, 3))
        cv2.imwrite(path, image.astype(np.uint8))
        paths.append(path)
    return paths
