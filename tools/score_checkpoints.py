#!/usr/bin/env python
"""Rank the checkpoints of runs by label-free scores, and compare with the true AP50.

Give folders of runs (their config.py and checkpoints) or single checkpoints. For each
run the published DAS is formed over its checkpoints; the rank correlation (Spearman)
of every score with AP50 is printed for each run and for all together, and how much AP50
the checkpoint that a score picks loses against the best one.

Examples:
    python tools/score_checkpoints.py work_dirs/lpld/seed_0 work_dirs/lpld/seed_1
    python tools/score_checkpoints.py RUN --images 64 --out scores.json
    python tools/score_checkpoints.py work_dirs/adapt/* --recorded   # seconds

Runs keep only their last checkpoints by default: train with
--cfg-options default_hooks.checkpoint.max_keep_ckpts=-1 to compare many.
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
    POSITIVE_INT,
)


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = ToolParser(__doc__)
    add = parser.add_argument
    add(
        "runs",
        type=input_folder,
        nargs="+",
        help="work dirs with config.py and iter_*.pth",
    )
    add("--split", choices=["val", "test"], default="val", help="AP50 on [val]")
    add(
        "--images", type=POSITIVE_INT, default=32, help="images the scores look at [32]"
    )
    add(
        "--recorded",
        action="store_true",
        help="runs of adapt.py: read what they measured while they ran",
    )
    add("--no-ap", action="store_true", help="only score, even where labels exist")
    add("--out", type=output_file, help="write all numbers to this json")
    return parser.parse_args()


def main(args: argparse.Namespace) -> None:
    """Score, measure, correlate, print."""
    from rich.console import Console
    from rich.table import Table

    from pld_mmdet.adaptation.checkpoints import (
        correlations,
        recorded_run,
        score_run,
    )
    from pld_mmdet.engine.state.files import write_json
    from pld_mmdet.engine.state.provenance import command_line, commit

    console = Console()
    runs = {
        run: recorded_run(Path(run))
        if args.recorded
        else score_run(Path(run), args.images, None if args.no_ap else args.split)
        for run in args.runs
    }
    for run, rows in runs.items():
        known = dict.fromkeys(n for row in rows for n in row)
        names = [n for n in known if n not in ("checkpoint", "iter")]
        table = Table("iteration", *names, title=run)
        for row in rows:
            cells = (f"{row[n]:.4f}" if n in row else "-" for n in names)
            table.add_row(str(row["iter"]), *cells)
        console.print(table)
    result = correlations(runs)
    if result:
        table = Table("score", "run", "Spearman", "AP50 lost", title="against AP50")
        for line in result:
            table.add_row(
                line["score"],
                line["run"],
                f"{line['spearman']:+.2f}",
                f"{100 * line['lost']:.1f}",
            )
        console.print(table)
    if args.out:
        head, dirty = commit()
        content = dict(
            runs=runs,
            correlations=result,
            command=command_line(),
            commit=head,
            dirty=dirty,
        )
        write_json(Path(args.out), content)


if __name__ == "__main__":
    run_tool(main, parse_args)
