#!/usr/bin/env python
"""Watch a run in the browser: pseudo labels, pictures, the guard, time left.

Examples:
    python tools/watch.py work_dirs/adapt/my_detector_lpld
    python tools/watch.py WORK_DIR --port 8080

Reads the files of the folder only, so the run may belong to another terminal, or be
over. `tools/adapt.py ... --watch` and `tools/train.py ... --watch` serve the same.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # this checkout's package

from pld_mmdet.cli import (
    ToolParser,
    input_folder,
    run_tool,
)
from pld_mmdet.report.live import serve
from pld_mmdet.values import (
    PORT,
)


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = ToolParser(__doc__)
    parser.add_argument(
        "work_dir", type=input_folder, help="--out of adapt.py, --work-dir of train.py"
    )
    parser.add_argument("--port", type=PORT, default=0, help="[a free one]")
    return parser.parse_args()


def main(args: argparse.Namespace) -> None:
    """Serve until Ctrl-C."""
    serve(args.work_dir, args.port)


if __name__ == "__main__":
    run_tool(main, parse_args, lambda _: "The run goes on without it.", stack=False)
