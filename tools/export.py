#!/usr/bin/env python
"""Turn a training checkpoint into a plain detector checkpoint for stock MMDetection.

The result holds the weights of one network, without prefix, and the class names; no
optimizer and no second network.

Examples:
    python tools/export.py work_dirs/lpld/foggy_streets/last.pth detector.pth
    python tools/export.py last.pth student.pth --network student --config CONFIG
    python tools/export.py RUN/last.pth mean.pth --mean-of 5    # of its newest five
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # this checkout's package

from pld_mmdet.cli import (
    ToolParser,
    input_file,
    output_file,
    run_tool,
)
from pld_mmdet.values import POSITIVE_INT


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = ToolParser(__doc__)
    parser.add_argument(
        "checkpoint", type=input_file, help="checkpoint of a training run"
    )
    parser.add_argument("out", type=output_file, help="file to write (.pth)")
    parser.add_argument(
        "--network",
        choices=["teacher", "student"],
        help="default: the network that the run's config names as its result",
    )
    parser.add_argument(
        "--config",
        type=input_file,
        help="the run's config: also load the exported file strictly into its detector",
    )
    parser.add_argument(
        "--mean-of",
        type=POSITIVE_INT,
        default=1,
        metavar="N",
        help="the plain mean of the newest N numbered checkpoints beside CHECKPOINT",
    )
    return parser.parse_args()


def main(args: argparse.Namespace) -> None:
    """Read, select, check, write."""
    from pld_mmdet.detection.detectors.export import export_detector

    detector = None
    if args.config is not None:
        from pld_mmdet.engine.config.configs import read_config

        detector = read_config(args.config, model=True).model
    network = export_detector(
        args.checkpoint, args.out, args.network, detector, args.mean_of
    )
    print(f"{args.out}: {network}" + (", loads strictly" if detector else ""))


if __name__ == "__main__":
    run_tool(main, parse_args)
