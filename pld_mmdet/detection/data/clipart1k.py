"""Clipart1k: clip art with the 20 classes of VOC (Inoue et al. 2018)."""

import argparse
from pathlib import Path

from pld_mmdet.detection.data import voc

EXPECTED_COUNTS = {"train": 500, "test": 500}
_HOW = (
    "Unpack clipart.zip (naoto0804/cross-domain-detection) so that the folder holds "
    "Annotations, JPEGImages and ImageSets."
)


def arguments(parser: argparse.ArgumentParser) -> None:
    """Command line of ``tools/prepare.py clipart1k``."""
    parser.add_argument("--root", type=Path, default=Path("data/clipart"))


def prepare(args: argparse.Namespace) -> None:
    """Convert train and test."""
    voc.convert_lists(args.root, ("train", "test"), EXPECTED_COUNTS, _HOW)
