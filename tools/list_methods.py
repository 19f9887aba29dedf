#!/usr/bin/env python
"""Print the project's methods: paper, files, status.

A status comes from a contest: one real data set, one network, one budget, every method
made for it and its rivals. Until a method stands in one it is "not yet in a contest";
the records of its toy test its wiring and say nothing about the method. Everything is
read from the files, nothing is typed in.

Examples:
    python tools/list_methods.py                       # all, for the terminal
    python tools/list_methods.py --family diffusion --missing
    python tools/list_methods.py --page               # the table of docs/methods.md
"""

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from rich.console import Console  # noqa: E402
from rich.table import Table  # noqa: E402

from pld_mmdet.catalogue import Entry, entries  # noqa: E402
from pld_mmdet.cli import ToolParser, run_tool  # noqa: E402
from pld_mmdet.errors import UserError  # noqa: E402
from pld_mmdet.reading import page_around  # noqa: E402

MARKERS = ("<!-- methods -->", "<!-- /methods -->")
HEAD = (
    "family",
    "method",
    "paper",
    "status",
    "withdrawn",
    "config",
)


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = ToolParser(__doc__)
    parser.add_argument("--family", help="only this family")
    parser.add_argument(
        "--missing", action="store_true", help="say what a method lacks"
    )
    parser.add_argument(
        "--page", action="store_true", help="rewrite the table in docs/methods.md"
    )
    return parser.parse_args()


def status(entry: Entry) -> str:
    """``planned``, ``in work`` (something is missing) or ``not yet in a contest``."""
    if not entry.is_begun():
        return "planned"
    return "in work" if entry.missing() else "not yet in a contest"


def line(entry: Entry) -> tuple[str, ...]:
    """The cells of a method's line."""
    state = status(entry)
    config = "" if state == "planned" else entry.files["toy config"]
    paper = f"{entry.paper} ({entry.year})"
    return entry.family, entry.title, paper, state, entry.withdrawn, config


def markdown(found: list[Entry]) -> str:
    """The table for docs/methods.md; planned methods in one line a family."""
    lines = ["| " + " | ".join(HEAD) + " |", "|" + "---|" * len(HEAD)]
    planned: dict[str, list[str]] = {}
    for entry in found:
        cells = line(entry)
        if cells[3] == "planned":
            planned.setdefault(entry.family, []).append(entry.title)
            continue
        file = f"[{cells[1]}](../{entry.files['method']})"
        row = [cells[0], file, *cells[2:5], f"`{cells[5]}`"]
        lines.append("| " + " | ".join(row) + " |")
    waiting = [
        f"{family.replace('_', ' ')}: {', '.join(titles)}"
        for family, titles in planned.items()
    ]
    text = "\n".join(lines)
    if waiting:
        text += f"\n\nPlanned: {'; '.join(waiting)}."
    return f"{len(found)} methods.\n\n{text}"


def update_page(path: Path, text: str) -> None:
    """Put the table between the page's markers.

    Raises:
        UserError: If the markers are not there exactly once.
    """
    before, after = page_around(path, *MARKERS)
    path.write_text(f"{before}\n{text}\n{after}", encoding="utf-8")


def main(args: argparse.Namespace) -> None:
    """Print, or write into the page."""
    wide = None if sys.stdout.isatty() else 180  # a pipe has no width to fit into
    console = Console(highlight=False, soft_wrap=True, width=wide)
    found = entries()
    families = list(dict.fromkeys(entry.family for entry in found))
    if args.page:
        update_page(ROOT / "docs/methods.md", markdown(found))
        console.print("The table in docs/methods.md is new.")
        return
    if args.family is not None:
        if args.family not in families:
            raise UserError(
                f"There is no family {args.family!r}.",
                f"Choose one of {', '.join(families)}.",
            )
        found = [entry for entry in found if entry.family == args.family]
    table = Table()
    for name in HEAD:
        table.add_column(name, overflow="fold")
    for entry in found:
        table.add_row(*line(entry))
    console.print(table)
    if args.missing:
        for entry in found:
            if entry.is_begun():
                for lack in entry.missing():
                    console.print(f"{entry.stem}: {lack}")
    console.print(f"{len(found)} methods.")


if __name__ == "__main__":
    run_tool(main, parse_args, stack=False)
