"""Prepare a data set: ``python tools/prepare.py DATA_SET [options]``.

Generated or downloaded data become one layout with COCO annotations under
``<root>/annotations``. ``python tools/prepare.py DATA_SET --help`` shows the options.
"""

import argparse
import sys
from importlib import import_module
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from pld_mmdet.errors import UserError

# Each module offers arguments(parser) and prepare(args).
DATA_SETS = {
    "foggy_streets": "pld_mmdet.detection.data.foggy_streets.generate",
    "cityscapes": "pld_mmdet.detection.data.cityscapes",
    "foggy_cityscapes": "pld_mmdet.detection.data.foggy_cityscapes",
}


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="data_set", required=True, metavar="DATA_SET")
    for name, path in DATA_SETS.items():
        module = import_module(path)
        summary = module.__doc__.splitlines()[0]
        command = commands.add_parser(name, help=summary, description=module.__doc__)
        module.arguments(command)
        command.set_defaults(prepare=module.prepare)
    args = parser.parse_args(argv)
    try:
        args.prepare(args)
    except UserError as error:
        print(f"{error.what}\n{error.fix}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nInterrupted. The same command goes on from here.", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
