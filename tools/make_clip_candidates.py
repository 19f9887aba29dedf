#!/usr/bin/env python
"""MarvelOVD's offline stage: text vectors, and CLIP's candidate boxes of novel classes.

CLIP is yours: a folder in transformers' format or a hub name. Interrupted runs go on
image by image.

Examples:
    python tools/make_clip_candidates.py text --clip CLIP --ann val65.json \
        --out data/coco/ov/text.npz
    python tools/make_clip_candidates.py boxes --clip CLIP --ann train_base48.json \
        --novel airplane bus cat --images data/coco/train2017 \
        --detector CONFIG CHECKPOINT --out data/coco/ov/train_candidates.json
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # this checkout's package

from pld_mmdet.cli import (
    ToolParser,
    input_file,
    input_folder,
    output_file,
    run_tool,
)
from pld_mmdet.values import (
    SHARE,
)


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = ToolParser(__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    text = commands.add_parser("text", help="text vectors of all class names (.npz)")
    boxes = commands.add_parser("boxes", help="candidate boxes (COCO json)")
    for command in (text, boxes):
        command.add_argument("--clip", required=True, help="folder or hub name")
        command.add_argument(
            "--ann", type=input_file, required=True, help="COCO json with categories"
        )
        command.add_argument(
            "--templates", type=input_file, help="file with one prompt a line"
        )
        command.add_argument("--device", default="cpu")
        command.add_argument("--out", type=output_file, required=True)
    boxes.add_argument("--novel", nargs="+", required=True, help="novel class names")
    boxes.add_argument(
        "--images", type=input_folder, required=True, help="folder of the file names"
    )
    source = boxes.add_mutually_exclusive_group(required=True)
    source.add_argument(
        "--detector", type=input_file, nargs=2, metavar=("CONFIG", "CHECKPOINT")
    )
    source.add_argument(
        "--proposals",
        type=input_file,
        help='json: {"IMAGE_ID": {"boxes": [[x1, y1, x2, y2], ...], "scores": [...]}}',
    )
    boxes.add_argument("--min-score", type=SHARE, default=0.5)
    return parser.parse_args(argv)


def main(args: argparse.Namespace) -> None:
    """Run one of the two commands."""
    from pld_mmdet.detection.data.coco import read_coco
    from pld_mmdet.detection.open_vocabulary import clip_stage

    content = read_coco(args.ann)
    (clip_stage.write_text if args.command == "text" else clip_stage.write_boxes)(
        args, content
    )


if __name__ == "__main__":
    run_tool(
        main, parse_args, lambda _: "The same command goes on with the next image."
    )
