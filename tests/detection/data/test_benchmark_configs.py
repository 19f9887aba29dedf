"""Configs of the adaptation benchmarks: all build, and adapt on miniature trees."""

import importlib
from argparse import Namespace

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, RUNNERS

from pld_mmdet.catalogue import ROOT
from pld_mmdet.detection.data import check
from tests.detection.data import trees

BENCHMARKS = [
    "foggy_cityscapes",
    "sim10k_to_cityscapes",
    "kitti_to_cityscapes",
    "voc_to_clipart",
    "voc_to_watercolor",
    "cityscapes_to_bdd100k",
]
SOURCES = ["cityscapes", "sim10k", "kitti", "voc"]
PREPARE = {
    "kitti": "kitti",
    "bdd100k": "bdd100k",
    "sim10k": "sim10k",
    "clipart1k": "clipart",
    "watercolor2k": "watercolor",
    "voc": "VOCdevkit",
}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """All benchmarks below ``data/``, converted by the real converters."""
    root = tmp_path_factory.mktemp("benchmarks")
    trees.benchmarks(root / "data")
    for name, folder in PREPARE.items():
        module = importlib.import_module(f"pld_mmdet.detection.data.{name}")
        module.prepare(Namespace(root=root / "data" / folder))
    for name, more in (("cityscapes", {}), ("foggy_cityscapes", {"beta": 0.02})):
        module = importlib.import_module(f"pld_mmdet.detection.data.{name}")
        module.prepare(
            Namespace(
                root=root / "data/cityscapes",
                splits=["train", "val"],
                workers=1,
                **more,
            )
        )
    return root


def config(path: str) -> Config:
    return Config.fromfile(ROOT / "configs" / f"{path}.py")


def every() -> list[str]:
    names = [f"source/{name}" for name in SOURCES]
    names += [
        f"{kind}/{name}" for kind in ("mean_teacher", "lpld") for name in BENCHMARKS
    ]
    return [f"{name}{variant}" for name in names for variant in ("", "_vgg16")]


@pytest.mark.parametrize("name", every())
def test_the_data_of_each_config_are_what_it_says(name, data, monkeypatch):
    """Class names and files agree; only the counts are those of the full set."""
    monkeypatch.chdir(data)
    parts = check.check_data(config(name), fast=True)
    said = [problem.what for problem in check.problems(parts)]
    assert all("images, expected are" in sentence for sentence in said), said
    assert all(part.classes == parts[0].classes for part in parts)
    cfg = config(name)
    head = cfg.model.get("detector", cfg.model).roi_head.bbox_head
    assert head.num_classes == len(parts[0].classes)


def shrink(node, scale=(96, 64)):
    """Set every Resize of a config to a small scale, and leave out weights to load."""
    if isinstance(node, dict):
        if node.get("type") == "Resize":
            node["scale"] = scale
        node.pop("init_cfg", None)
        node.pop("persistent_workers", None)
        if "num_workers" in node:
            node["num_workers"] = 0
        for value in node.values():
            shrink(value, scale)
    elif isinstance(node, list | tuple):
        for value in node:
            shrink(value, scale)


@pytest.mark.parametrize(
    "name",
    [f"lpld/{name}" for name in BENCHMARKS[1:]]
    + ["lpld/voc_to_clipart_vgg16", "source/sim10k", "source/voc_vgg16"],
)
def test_takes_a_step_and_scores_on_miniature_trees(name, data, monkeypatch, tmp_path):
    monkeypatch.chdir(data)
    cfg = config(name)
    shrink(cfg._cfg_dict)
    cfg.load_from = None
    cfg.work_dir = str(tmp_path)
    cfg.log_level = "ERROR"
    cfg.train_cfg = dict(type="IterBasedTrainLoop", max_iters=1, val_interval=1)
    cfg.train_dataloader.sampler.infinite = True
    cfg.default_hooks.checkpoint = dict(
        type="CheckpointHook", interval=-1, save_last=False, by_epoch=False
    )
    cfg.custom_hooks = []
    cfg.log_processor.by_epoch = False
    runner = RUNNERS.build(cfg)
    before = [p.clone() for p in runner.model.parameters() if p.requires_grad]
    runner.train()
    after = [p for p in runner.model.parameters() if p.requires_grad]
    assert all(torch.isfinite(p).all() for p in after)
    assert any(not torch.equal(a, b) for a, b in zip(before, after, strict=True))
    found = runner.message_hub.get_scalar("val/voc07/AP50").current()
    assert 0 <= found <= 1


def test_vgg16_has_stride_16_and_frozen_first_stages():
    backbone = MODELS.build(dict(type="pld_mmdet.VGG16", frozen_stages=2))
    backbone.train()
    (out,) = backbone(torch.zeros(1, 3, 64, 96))
    assert out.shape == (1, 512, 4, 6)
    learning = [name for name, p in backbone.named_parameters() if p.requires_grad]
    # conv1_1 to conv2_2 are the layers 0 to 9 of mmcv's sequence
    assert learning
    assert min(int(name.split(".")[1]) for name in learning) >= 10


def test_no_config_reads_annotations_while_it_adapts():
    for name in BENCHMARKS:
        dataset = config(f"lpld/{name}").train_dataloader.dataset.dataset
        assert dataset.type == "pld_mmdet.ImageFolder"
        assert "ann_file" not in dataset
        assert not str(dataset.get("files", "")).endswith(".json")
