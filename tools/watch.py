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

from pld_mmdet.errors import UserError
from pld_mmdet.report.live import serve


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("work_dir", help="--out of adapt.py, --work-dir of train.py")
    parser.add_argument("--port", type=int, default=0, help="[a free one]")
    return parser.parse_args()


if __name__ == "__main__":
    arguments = parse_args()
    try:  # not run_tool: that would import torch
        serve(arguments.work_dir, arguments.port)
    except UserError as error:
        print(f"error: {error.what}\nfix:   {error.fix}", file=sys.stderr)
        sys.exit(2)
