"""Folds of few labels: which images are labelled, and which count as unlabelled.

From one COCO json it writes, for each fold and percentage, two files below
``<root>/semi_anns``: ``<name>.<fold>@<percent>.json`` with the labelled images and
their boxes, and ``<name>.<fold>@<percent>-unlabeled.json`` with the other images and
*no* box at all. The folds are those of the field (STAC, Unbiased Teacher, Soft
Teacher): fold n draws with numpy's seed n. For the whole of COCO plus its unlabelled
images it also writes annotations/instances_unlabeled2017.json.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from pld_mmdet.detection.data.cityscapes import statistics
from pld_mmdet.detection.data.coco import read_coco
from pld_mmdet.detection.data.files import write_json
from pld_mmdet.errors import UserError
from pld_mmdet.values import PERCENT, SEED

FOLDER = "semi_anns"
_UNLABELED = ("image_info_unlabeled2017.json", "instances_unlabeled2017.json")


def fold_names(ann_file: str, fold: int, percent: float) -> tuple[str, str]:
    """Paths of a fold's two files below the data root.

    Args:
        ann_file: The whole annotation file, e.g. annotations/instances_train2017.json.
        fold: Number of the fold, from 1 by custom.
        percent: Share of labelled images in percent.

    Returns:
        Labelled and unlabelled file.
    """
    stem = f"{FOLDER}/{Path(ann_file).stem}.{fold}@{percent:g}"
    return f"{stem}.json", f"{stem}-unlabeled.json"


def split(content: dict[str, Any], fold: int, percent: float) -> tuple[dict, dict]:
    """Split a COCO json.

    Args:
        content: The parsed file; not changed.
        fold: Seed of the draw.
        percent: Share of labelled images in percent; their number is rounded down.

    Returns:
        The labelled part, and the other images without annotations.

    Raises:
        UserError: ``percent`` leaves no labelled or no unlabelled image.
    """
    images = content["images"]
    number = int(percent / 100.0 * len(images))
    if not 0 < number < len(images):
        raise UserError(
            f"{percent:g} % of {len(images)} images are {number}: no fold has labelled "
            "and unlabelled images.",
            "Choose --percents between "
            f"{100 / len(images):.3g} and {100 - 100 / len(images):.4g}.",
        )
    # The legacy generator: its draws are the published folds.
    drawn = np.random.RandomState(fold).choice(len(images), number, replace=False)
    chosen = np.zeros(len(images), bool)
    chosen[drawn] = True
    labelled = [image for image, c in zip(images, chosen, strict=True) if c]
    others = [image for image, c in zip(images, chosen, strict=True) if not c]
    known = {image["id"] for image in labelled}
    boxes = [a for a in content["annotations"] if a["image_id"] in known]
    return (
        {**content, "images": labelled, "annotations": boxes},
        {**content, "images": others, "annotations": []},
    )


def write_folds(
    root: Path, ann_file: str, folds: list[int], percents: list[float]
) -> list[str]:
    """Write all folds of an annotation file.

    Args:
        root: Data root.
        ann_file: Annotation file below it.
        folds: Seeds.
        percents: Shares of labelled images.

    Returns:
        One line about each fold, for people.

    Raises:
        UserError: The annotation file is missing, is no COCO json, or is too small.
    """
    content = _read(root / ann_file)
    lines = []
    for percent in percents:
        for fold in folds:
            parts = split(content, fold, percent)
            for name, part in zip(
                fold_names(ann_file, fold, percent), parts, strict=True
            ):
                write_json(root / name, part)
            counts = statistics(parts[0])
            total = sum(counts["boxes"].values())
            line = (
                f"{percent:g} %, fold {fold}: {counts['images']} labelled images with "
                f"{total} boxes, {len(parts[1]['images'])} unlabelled"
            )
            absent = [name for name, number in counts["boxes"].items() if not number]
            if absent:
                line += f"; no labelled box of: {', '.join(absent)}"
            lines.append(line)
    return lines


def write_unlabeled(root: Path, ann_file: str) -> str | None:
    """Give COCO's list of unlabelled images the categories that mmdet asks for.

    Args:
        root: Data root.
        ann_file: File with the categories, below it.

    Returns:
        A line for people; None if COCO's list is not there.
    """
    source, target = (root / "annotations" / name for name in _UNLABELED)
    if not source.is_file():
        return None
    content = _read(source)
    content |= {"categories": _read(root / ann_file)["categories"], "annotations": []}
    write_json(target, content)
    return f"{target.name}: {len(content['images'])} unlabelled images"


def _read(path: Path) -> dict[str, Any]:
    return read_coco(
        path,
        "Unpack annotations_trainval2017.zip from https://cocodataset.org there, or "
        "name another file with --root and --ann.",
    )


def arguments(parser: argparse.ArgumentParser) -> None:
    """Command line of ``tools/prepare.py coco_semi``."""
    parser.add_argument(
        "--root", type=Path, default=Path("data/coco"), help="the data root"
    )
    parser.add_argument(
        "--ann",
        default="annotations/instances_train2017.json",
        help="annotation file below it [annotations/instances_train2017.json]",
    )
    parser.add_argument(
        "--percents", type=PERCENT, nargs="+", default=[1, 2, 5, 10], help="[1 2 5 10]"
    )
    parser.add_argument(
        "--folds", type=SEED, nargs="+", default=[1, 2, 3, 4, 5], help="[1 2 3 4 5]"
    )


def prepare(args: argparse.Namespace) -> None:
    """Write the folds and say what is in them."""
    for line in write_folds(args.root, args.ann, args.folds, args.percents):
        print(line)
    line = write_unlabeled(args.root, args.ann)
    if line is not None:
        print(line)
