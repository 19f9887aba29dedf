#!/usr/bin/env python
"""Annotation files of the few-shot benchmarks, and the step from base to all classes.

Files go to <root>/annotations/fewshot/<name>_{base,test_base,test,<K>shot_seed<S>}.json

Examples:
    python tools/make_fewshot.py voc --root data/VOCdevkit --split 1 --shots 1 2 3 5 10
    python tools/make_fewshot.py coco --root data/coco --shots 1 5 10 30
    python tools/make_fewshot.py streets --root data/foggy_streets --shots 1 3 5
    python tools/make_fewshot.py extend BASE.pth OUT.pth --classes KSHOT.json
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
from pld_mmdet.values import (
    POSITIVE_INT,
    SEED,
)


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = ToolParser(__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, root in (
        ("voc", "data/VOCdevkit"),
        ("coco", "data/coco"),
        ("streets", "data/foggy_streets"),
    ):
        command = commands.add_parser(name)
        command.add_argument("--root", default=root, help=f"[{root}]")
        command.add_argument(
            "--shots", type=POSITIVE_INT, nargs="+", default=[1, 3, 5, 10]
        )
        command.add_argument("--seed", type=SEED, default=0)
        command.add_argument(
            "--most-objects",
            type=POSITIVE_INT,
            metavar="N",
            help="draw from images with at most N objects [all images]",
        )
        if name == "voc":
            command.add_argument("--split", type=int, choices=[1, 2, 3], default=1)
    extend = commands.add_parser("extend", help="base checkpoint to all classes")
    extend.add_argument(
        "checkpoint", type=input_file, help="plain detector trained on base classes"
    )
    extend.add_argument("out", type=output_file)
    extend.add_argument(
        "--classes",
        type=input_file,
        required=True,
        help="json file that lists the new classes",
    )
    extend.add_argument("--seed", type=SEED, default=0)
    return parser.parse_args(argv)


def main(args: argparse.Namespace) -> None:
    """Write the files."""
    from pld_mmdet.detection.data import fewshot_files
    from pld_mmdet.detection.data.coco import read_coco

    if args.command == "extend":
        fewshot_files.extend_checkpoint(
            args.checkpoint,
            args.out,
            read_coco(args.classes, needs=("categories",)),
            args.seed,
        )
        print(f"{args.out}: set load_from to it")
        return
    for path, images, boxes in fewshot_files.write(
        args.command,
        Path(args.root),
        args.shots,
        args.seed,
        getattr(args, "split", None),
        args.most_objects,
    ):
        print(f"{path}: {images} images, {boxes} boxes")


if __name__ == "__main__":
    run_tool(main, parse_args)
