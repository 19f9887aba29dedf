#!/usr/bin/env python
"""Write the report of a run directory: one HTML file that loads nothing from anywhere.

python tools/report.py work_dirs/reproduce/foggy_streets

What has not been run (yet) is left out and named at the end of the page.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # this checkout's package

from pld_mmdet.cli import (
    ToolParser,
    input_folder,
    output_file,
    run_tool,
)
from pld_mmdet.values import (
    COUNT,
)


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = ToolParser(__doc__)
    parser.add_argument(
        "run_dir", type=input_folder, help="folder that tools/reproduce.py wrote"
    )
    parser.add_argument(
        "--out", type=output_file, help="the file [RUN_DIR/report.html]"
    )
    parser.add_argument("--images", type=COUNT, default=6, help="test images shown [6]")
    parser.add_argument("--device", default="cpu", help="where detectors run [cpu]")
    return parser.parse_args()


def main(args: argparse.Namespace) -> None:
    """Build the report and say where it is."""
    from pld_mmdet.report.build import write_report

    out = write_report(args.run_dir, args.out, args.images, args.device)
    print(f"Wrote {out} ({out.stat().st_size / 1e6:.1f} MB).")


if __name__ == "__main__":
    run_tool(main, parse_args)
