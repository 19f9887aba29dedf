#!/usr/bin/env python
"""Draw samples of a trained generator (diffusion family) into a folder.

Writes 001.png, 002.png ..., grid.png and samples.json (command, seconds a sample);
sequences of tokens and vectors become lines of samples.txt. The noise follows --seed
and the sizes of the batches.

Examples:
    python tools/sample.py work_dirs/ict/toy/last.pth --out pictures
    python tools/sample.py RUN/last.pth --count 64 --steps 4 --class 3 --seed 1
    python tools/sample.py student.pth --config CONFIG --shape 3 64 64
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # this checkout's package

from pld_mmdet.cli import ToolParser, input_file, output_folder, run_tool
from pld_mmdet.errors import UserError
from pld_mmdet.values import BATCH, COUNT, POSITIVE_INT, SEED, Number


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = ToolParser(__doc__)
    add = parser.add_argument
    add("checkpoint", type=input_file, help="checkpoint of a training run")
    add("--config", type=input_file, help="its config [config.py of its folder]")
    add("--out", type=output_folder, default="samples", help="folder [samples]")
    add("--overwrite", action="store_true", help="replace earlier samples in --out")
    add("-n", "--count", type=POSITIVE_INT, default=16, help="how many [16]")
    add("--batch", type=BATCH, default=16, help="how many at once [16]")
    add("--seed", type=SEED, default=0, help="of the noise [0]")
    add(
        "--class",
        dest="label",
        type=COUNT,
        help="number of the class of all samples [each in its turn]",
    )
    add("--steps", type=POSITIVE_INT, help="calls of the network [the config's]")
    add(
        "--shape",
        type=POSITIVE_INT,
        nargs="+",
        help="of a sample, for generators that read no data [the config's data's]",
    )
    add(
        "--range",
        type=Number(),
        nargs=2,
        metavar=("BLACK", "WHITE"),
        help="values of black and white [by the data's normalisation]",
    )
    return parser.parse_args()


def main(args: argparse.Namespace) -> None:
    """Build, draw, write."""
    import torch
    from mmengine.registry import init_default_scope

    import pld_mmdet.diffusion.sampling.samples as samples
    from pld_mmdet.engine.config.configs import read_config
    from pld_mmdet.engine.config.data_files import read_dump
    from pld_mmdet.engine.state.provenance import command_line, file_sha256

    if args.range is not None and args.range[0] == args.range[1]:
        raise UserError("--range: black is white.", "Give two different values.")
    if args.config is None:
        beside = Path(args.checkpoint).resolve().parent / "config.py"
        if not beside.is_file():
            raise UserError(f"There is no {beside}.", "Name the config with --config.")
        cfg = read_dump(beside, build=True)
    else:
        beside, cfg = args.config, read_config(args.config, model=True)
    init_default_scope("mmengine")
    wanted = samples.Wanted(
        args.count, args.batch, args.seed, args.label, args.steps, args.shape
    )
    model = samples.generator(cfg, args.checkpoint)
    data = None if args.shape else samples.data_of(cfg)
    black, white = samples.value_range(data)
    if args.range is not None:
        black, white = map(torch.tensor, args.range)
    seconds = samples.write_samples(
        samples.drawn(model, data, wanted),
        Path(args.out),
        wanted,
        black,
        white,
        dict(
            command=command_line(),
            checkpoint_sha256=file_sha256(args.checkpoint),
            method=type(model).__name__,
            seed=args.seed,
        ),
        (args.checkpoint, beside),
        args.overwrite,
    )
    print(f"{args.out}: {args.count} samples, {seconds:.3g} s each")


if __name__ == "__main__":
    run_tool(main, parse_args)
