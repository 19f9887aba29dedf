#!/usr/bin/env python
"""Train the model of a config.

Examples:
    python tools/train.py configs/source/foggy_streets.py
    python tools/train.py configs/lpld/foggy_streets.py --resume
    bash tools/dist_train.sh configs/lpld/foggy_cityscapes.py 8
"""

import argparse
import sys
from contextlib import nullcontext
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # this checkout's package

from pld_mmdet.cli import (
    ToolParser,
    add_config_arguments,
    build_runner,
    input_file,
    load_config,
    resume_sentence,
    run_tool,
)
from pld_mmdet.errors import UserError
from pld_mmdet.values import (
    PORT,
    SEED,
)


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = ToolParser(__doc__)
    parser.add_argument(
        "config",
        type=input_file,
        help="config file, e.g. configs/lpld/foggy_streets.py",
    )
    parser.add_argument(
        "--resume",
        nargs="?",
        const="auto",
        metavar="CHECKPOINT",
        help="go on from the newest checkpoint in the work dir (or from this one); "
        "without any checkpoint yet, start from the beginning",
    )
    parser.add_argument("--seed", type=SEED, help="replaces randomness.seed")
    parser.add_argument(
        "--amp",
        nargs="?",
        const="fp16",
        choices=["fp16", "bf16"],
        help="mixed precision (fp16 needs a GPU)",
    )
    parser.add_argument(
        "--auto-scale-lr",
        action="store_true",
        help="fit learning rate, EMA, warm-up and length to batch and processes",
    )
    parser.add_argument(
        "--watch",
        nargs="?",
        type=PORT,
        const=0,
        metavar="PORT",
        help="show the growing run in the browser of this machine [a free port]",
    )
    add_config_arguments(parser)
    return parser.parse_args()


def main(args: argparse.Namespace) -> None:
    """Check, build, train."""
    cfg = load_config(args)
    args.work_dir = cfg.work_dir  # for the sentence after Ctrl-C
    if args.seed is not None:
        cfg.merge_from_dict({"randomness.seed": args.seed})
    from pld_mmdet.engine.config.preflight import check_config
    from pld_mmdet.engine.optim.precision import use_amp
    from pld_mmdet.engine.optim.scaling import scale_config, world_size
    from pld_mmdet.engine.state.newest import find_latest

    if args.amp is not None:
        use_amp(cfg, args.amp)
    if args.auto_scale_lr:
        if "base_batch_size" not in (cfg.get("auto_scale_lr") or {}):
            raise UserError(
                "--auto-scale-lr: the config does not say which batch its numbers were "
                "chosen for.",
                "Add auto_scale_lr=dict(base_batch_size=N), images over all processes.",
            )
        cfg.auto_scale_lr.enable = True
    scaled = scale_config(cfg, world_size(args.launcher))
    if scaled is not None:
        print(scaled)

    if args.resume is not None:
        latest = find_latest(cfg.work_dir) if args.resume == "auto" else args.resume
        if latest is None:
            # keep load_from: mmengine would start from random weights here
            print(f"No checkpoint in {cfg.work_dir} yet: starting from the beginning.")
        cfg.resume = latest is not None
        if latest is not None:
            cfg.load_from = latest
    check_config(cfg, ("train", "val"))
    from pld_mmdet.engine.state.outfolder import claimed
    from pld_mmdet.engine.state.resuming import refuse_other_recipe
    from pld_mmdet.report.live import is_first_process, watched

    first = is_first_process()  # the other processes write nothing into the folder
    with (
        claimed(cfg.work_dir, args.resume is not None) if first else nullcontext(),
        watched(cfg.work_dir, args.watch if first else None),
    ):
        if cfg.get("resume") and first:
            refuse_other_recipe(cfg, world_size(args.launcher))
        build_runner(cfg).train()


if __name__ == "__main__":
    run_tool(main, parse_args, lambda args: resume_sentence(args, args.work_dir or ""))
