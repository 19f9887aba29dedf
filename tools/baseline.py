#!/usr/bin/env python
"""Score a trivial rival on a config's test data: ``tools/baseline.py CONFIG NAME``.

Examples:
    python tools/baseline.py configs/ps_kd/plain.py raw_input
    python tools/baseline.py configs/sp2ot/toy.py kmeans --set clusters=10 key=view1
"""

import argparse
import json
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # this checkout's package

from pld_mmdet.cli import (
    ToolParser,
    add_config_arguments,
    input_file,
    load_config,
    run_tool,
)
from pld_mmdet.errors import UserError
from pld_mmdet.values import SEED


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = ToolParser(__doc__)
    parser.add_argument("config", type=input_file, help="config file")
    parser.add_argument("baseline", help="a name in pld_mmdet/shared/baselines.py")
    parser.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE")
    parser.add_argument("--seed", type=SEED, default=0)
    parser.add_argument(
        "--tests",
        nargs="+",
        default=["test"],
        metavar="LABEL[=CONFIG]",
        help="what it is scored on [test]: a label, and the config whose test data",
    )
    add_config_arguments(parser)
    return parser.parse_args()


def parse_arguments(words: list[str]) -> dict:
    """``['c=0.1', 'key=view1']``: values are JSON, or text where they are not."""
    pairs = [word.partition("=") for word in words]
    found = {}
    for name, equals, value in pairs:
        if not equals:
            raise UserError(
                f"--set {name} is not of the form KEY=VALUE.", "For example: c=0.1"
            )
        try:
            found[name] = json.loads(value)
        except json.JSONDecodeError:
            found[name] = value
    return found


def main(args: argparse.Namespace) -> None:
    """Fit, score, print; --work-dir gets the files that a run and its tests write."""
    if args.work_dir is None:
        score(args, None)
        return
    from pld_mmdet.engine.state.outfolder import locked

    folder = Path(args.work_dir)
    with locked(folder, "--work-dir"):
        if any(folder.glob("*.pth")):
            raise UserError(
                f"{folder} holds a training run; its run.json was not overwritten.",
                "Choose another folder with --work-dir.",
            )
        score(args, folder)


def score(args: argparse.Namespace, folder: Path | None) -> None:
    """Fit and score on each of --tests, into the folder if there is one."""
    from pld_mmdet.engine.state import provenance
    from pld_mmdet.engine.state.files import write_json
    from pld_mmdet.shared.baselines import evaluate

    begin = time.time()
    head, dirty = provenance.commit()
    facts = {
        "command": provenance.command_line(),
        "commit": head,
        "dirty": dirty,
        "machine": provenance.machine(),
    }
    arguments = {"type": args.baseline, **parse_arguments(args.set)}
    own = args.config
    for label, _, config in (test.partition("=") for test in args.tests):
        args.config = config or own
        cfg = load_config(args)
        metrics = {
            name: value.item() if hasattr(value, "item") else value
            for name, value in evaluate(cfg, arguments, args.seed).items()
        }
        seconds = round(time.time() - begin, 2)
        found = {"metrics": metrics, "split": "test", **facts, "seconds": seconds}
        if folder is not None:
            write_json(folder / f"metrics_{label}.json", found)
        numbers = ", ".join(f"{name} {value:.4f}" for name, value in metrics.items())
        print(f"{args.baseline} on {label}: {numbers}")
    spent = {
        "seed": args.seed,
        "minutes": round((time.time() - begin) / 60, 3),
        "peak_memory_mb": provenance.peak_memory_mb(),
        "exit": "finished",
    }
    if folder is not None:
        write_json(folder / "run.json", {**facts, **spent})


if __name__ == "__main__":
    run_tool(main, parse_args)
