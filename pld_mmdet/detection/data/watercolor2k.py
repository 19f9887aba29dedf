"""Watercolor2k: water colours with 6 of VOC's classes (Inoue et al. 2018).

The json keeps VOC's 20 categories, because the detector that is adapted has 20 outputs;
the metric averages over the classes that occur.
"""

import argparse
from pathlib import Path

from pld_mmdet.detection.data import voc

EXPECTED_COUNTS = {"train": 1000, "test": 1000}
_HOW = (
    "Unpack watercolor.zip (naoto0804/cross-domain-detection) so that the folder holds "
    "Annotations, JPEGImages and ImageSets."
)


def arguments(parser: argparse.ArgumentParser) -> None:
    """Command line of ``tools/prepare.py watercolor2k``."""
    parser.add_argument("--root", type=Path, default=Path("data/watercolor"))


def prepare(args: argparse.Namespace) -> None:
    """Convert train and test."""
    voc.convert_lists(args.root, ("train", "test"), EXPECTED_COUNTS, _HOW)
