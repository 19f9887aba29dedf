#!/usr/bin/env python
"""Evaluate a checkpoint with a config's test (or val) data and metrics.

Examples:
    python tools/test.py configs/lpld/foggy_streets.py last.pth --show-dir pictures
    python tools/test.py CONFIG CHECKPOINT --split val --out-metrics metrics.json
"""

import argparse
import os
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # this checkout's package

from pld_mmdet.cli import (
    ToolParser,
    add_config_arguments,
    build_runner,
    input_file,
    load_config,
    output_file,
    output_folder,
    run_tool,
)
from pld_mmdet.errors import UserError


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = ToolParser(__doc__)
    parser.add_argument("config", type=input_file, help="config file")
    parser.add_argument("checkpoint", type=input_file, help="checkpoint file")
    parser.add_argument("--split", choices=["test", "val"], default="test")
    parser.add_argument(
        "--out-metrics", type=output_file, metavar="FILE", help="write a json file"
    )
    parser.add_argument(
        "--show-dir",
        type=output_folder,
        help="draw ground truth and detections into this folder",
    )
    add_config_arguments(parser)
    return parser.parse_args()


def main(args: argparse.Namespace) -> None:
    """Check, build, evaluate, write."""
    cfg = load_config(args)
    cfg.load_from, cfg.resume = args.checkpoint, False
    if args.split == "val":
        for part in ("dataloader", "evaluator"):
            if cfg.get(f"val_{part}") is None:
                raise UserError(
                    f"--split val: {args.config} has no val_{part}.",
                    "Write one into the config, or leave --split out.",
                )
            cfg[f"test_{part}"] = cfg[f"val_{part}"]
    if args.show_dir is not None:
        cfg.setdefault("default_hooks", {})
        cfg.default_hooks.visualization = dict(
            type="DetVisualizationHook",
            draw=True,
            interval=1,
            test_out_dir=os.path.abspath(args.show_dir),
        )
    from pld_mmdet.engine.config.preflight import check_config, check_writable
    from pld_mmdet.engine.state import provenance
    from pld_mmdet.engine.state.files import keep_inputs, write_json

    check_config(cfg, ("test",))
    if args.out_metrics is not None:  # before minutes of work, not after them
        check_writable(Path(args.out_metrics).resolve().parent, "--out-metrics")
        read = provenance.annotations(cfg, tested=True)
        keep_inputs(args.out_metrics, read, "--out-metrics")
    begin = time.time()
    runner = build_runner(cfg)
    metrics = runner.test()
    if args.out_metrics is None or runner.rank != 0:
        return
    head, dirty = provenance.commit()
    report = {
        "metrics": {k: _number(v) for k, v in metrics.items()},
        "split": args.split,
        "data": provenance.tested_on(cfg, len(runner.test_dataloader.dataset)),
        "command": provenance.command_line(),
        "commit": head,
        "dirty": dirty,
        "seconds": round(time.time() - begin, 2),
        "checkpoint_sha256": provenance.file_sha256(args.checkpoint),
        "machine": provenance.machine(),
    }
    write_json(args.out_metrics, report)


def _number(value):
    """A metric as json can hold it (numpy scalars have ``item``)."""
    return value.item() if hasattr(value, "item") else value


if __name__ == "__main__":
    run_tool(main, parse_args)
