#!/usr/bin/env python
"""Adapt your own detector to a folder of images, without labels.

Examples:
    python tools/adapt.py CONFIG CHECKPOINT IMAGES
    python tools/adapt.py CONFIG CHECKPOINT 'shots/**/*.png' --method mean_teacher
    python tools/adapt.py CONFIG CHECKPOINT IMAGES --method adabn      # seconds
    python tools/adapt.py CONFIG CHECKPOINT IMAGES --labels few.json   # these choose
    python tools/adapt.py CONFIG CHECKPOINT IMAGES --val labels.json   # only measure
    python tools/adapt.py CONFIG CHECKPOINT IMAGES --watch             # in the browser

CONFIG is any stock mmdet config. OUT/adapted.pth loads in it again; OUT/report.html
says what was found. Where nothing is safer than the detector as it is, it stays: no
adapted.pth, exit code 3 (--keep exports what was trained all the same).
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # this checkout's package

from pld_mmdet.adaptation.options import add_options
from pld_mmdet.cli import ToolParser, input_file, input_folder, run_tool


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = ToolParser(__doc__)
    add = parser.add_argument
    add("config", type=input_file, help="stock mmdet config of the detector")
    add("checkpoint", type=input_file, help="its weights")
    add(
        "images",
        type=input_folder,
        help="folder (searched recursively), or a pattern in quotes",
    )
    add_options(parser)
    return parser.parse_args()


def main(args: argparse.Namespace) -> int:
    """Hand everything to :func:`pld_mmdet.adapt`; 3: nothing was learned."""
    import pld_mmdet

    return 0 if pld_mmdet.adapt(**vars(args)).learned else 3


if __name__ == "__main__":
    run_tool(
        main,
        parse_args,
        lambda _: "Nothing before the last checkpoint is lost: add --resume.",
    )
