"""Foggy Cityscapes: the boxes of Cityscapes on the images of one fog density."""

import argparse

from pld_mmdet.detection.data import cityscapes
from pld_mmdet.values import POSITIVE


def arguments(parser: argparse.ArgumentParser) -> None:
    """Command line of ``tools/prepare.py foggy_cityscapes``."""
    cityscapes.arguments(parser)
    parser.add_argument(
        "--beta",
        type=POSITIVE,
        required=True,
        help="fog density in 1/m: 0.005, 0.01 or 0.02 (the usual benchmark is 0.02)",
    )


def prepare(args: argparse.Namespace) -> None:
    """Convert the foggy images of each split."""
    for split in args.splits:
        counts = cityscapes.convert(args.root, split, (args.beta,), args.workers)
        print(cityscapes.summary(f"{split}, beta {args.beta:g}", counts))
