"""BDD100k, the daytime images, with Cityscapes' class names (Yu et al. 2020).

Adaptation from Cityscapes counts seven classes: ``train`` is left out as in the papers
(its few objects would move the mean), but stays a category, because the detector has
eight outputs; the metric averages over the classes that occur.
"""

import argparse
from pathlib import Path

from pld_mmdet.detection.data.cityscapes import CLASSES
from pld_mmdet.detection.data.labelled import (
    Box,
    LabelledImage,
    coco_content,
    report_split,
    sized_image,
    write_split,
)
from pld_mmdet.errors import UserError
from pld_mmdet.reading import parse_json, users_text

# Images whose label file says timeofday: daytime.
EXPECTED_COUNTS = {"train": 36728, "val": 5258}
WIDTH, HEIGHT = 1280, 720  # of every image of the set
_MAPPING = {
    "train": None,
    "pedestrian": "person",  # labels of 2020
    "bike": "bicycle",
    "motor": "motorcycle",
    **dict.fromkeys(
        ("traffic light", "traffic sign", "other vehicle", "other person", "trailer")
    ),
}
_HOW = (
    "Unpack bdd100k_images_100k.zip and the detection labels (https://bdd-data."
    "berkeley.edu) so that the folder holds images/100k/{train,val} and "
    "labels/bdd100k_labels_images_{train,val}.json (or labels/det_20/det_{train,val}"
    ".json)."
)


def arguments(parser: argparse.ArgumentParser) -> None:
    """Command line of ``tools/prepare.py bdd100k``."""
    parser.add_argument("--root", type=Path, default=Path("data/bdd100k"))


def prepare(args: argparse.Namespace) -> None:
    """Convert the daytime images of train and val."""
    for split in ("train", "val"):
        content = coco_content(_daytime(args.root, split), CLASSES, _MAPPING)
        counts = write_split(args.root, f"{split}_daytime", content)
        report_split(f"{split}, daytime", counts, EXPECTED_COUNTS[split])


def _daytime(root: Path, split: str) -> list[LabelledImage]:
    names = (
        f"labels/bdd100k_labels_images_{split}.json",
        f"labels/det_20/det_{split}.json",
    )
    path = next((root / name for name in names if (root / name).is_file()), None)
    if path is None:
        raise UserError(f"There is no {root / names[0]}.", _HOW)
    try:
        frames = parse_json(users_text(path, "label file", _HOW))
        found = [
            _read(frame, split, path)
            for frame in frames
            if frame["attributes"]["timeofday"] == "daytime"
        ]
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise UserError(
            f"{path} is no label file of BDD100k ({type(error).__name__}: {error}).",
            _HOW,
        ) from error
    missing = [i.file_name for i in found if not (root / i.file_name).is_file()]
    if missing:
        raise UserError(
            f"{len(missing)} images are missing, e.g. {root / missing[0]}.", _HOW
        )
    found = [
        sized_image(root, i.file_name, i.boxes, i.source, (WIDTH, HEIGHT))
        for i in found
    ]
    return sorted(found, key=lambda image: image.file_name)


def _read(frame: dict, split: str, path: Path) -> LabelledImage:
    boxes = []
    for label in frame.get("labels") or []:
        box = label.get("box2d")  # lanes and drivable areas have none
        if box is not None:
            corners = tuple(float(box[key]) for key in ("x1", "y1", "x2", "y2"))
            boxes.append(Box(label["category"], corners))
    name = f"images/100k/{split}/{frame['name']}"
    source = f"{path}, {frame['name']}"
    return LabelledImage(name, WIDTH, HEIGHT, boxes, source)
