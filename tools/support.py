#!/usr/bin/env python
"""Try the stock configs of the installed mmdet and write the table of docs/adapt.md.

Each config is adapted for a step, with small images and random weights, through
pld_mmdet.adapt. A few minutes; meant for a nightly job.

Examples:
    python tools/support.py --docs docs/adapt.md    # the table, in its place
    python tools/support.py centernet yolo          # these folders only
"""

import argparse
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # this checkout's package

from pld_mmdet.cli import ToolParser, renewed_file, run_tool


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = ToolParser(__doc__)
    parser.add_argument("only", nargs="*", help="folders or configs [one of each kind]")
    parser.add_argument("--variants", action="store_true", help="other backbones too")
    parser.add_argument(
        "--docs", type=renewed_file, help="markdown page whose table is renewed"
    )
    parser.add_argument(
        "--result", type=renewed_file, help="json of all findings; those in it stay"
    )
    parser.add_argument("--traces", action="store_true", help="print failures whole")
    return parser.parse_args()


def main(args: argparse.Namespace) -> None:
    """Try, print, write."""
    from pld_mmdet.adaptation import support, support_table
    from pld_mmdet.engine.run.stack import import_mmdet
    from pld_mmdet.reading import page_around
    from pld_mmdet.waiting import counted

    if args.docs:  # now, not after all detectors
        page_around(args.docs, support_table.BEGIN, support_table.END)
    import_mmdet()
    root = support.stock_configs()
    paths = support_table.select(root, args.only, args.variants)
    findings = support_table.read_result(args.result)
    known = {found.config for found in findings}
    paths = [path for path in paths if str(path.relative_to(root)) not in known]
    with tempfile.TemporaryDirectory() as scratch:
        tried = support.try_all(paths, root, Path(scratch))
        for found in counted(tried, len(paths), "configs tried", every=60):
            findings.append(found)
            print(support_table.line(found), flush=True)
            if args.result:
                support_table.write_result(findings, Path(args.result))
            if args.traces and found.trace:
                print(found.trace)
    print(support_table.summary(findings))
    if args.docs:
        support_table.write_docs(findings, Path(args.docs))


if __name__ == "__main__":
    run_tool(main, parse_args)
