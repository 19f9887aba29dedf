#!/usr/bin/env python
"""Prepare a data set or weights, generated or downloaded.

Examples:
    python tools/prepare.py foggy_streets --root data/foggy_streets
    python tools/prepare.py cityscapes --help     # its own options

Data sets of detection have COCO annotations under ROOT/annotations.
"""

import argparse
import ast
import sys
from importlib import import_module
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # this checkout's package

from pld_mmdet.cli import (
    ToolParser,
    run_tool,
)
from pld_mmdet.places import PACKAGE
from pld_mmdet.quiet import quiet_imports

# Each module offers arguments(parser) and prepare(args).
DATA_SETS = {
    "cutouts": "pld_mmdet.detection.generators.cutouts.generate",
    "crops": "pld_mmdet.detection.generators.cutouts.crops",
    "fashion_mnist": "pld_mmdet.shared.data.fashion_mnist",
    "descriptions": "pld_mmdet.language.data.descriptions",
    "prompts": "pld_mmdet.audio.data.prompts",
    "efficientnet_lite0": "pld_mmdet.shared.data.efficientnet_lite0",
    "smollm2": "pld_mmdet.shared.data.smollm2",
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


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    words = sys.argv[1:] if argv is None else argv
    parser = ToolParser(__doc__)
    commands = parser.add_subparsers(dest="data_set", required=True, metavar="DATA_SET")
    for name, path in DATA_SETS.items():
        text = _docstring(path)
        command = commands.add_parser(name, help=text.splitlines()[0], description=text)
        if name in words:  # the others need not be imported
            module = _imported(path)
            module.arguments(command)
            command.set_defaults(prepare=module.prepare)
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    """Read the command line and prepare the data set it names."""
    prepare(parse_args(argv))


def prepare(args: argparse.Namespace) -> None:
    """Prepare the data set that was named."""
    args.prepare(args)


def _imported(path: str):
    """A module that prepares a data set; it needs the stack."""
    from pld_mmdet.engine.run.stack import check_stack

    check_stack()
    with quiet_imports():
        return import_module(path)


def _docstring(module: str) -> str:
    """The text at a module's beginning, read and not imported: that takes seconds."""
    file = PACKAGE.parent / f"{module.replace('.', '/')}.py"
    return ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""


if __name__ == "__main__":
    run_tool(prepare, parse_args, lambda _: "The same command goes on from here.")
