"""Run a table of results from one config, over seeds, and record it.

Examples:
    python tools/reproduce.py configs/lpld/foggy_streets.py --quick
    python tools/reproduce.py configs/lpld/foggy_streets.py --seeds 0 1 2 \\
        --result docs/results/foggy_streets.json --overwrite --page docs/results.md

Finished jobs are skipped, killed ones go on where they were: run the same command
again at any time.
"""

import argparse
import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from pld_mmdet.cli import (  # noqa: E402
    ToolParser,
    input_file,
    output_file,
    output_folder,
    renewed_file,
    run_tool,
)
from pld_mmdet.values import PROCESSES, SEED  # noqa: E402


def parse_args() -> argparse.Namespace:
    """The command line."""
    parser = ToolParser(__doc__)
    add = parser.add_argument
    add("config", type=input_file, help="a config that carries `experiment`")
    add("--seeds", type=SEED, nargs="+", default=[0, 1, 2], help="[0 1 2]")
    add("--rows", nargs="+", help="names of rows [all]; what they start from is added")
    add(
        "--out",
        type=output_folder,
        help="folder of the runs [work_dirs/reproduce/NAME]",
    )
    add(
        "--quick", action="store_true", help="tiny lengths: tries the chain, no numbers"
    )
    add(
        "--workers",
        type=PROCESSES,
        help="processes side by side [2 on two or more cores]",
    )
    add(
        "--result",
        type=output_file,
        help="also record the result here (docs/results/*.json)",
    )
    add(
        "--page",
        type=renewed_file,
        help="write the table between its markers in this page",
    )
    add("--report", action="store_true", help="write report.html into the folder")
    add(
        "--gate",
        action="store_true",
        help="run only what the experiment's gates ask about; exit 1 if one fails",
    )
    add("--add", action="store_true", help="add the --rows to the record of --result")
    add("--check", action="store_true", help="exit 1 when a row is out of its range")
    return parser.parse_args()


def main(args: argparse.Namespace) -> int:
    """Go to the repository, run the graph."""
    # Configs, data and commands are relative to the repository; --out to the caller.
    for name in ("out", "result", "page"):
        path = getattr(args, name)
        if path:
            absolute = Path.cwd() != ROOT  # and no link is followed: it may be a loop
            setattr(args, name, Path(os.path.abspath(path) if absolute else path))
    os.chdir(ROOT)
    from rich.console import Console

    from pld_mmdet.experiments.reproducing import reproduce

    return reproduce(args, Console(highlight=False, soft_wrap=True))


if __name__ == "__main__":
    run_tool(main, parse_args, lambda _: "The same command goes on.")
