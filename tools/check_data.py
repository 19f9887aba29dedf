#!/usr/bin/env python
"""Look at the data of a config before a long run.

Prints images, boxes per class, empty images, sizes, missing and corrupt files of each
data loader; compares the class names of config, annotations and checkpoint, and the
numbers of images with the config's expected_counts. Ends with exit code 2 when
something is off.

Examples:
    python tools/check_data.py configs/lpld/foggy_streets.py
    python tools/check_data.py configs/lpld/foggy_cityscapes.py --checkpoint last.pth
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # this checkout's package

from pld_mmdet.cli import (
    ToolParser,
    add_config_arguments,
    input_file,
    load_config,
    run_tool,
)
from pld_mmdet.values import (
    PROCESSES,
)


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = ToolParser(__doc__)
    parser.add_argument("config", type=input_file, help="config file")
    parser.add_argument(
        "--checkpoint", type=input_file, help="compare its class names too"
    )
    parser.add_argument(
        "--fast",
        action="store_true",
        help="do not decode the images, only look whether they exist and are complete",
    )
    parser.add_argument(
        "--workers", type=PROCESSES, help="processes, default: all cores"
    )
    add_config_arguments(parser)
    return parser.parse_args()


def main(args: argparse.Namespace) -> None:
    """Check, print, complain."""
    cfg = load_config(args, model=False)
    from rich.console import Console

    from pld_mmdet.detection.data import check
    from pld_mmdet.detection.data.pool import default_workers

    workers = args.workers or default_workers()
    parts = check.check_data(cfg, args.checkpoint, args.fast, workers)
    console = Console()
    for table in check.tables(parts, cfg.get("expected_counts") or {}):
        console.print(table)
    for part in parts:
        print(f"{part.split}: {part.source}")
    how = (cfg.get("how_to_get") or {}).get("data")
    check.raise_problems(check.problems(parts), how)
    print("Everything agrees.")


if __name__ == "__main__":
    run_tool(main, parse_args)
