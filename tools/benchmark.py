#!/usr/bin/env python
"""Measure speed and memory against the rivals that have to be beaten.

python tools/benchmark.py --list
python tools/benchmark.py ema lpld_step --json docs/results/benchmark.json
python tools/benchmark.py --quick

The sides of a case run in turn in one process. Weights are random, but detectors see
realistic numbers of proposals and boxes; images are FoggyStreets' when they are there.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # this checkout's package

from pld_mmdet.cli import (
    ToolParser,
    renewed_file,
    run_tool,
)
from pld_mmdet.values import (
    POSITIVE_INT,
    PROCESSES,
)


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = ToolParser(__doc__)
    parser.add_argument("cases", nargs="*", metavar="CASE", help="default: all")
    parser.add_argument("--list", action="store_true", help="name the cases and stop")
    parser.add_argument("--rounds", type=POSITIVE_INT, help="timed calls of each side")
    parser.add_argument(
        "--json",
        type=renewed_file,
        metavar="FILE",
        help="also record the results, after each case",
    )
    parser.add_argument("--threads", type=PROCESSES, default=1, help="of torch [1]")
    parser.add_argument(
        "--clock",
        choices=["cpu", "wall"],
        help="what decides ratios [cpu with one thread, which others cannot disturb]",
    )
    parser.add_argument(
        "--quick", action="store_true", help="few rounds, no R50-C4: rough numbers"
    )
    return parser.parse_args()


def main(args: argparse.Namespace) -> None:
    """Run the cases, print the table, write the record."""
    from rich.console import Console

    from pld_mmdet.benchmark.cases import CASES, choose_cases, run_cases

    if args.list:
        for name, case in CASES.items():
            print(f"{name:<18} {case.summary} (about {case.seconds:.0f} s)")
        return
    names = choose_cases(args.cases, args.quick)

    import torch
    from mmengine.registry import init_default_scope

    from pld_mmdet.benchmark.table import print_results, write_results
    from pld_mmdet.engine.run.stack import import_mmdet

    import_mmdet()
    init_default_scope("mmdet")
    torch.set_num_threads(args.threads)
    clock = args.clock or ("cpu" if args.threads == 1 else "wall")
    console = Console(width=None if sys.stdout.isatty() else 110)

    def keep(results: list) -> None:
        if args.json:
            write_results(args.json, results)

    results = run_cases(names, args.rounds, args.quick, console, clock, keep)
    print_results(results, console)


if __name__ == "__main__":
    run_tool(main, parse_args)
