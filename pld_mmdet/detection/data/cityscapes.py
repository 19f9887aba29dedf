"""Cityscapes: instance masks to a COCO json with eight classes.

The same converter serves the real set, Foggy Cityscapes and the generated FoggyStreets,
as they share layout and file names.

- A box is the tight box of the instance's pixels in ``*_gtFine_instanceIds.png``:
  ``bbox`` is x, y, width, height in pixels and ``area`` the number of its pixels.
- A pixel that carries a class without an instance number (``persongroup``,
  ``cargroup``, ... in the polygons file) belongs to a group. Each connected region of
  such pixels is one annotation with ``iscrowd=1``: detections on it count neither as
  right nor as wrong, and detectors do not train on it.
- Caravans and trailers, and all that is no instance, are left out.
- An image without any box stays in the list: its false positives count.
- Ids follow the sorted file names, so two conversions give the same bytes.
"""

import argparse
import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from pld_mmdet.detection.data.files import write_json
from pld_mmdet.detection.data.masks import boxes_of
from pld_mmdet.detection.data.pool import default_workers, run_jobs
from pld_mmdet.engine.data.images import image_size
from pld_mmdet.errors import UserError
from pld_mmdet.values import PROCESSES

CLASSES = (
    "person", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle",
)  # fmt: skip
# RGB of the Cityscapes label table.
PALETTE = [
    (220, 20, 60), (255, 0, 0), (0, 0, 142), (0, 0, 70), (0, 60, 100), (0, 80, 100),
    (0, 0, 230), (119, 11, 32),
]  # fmt: skip
# Cityscapes label id of each class (29 and 30 are caravan and trailer).
LABEL_IDS = dict(zip(CLASSES, (24, 25, 26, 27, 28, 31, 32, 33), strict=True))
EXPECTED_COUNTS = {"train": 2975, "val": 500}

_MASK = "_gtFine_instanceIds.png"
_DOWNLOAD = (
    "Download gtFine_trainvaltest.zip and leftImg8bit_trainvaltest.zip from "
    "https://www.cityscapes-dataset.com/downloads (free account) and unzip both there."
)
_DOWNLOAD_FOGGY = (
    "Download leftImg8bit_trainvaltest_foggy.zip from "
    "https://www.cityscapes-dataset.com/downloads (free account) and unzip it there."
)


def clear_name(split: str, city: str, stem: str) -> str:
    """Path of a clear image below the data root."""
    return f"leftImg8bit/{split}/{city}/{stem}_leftImg8bit.png"


def foggy_name(split: str, city: str, stem: str, beta: float) -> str:
    """Path of a foggy image below the data root; ``beta`` as in the release: 0.02."""
    folder = f"leftImg8bit_foggy/{split}/{city}"
    return f"{folder}/{stem}_leftImg8bit_foggy_beta_{beta:g}.png"


def annotation_name(split: str, beta: float | None = None) -> str:
    """Path of the COCO json below the data root."""
    fog = "" if beta is None else f"_foggy_beta_{beta:g}"
    return f"annotations/{split}{fog}.json"


def annotate(mask: np.ndarray) -> list[dict[str, Any]]:
    """Annotations of one instance map.

    Args:
        mask: HxW, Cityscapes instanceIds: labelId * 1000 + k for instance k, labelId
            alone for a group.

    Returns:
        COCO annotations without ``id`` and ``image_id``, by class and number.
    """
    category = np.zeros(34, np.int64)
    for number, label in enumerate(LABEL_IDS.values(), start=1):
        category[label] = number
    instance = mask >= 1000
    label = np.where(instance, mask // 1000, mask)
    label = np.where(label < len(category), label, 0)
    wanted = category[label] > 0
    found = []
    for value, box, area in zip(
        *boxes_of(np.where(wanted & instance, mask, 0)), strict=True
    ):
        found.append(_annotation(int(category[value // 1000]), box, int(area), 0))
    for value in np.unique(mask[wanted & ~instance]):
        group = (mask == value).astype(np.uint8)
        _, _, stats, _ = cv2.connectedComponentsWithStats(group, connectivity=8)
        for left, top, wide, tall, area in stats[1:].tolist():
            box = (left, top, left + wide, top + tall)
            found.append(_annotation(int(category[value]), box, area, 1))
    return found


def _annotation(
    category: int, box: np.ndarray | tuple[int, ...], area: int, crowd: int
) -> dict[str, Any]:
    left, top, right, bottom = (int(edge) for edge in box)
    return {
        "category_id": category,
        "bbox": [left, top, right - left, bottom - top],
        "area": area,
        "iscrowd": crowd,
    }


def convert(
    root: Path | str,
    split: str,
    betas: Sequence[float | None] = (None,),
    workers: int = 1,
) -> dict[str, Any]:
    """Write ``annotations/<split>[_foggy_beta_<beta>].json`` for each density.

    Args:
        root: Data root with ``gtFine`` and ``leftImg8bit`` (or ``leftImg8bit_foggy``).
        split: ``train``, ``val`` or ``test``.
        betas: Densities of the fog in 1/m; None stands for the clear images. The boxes
            are the same in all files, only the images differ.
        workers: Processes that read masks.

    Returns:
        Statistics: see :func:`statistics`.

    Raises:
        UserError: A folder, an image or a fog density is missing, or a mask is broken.
    """
    root = Path(root)
    masks = sorted((root / "gtFine" / split).glob(f"*/*{_MASK}"))
    if not masks:
        raise UserError(
            f"No *{_MASK} under {root / 'gtFine' / split}.", _how_to_get(root)
        )
    names = {
        beta: [_image_of(root, split, mask, beta) for mask in masks] for beta in betas
    }
    jobs = [
        (mask, *listed) for mask, *listed in zip(masks, *names.values(), strict=True)
    ]
    results = run_jobs(partial(_read, root), jobs, workers, f"{split}: masks to boxes")
    annotations = [
        {"image_id": number, **annotation}
        for number, (_, _, found) in enumerate(results, start=1)
        for annotation in found
    ]
    annotations = [{"id": i, **item} for i, item in enumerate(annotations, start=1)]
    categories = [{"id": i, "name": name} for i, name in enumerate(CLASSES, start=1)]
    for beta in betas:
        images = [
            {"id": number, "file_name": name, "height": height, "width": width}
            for number, (name, (height, width, _)) in enumerate(
                zip(names[beta], results, strict=True), start=1
            )
        ]
        content = {
            "info": {"description": f"{split} split, 8 classes", "beta": beta},
            "images": images,
            "annotations": annotations,
            "categories": categories,
        }
        write_json(root / annotation_name(split, beta), content)
    return statistics(content)


def _image_of(root: Path, split: str, mask: Path, beta: float | None) -> str:
    city, stem = mask.parent.name, mask.name.removesuffix(_MASK)
    if beta is None:
        name = clear_name(split, city, stem)
        if not (root / name).is_file():
            raise UserError(
                f"The image of {mask.name} is missing: {root / name}.",
                _how_to_get(root),
            )
        return name
    name = foggy_name(split, city, stem, beta)
    if (root / name).is_file():
        return name
    pattern = foggy_name(split, city, stem, beta).replace(f"_{beta:g}.png", "_*.png")
    others = sorted(path.stem.rpartition("_")[2] for path in root.glob(pattern))
    if others:
        raise UserError(
            f"{root / name} is missing; there is fog of beta {', '.join(others)} only.",
            f"Call the command with --beta {others[-1]}, or unpack the other density.",
        )
    raise UserError(
        f"The foggy twin of {mask.name} is missing: {root / name}.",
        _how_to_get(root, foggy=True),
    )


def _how_to_get(root: Path, foggy: bool = False) -> str:
    if (root / "foggy_streets.json").is_file():
        return f"Generate it: python tools/prepare.py foggy_streets --root {root}"
    return _DOWNLOAD_FOGGY if foggy else _DOWNLOAD


def _read(
    root: Path, job: tuple[Path | str, ...]
) -> tuple[int, int, list[dict[str, Any]]]:
    """Boxes of a mask (the first of the job), whose images (the others) must fit."""
    path, *images = job
    mask = cv2.imread(os.fspath(path), cv2.IMREAD_UNCHANGED)
    if mask is None or mask.ndim != 2:
        raise UserError(
            f"{path} is no readable one-channel PNG (truncated or not a mask).",
            _how_to_get(root),
        )
    for name in images:
        size = image_size(root / name)
        if size != mask.shape[::-1]:
            shown = "no image" if size is None else f"{size[0]} x {size[1]} px"
            raise UserError(
                f"{root / name} is {shown}, its mask {path.name} is "
                f"{mask.shape[1]} x {mask.shape[0]} px: the boxes would not fit.",
                _how_to_get(root),
            )
    return (*mask.shape, annotate(mask))


def statistics(content: dict[str, Any]) -> dict[str, Any]:
    """Counts of a COCO json.

    Args:
        content: The parsed file.

    Returns:
        ``images``, ``empty`` (images without a box), ``crowds`` (those and what is
        marked ``ignore``, which mmdet leaves out), ``boxes`` (all others, per class
        name), and ``left_out`` (what a converter left out or found strange, see
        ``labelled.coco_content``).
    """
    names = {category["id"]: category["name"] for category in content["categories"]}
    boxes = dict.fromkeys(names.values(), 0)
    filled = set()
    for annotation in content["annotations"]:
        if not (annotation.get("iscrowd") or annotation.get("ignore")):
            boxes[names[annotation["category_id"]]] += 1
            filled.add(annotation["image_id"])
    return {
        "images": len(content["images"]),
        "empty": len(content["images"]) - len(filled),
        "crowds": len(content["annotations"]) - sum(boxes.values()),
        "boxes": boxes,
        "left_out": dict((content.get("info") or {}).get("left_out") or {}),
    }


def summary(split: str, counts: dict[str, Any]) -> str:
    """One line of statistics for people."""
    boxes = ", ".join(f"{name} {number}" for name, number in counts["boxes"].items())
    text = (
        f"{split}: {counts['images']} images ({counts['empty']} without a box), "
        f"{counts['crowds']} groups, boxes: {boxes}"
    )
    strange = [f"{number} {what}" for what, number in counts["left_out"].items()]
    return text + (
        f"\n{split}, not as it should be: {'; '.join(strange)}" * bool(strange)
    )


def arguments(parser: argparse.ArgumentParser) -> None:
    """Command line of ``tools/prepare.py cityscapes``."""
    parser.add_argument(
        "--root", type=Path, default=Path("data/cityscapes"), help="the data root"
    )
    parser.add_argument(
        "--splits", nargs="+", default=["train", "val"], help="default: train val"
    )
    parser.add_argument("--workers", type=PROCESSES, default=default_workers())


def prepare(args: argparse.Namespace) -> None:
    """Convert the clear images of each split."""
    for split in args.splits:
        counts = convert(args.root, split, workers=args.workers)
        print(summary(split, counts))
        if (args.root / "foggy_streets.json").is_file():
            continue
        expected = EXPECTED_COUNTS.get(split, counts["images"])
        if counts["images"] != expected:
            print(
                f"{split}: {counts['images']} images, the full set has {expected}. "
                "Results will not compare with published ones."
            )
