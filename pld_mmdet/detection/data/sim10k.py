"""Sim10k: 10000 images of a game; only cars count (Johnson-Roberson et al. 2017)."""

import argparse
from pathlib import Path

from pld_mmdet.detection.data.labelled import coco_content, report_split, write_split
from pld_mmdet.detection.data.voc import read_folder
from pld_mmdet.errors import UserError

EXPECTED_COUNTS = {"train": 10000}
CLASSES = ("car",)
_MAPPING = {"motorbike": None, "person": None}
_HOW = (
    "Unpack 10k_images and 10k_annotations of 'Driving in the Matrix' "
    "(https://fcav.engin.umich.edu/projects/driving-in-the-matrix) so that the folder "
    "holds Annotations and JPEGImages."
)


def arguments(parser: argparse.ArgumentParser) -> None:
    """Command line of ``tools/prepare.py sim10k``."""
    parser.add_argument("--root", type=Path, default=Path("data/sim10k"))


def prepare(args: argparse.Namespace) -> None:
    """Convert all images; the benchmark has no other split of the source."""
    stems = sorted(path.stem for path in (args.root / "Annotations").glob("*.xml"))
    if not stems:
        raise UserError(f"No xml under {args.root / 'Annotations'}.", _HOW)
    images = read_folder(args.root, "", stems, _HOW)
    content = coco_content(images, CLASSES, _MAPPING)
    counts = write_split(args.root, "train", content)
    report_split("train", counts, EXPECTED_COUNTS["train"])
