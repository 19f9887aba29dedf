"""A stock config, a checkpoint and a folder of images, as a user would bring them."""

import json
from pathlib import Path

import cv2
import numpy as np
import torch
from mmengine.config import Config, ConfigDict

from pld_mmdet.detection.detectors.stock import build_detector
from tests.helpers import tiny_faster_rcnn

CLASSES = ("cat", "dog", "hen")


def write_images(folder: Path, count: int = 10, size=(96, 64), seed: int = 0) -> Path:
    """Images of coloured rectangles, in a sub-folder too."""
    rng = np.random.default_rng(seed)
    for n in range(count):
        image = rng.integers(0, 60, (size[1], size[0], 3), dtype=np.uint8)
        for _ in range(3):
            x, y = rng.integers(0, size[0] - 24), rng.integers(0, size[1] - 24)
            colour = rng.integers(80, 256, 3).tolist()
            cv2.rectangle(
                image, (int(x), int(y)), (int(x) + 20, int(y) + 20), colour, -1
            )
        path = folder / ("sub" if n % 2 else ".") / f"{n:03d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), image)
    return folder


def write_labels(path: Path, count: int = 3) -> Path:
    """COCO annotations of some of those images, a box in each."""
    sizes = dict(width=96, height=64)
    places = [[10 * n, 5, 30, 30] for n in range(count)]
    labels = dict(
        categories=[dict(id=n + 1, name=c) for n, c in enumerate(CLASSES)],
        images=[dict(id=n, file_name=f"00{2 * n}.png", **sizes) for n in range(count)],
        annotations=[
            dict(id=n, image_id=n, category_id=1 + n, bbox=b, area=900, iscrowd=0)
            for n, b in enumerate(places)
        ],
    )
    path.write_text(json.dumps(labels))
    return path


def stock_config(model: dict, metainfo: dict | None = None) -> Config:
    """What mmdet's config of such a detector holds, as far as we read it."""
    dataset = dict(
        type="CocoDataset",
        data_root="nowhere/",
        ann_file="train.json",
        data_prefix=dict(img=""),
        pipeline=[
            dict(type="LoadImageFromFile", backend_args=None),
            dict(type="Resize", scale=(96, 64), keep_ratio=True),
            dict(type="LoadAnnotations", with_bbox=True),
            dict(type="PackDetInputs"),
        ],
    )
    if metainfo is not None:
        dataset["metainfo"] = metainfo
    loader = dict(batch_size=2, num_workers=0, dataset=dataset)
    return Config(
        dict(
            default_scope="mmdet",
            model=model,
            train_dataloader=loader,
            test_dataloader=loader,
            optim_wrapper=dict(
                type="OptimWrapper", optimizer=dict(type="SGD", lr=0.02)
            ),
            auto_scale_lr=dict(enable=False, base_batch_size=16),
        )
    )


def write_detector(
    folder: Path,
    model: dict | None = None,
    classes: tuple | None = CLASSES,
    metainfo: dict | None = None,
    confident: bool = True,
) -> tuple[Path, Path]:
    """Config and checkpoint of a detector of random weights."""
    folder.mkdir(parents=True, exist_ok=True)
    model = ConfigDict(model or tiny_faster_rcnn(3))
    config = folder / "stock.py"
    stock_config(model, metainfo).dump(str(config))
    torch.manual_seed(0)
    network = build_detector(ConfigDict(Config.fromfile(str(config)).model))
    network.init_weights()
    if confident:
        spread_scores(network)
    meta = dict(dataset_meta=dict(classes=classes)) if classes else {}
    checkpoint = folder / "source.pth"
    torch.save(dict(state_dict=network.state_dict(), meta=meta), checkpoint)
    return config, checkpoint


def spread_scores(network) -> None:
    """Lift the scores of a random detector, so that some boxes are confident."""
    heads = getattr(getattr(network, "roi_head", None), "bbox_head", None)
    if heads is None:  # a focal head says "nothing" by its bias
        for name, parameter in network.bbox_head.named_parameters():
            if "cls" in name and "bias" in name:
                torch.nn.init.zeros_(parameter)
        return
    heads = heads if isinstance(heads, torch.nn.ModuleList) else [heads]
    for head in heads:
        torch.nn.init.normal_(head.fc_cls.weight, std=1.0)


def load_strictly(config: Path, checkpoint: Path):
    """The stock detector with the weights of a plain checkpoint."""
    network = build_detector(ConfigDict(Config.fromfile(str(config)).model))
    content = torch.load(checkpoint, weights_only=True)
    network.load_state_dict(content["state_dict"], strict=True)
    return network, content
