#!/usr/bin/env python
"""Adapt your own detector to a folder of images, without labels.

Examples:
    python tools/adapt.py CONFIG CHECKPOINT IMAGES
    python tools/adapt.py CONFIG CHECKPOINT 'shots/**/*.png' --method mean_teacher
    python tools/adapt.py CONFIG CHECKPOINT IMAGES --method adabn      # seconds
    python tools/adapt.py CONFIG CHECKPOINT IMAGES --val labels.json   # also measure
    python tools/adapt.py CONFIG CHECKPOINT IMAGES --watch             # in the browser

CONFIG is any stock mmdet config. OUT/adapted.pth loads in it again; OUT/report.html
says whether the detector got better; tools/train.py OUT/config.py --work-dir AGAIN
repeats the run.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # this checkout's package

from pld_mmdet.cli import (
    ToolParser,
    input_file,
    input_folder,
    output_folder,
    run_tool,
)
from pld_mmdet.values import (
    BATCH,
    INDEX,
    PORT,
    POSITIVE,
    POSITIVE_INT,
    PROCESSES,
    SEED,
    SHARE,
    WORKERS,
)

MAX_PIXELS = 178_956_970  # pld_mmdet.detection.data.images, which imports too much
METHODS = ("lpld", "mean_teacher", "adabn")
SCORES = ("agreement", "box_stability", "das")


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
    add("--method", choices=METHODS, default="lpld", help="[lpld]")
    add(
        "--val",
        type=input_file,
        metavar="ANN",
        help="COCO json; only measures, chooses nothing",
    )
    add(
        "--val-images",
        type=input_folder,
        metavar="DIR",
        help="folder of its images [searched]",
    )
    add(
        "--out",
        type=output_folder,
        help="folder for everything [work_dirs/adapt/CONFIG_METHOD]",
    )
    add("--resume", action="store_true", help="go on with the run in --out")
    add("--classes", nargs="+", metavar="NAME", help="if the checkpoint names none")
    add("--batch", type=BATCH, help="images a step and process [config's, at most 4]")
    add("--gpus", type=PROCESSES, default=1, help="training processes [1]")
    add("--iterations", type=POSITIVE_INT, help="instead of the rule's")
    add("--lr", type=POSITIVE, help="instead of the rule's")
    add("--keep", type=SHARE, help="teacher's share that stays, instead of the rule's")
    add("--threshold", type=SHARE, help="score of a pseudo label [0.7; sigmoid 0.25]")
    add("--stage", type=INDEX, default=-1, help="box head that mines in a cascade [-1]")
    add("--seed", type=SEED, default=0, help="[0]")
    add(
        "--guard",
        choices=["stop", "rollback", "warn", "off"],
        default="stop",
        help="what happens at a collapse [stop: keep the last good weights]",
    )
    add(
        "--select",
        choices=["last", *SCORES],
        default="last",
        help="checkpoint that is exported: the last, or the best by a score [last]",
    )
    add("--scores", nargs="*", choices=SCORES, default=list(SCORES), metavar="NAME")
    add(
        "--score-images", type=POSITIVE_INT, default=32, help="images they look at [32]"
    )
    add("--evaluations", type=POSITIVE_INT, default=4, help="during the run [4]")
    add("--workers", type=WORKERS, default=2, help="loader processes [2]")
    add(
        "--max-pixels",
        type=POSITIVE_INT,
        default=MAX_PIXELS,
        metavar="N",
        help=f"larger images count as unreadable [{MAX_PIXELS}]",
    )
    add("--amp", nargs="?", const="fp16", choices=["fp16", "bf16"])
    add(
        "--second-opinion",
        nargs="+",
        metavar="FILE",
        help="boxes that the teacher may miss: FILE.json with COCO results, or CONFIG "
        "CHECKPOINT of another detector",
    )
    add(
        "--watch",
        nargs="?",
        type=PORT,
        const=0,
        metavar="PORT",
        help="show the growing run in the browser of this machine [a free port]",
    )
    add(
        "--log",
        nargs="+",
        choices=["tensorboard", "wandb"],
        default=[],
        help="send the curves there too",
    )
    return parser.parse_args()


def main(args: argparse.Namespace) -> None:
    """Hand everything to :func:`pld_mmdet.adapt`."""
    import pld_mmdet

    pld_mmdet.adapt(**vars(args))


if __name__ == "__main__":
    run_tool(
        main,
        parse_args,
        lambda _: "Nothing before the last checkpoint is lost: add --resume.",
    )
