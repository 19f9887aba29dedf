#!/usr/bin/env python
"""Prepare a data set: ``python tools/prepare.py DATA_SET [options]``.

Generated and downloaded data get one layout, with COCO annotations under
``<root>/annotations``. ``python tools/prepare.py DATA_SET --help`` shows the options.
"""

import sys
from importlib import import_module
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # this checkout's package

from pld_mmdet.cli import (
    ToolParser,
    run_tool,
)

# Each module offers arguments(parser) and prepare(args).
DATA_SETS = {
    "foggy_streets": "pld_mmdet.detection.generators.foggy_streets.generate",
    "street_crops": "pld_mmdet.detection.data.street_crops",
    "cityscapes": "pld_mmdet.detection.data.cityscapes",
    "foggy_cityscapes": "pld_mmdet.detection.data.foggy_cityscapes",
    "coco_semi": "pld_mmdet.detection.data.coco_semi",
    "voc": "pld_mmdet.detection.data.voc",
    "sim10k": "pld_mmdet.detection.data.sim10k",
    "kitti": "pld_mmdet.detection.data.kitti",
    "bdd100k": "pld_mmdet.detection.data.bdd100k",
    "clipart1k": "pld_mmdet.detection.data.clipart1k",
    "watercolor2k": "pld_mmdet.detection.data.watercolor2k",
}


def main(argv: list[str] | None = None) -> None:
    """Read the command line and prepare the data set it names."""
    parser = ToolParser(__doc__)
    commands = parser.add_subparsers(dest="data_set", required=True, metavar="DATA_SET")
    for name, path in DATA_SETS.items():
        module = import_module(path)
        summary = module.__doc__.splitlines()[0]
        command = commands.add_parser(
            name,
            help=summary,
            description=module.__doc__,
        )
        module.arguments(command)
        command.set_defaults(prepare=module.prepare)
    args = parser.parse_args(argv)
    args.prepare(args)


if __name__ == "__main__":
    run_tool(main, resumable=lambda: "The same command goes on from here.")
