"""KITTI object detection: 7481 training images; only cars count (Geiger et al. 2012).

``Car`` is the class of the benchmark; vans, trucks and trams are left out as in the
released codes. ``DontCare`` regions become groups (``iscrowd``), neither right nor
wrong.
"""

import argparse
from pathlib import Path

from pld_mmdet.detection.data.labelled import (
    Box,
    coco_content,
    image_of,
    report_split,
    sized_image,
    write_split,
)
from pld_mmdet.errors import UserError
from pld_mmdet.reading import users_text

EXPECTED_COUNTS = {"train": 7481}
CLASSES = ("car",)
_MAPPING = {
    "Car": "car",
    "DontCare": "car",
    **dict.fromkeys(
        ("Van", "Truck", "Pedestrian", "Person_sitting", "Cyclist", "Tram", "Misc")
    ),
}
_HOW = (
    "Unpack data_object_image_2.zip and data_object_label_2.zip "
    "(https://www.cvlibs.net/datasets/kitti) so that the folder holds "
    "training/image_2 and training/label_2."
)


def read_labels(path: Path) -> list[Box]:
    """Objects of one label file.

    A line is: type, truncated, occluded, alpha, left, top, right, bottom, and seven
    numbers in three dimensions. Pixels are 0-based, and a box is ``right - left`` wide,
    as KITTI's own evaluation (evaluate_object.cpp) measures it.

    Raises:
        UserError: A line that is not like that.
    """
    text = users_text(path, "label file", "Unpack data_object_label_2.zip again.")
    boxes = []
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        try:
            name, _, _, _, *numbers = line.split()
            left, top, right, bottom = map(float, numbers[:4])
        except ValueError as error:
            raise UserError(
                f"{path}, line {number} is no KITTI label: {line[:60]!r}.",
                "Unpack data_object_label_2.zip again.",
            ) from error
        corners = (left, top, right, bottom)
        boxes.append(Box(name, corners, crowd=name == "DontCare"))
    return boxes


def arguments(parser: argparse.ArgumentParser) -> None:
    """Command line of ``tools/prepare.py kitti``."""
    parser.add_argument("--root", type=Path, default=Path("data/kitti"))


def prepare(args: argparse.Namespace) -> None:
    """Convert the training images; the benchmark has no other split of the source."""
    root = args.root
    labels = sorted((root / "training/label_2").glob("*.txt"))
    if not labels:
        raise UserError(f"No txt under {root / 'training/label_2'}.", _HOW)
    images = []
    for path in labels:
        name = image_of(root, "training/image_2", path.stem, _HOW)
        images.append(sized_image(root, name, read_labels(path), str(path)))
    counts = write_split(root, "train", coco_content(images, CLASSES, _MAPPING))
    report_split("train", counts, EXPECTED_COUNTS["train"])
