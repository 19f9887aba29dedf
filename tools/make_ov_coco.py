#!/usr/bin/env python
"""Annotation files of the open-vocabulary benchmarks.

coco: the 48 base and 17 novel classes of OV-COCO: <root>/annotations/ov/
{train_base,val}.json; novel categories are listed, but only base classes have training
boxes. Candidates then come from tools/make_clip_candidates.py.

streets: 5 base and 3 novel classes of FoggyStreets' clear scenes with *simulated* CLIP
errors: <root>/annotations/ov/{train_candidates_seed<S>,train_hidden,val,test}.json. The
candidates know what they really are (`kind`) and train_hidden has all boxes: for
measurements, training reads neither.

Examples:
    python tools/make_ov_coco.py coco --root data/coco
    python tools/make_ov_coco.py streets --root data/foggy_streets --seed 0
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # this checkout's package

from pld_mmdet.cli import (
    ToolParser,
    run_tool,
)
from pld_mmdet.values import (
    SEED,
)


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = ToolParser(__doc__)
    parser.add_argument("benchmark", choices=["coco", "streets"])
    parser.add_argument("--root", help="[data/coco or data/foggy_streets]")
    parser.add_argument("--seed", type=SEED, default=0, help="of the simulated errors")
    parser.add_argument(
        "--both",
        action="store_true",
        help="systematic errors too, as train_candidates_v2_seed<S>.json",
    )
    return parser.parse_args(argv)


def main(args: argparse.Namespace) -> None:
    """Write the files."""
    from pld_mmdet.detection.data import ov_files

    default = {"coco": "data/coco", "streets": "data/foggy_streets"}[args.benchmark]
    root, versions = Path(args.root or default), (1, 2) if args.both else (1,)
    for path, images, boxes in ov_files.write(
        args.benchmark, root, args.seed, versions
    ):
        print(f"{path}: {images} images, {boxes} boxes")


if __name__ == "__main__":
    run_tool(main, parse_args)
