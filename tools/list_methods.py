#!/usr/bin/env python
"""Print the project's methods: paper, files, status and measured gain.

`works` means: code, both configs, tests, a docs section and a result row over three
seeds of one clean commit that beats its baseline by more than the spread of the paired
differences, and is not below a trivial rival (raw input, no learning, the teacher) by
more than the spread. `no gain` means: all of that, but the row does not. Everything is
read from the files, nothing is typed in.

Examples:
    python tools/list_methods.py                       # all 64, for the terminal
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
    "gain over its baseline",
    "over its strongest rival",
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
    """``works``, ``no gain``, ``in work`` (something is missing) or ``planned``."""
    if not entry.is_begun():
        return "planned"
    if entry.missing():
        return "in work"
    return "works" if entry.works() else "no gain"


def gain(entry: Entry, over: str = "", metric: str = "") -> str:
    """The gain over the baseline, or another row, as text; points for fractions."""
    found = entry.gain(over=over, metric=metric)
    if found is None:
        return ""
    record = entry.record()
    plain = 2 if abs(found[0]) >= 1 else 4
    scale, digits = (100, 1) if record.get("percent", True) else (1, plain)
    mean, spread = (scale * value for value in found)
    metric = (metric or record["metric"]).rpartition("/")[2]
    return f"{mean:+.{digits}f} ± {spread:.{digits}f} {metric}"


def title_of(entry: Entry, name: str) -> str:
    """What the record calls a row."""
    rows = {row["name"]: row for row in entry.record()["rows"]}
    return rows[name].get("title") or name


def line(entry: Entry) -> tuple[str, ...]:
    """The cells of a method's line."""
    state = status(entry)
    config = "" if state == "planned" else entry.files["toy config"]
    paper = f"{entry.paper} ({entry.year})"
    # without any rival, the baseline is the strongest simple row
    name = "" if state == "planned" else entry.strongest_rival()
    rival = f"{gain(entry, name)} ({title_of(entry, name)})" if name else ""
    own = gain(entry)
    if own and entry.claim:
        over, metric = entry.claim.split()
        own += f"; {gain(entry, over, metric)} over {title_of(entry, over)}"
    return entry.family, entry.title, paper, state, own, rival, config


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
        state, lab = cells[3], f"lab/{entry.stem}.md"
        if (ROOT / "docs" / lab).is_file():
            state = f"[{state}]({lab})"
        row = [cells[0], file, cells[2], state, *cells[4:6], f"`{cells[6]}`"]
        lines.append("| " + " | ".join(row) + " |")
    waiting = [
        f"{family.replace('_', ' ')}: {', '.join(titles)}"
        for family, titles in planned.items()
    ]
    count = sum(status(entry) == "works" for entry in found)
    text = "\n".join(lines)
    if waiting:
        text += f"\n\nPlanned: {'; '.join(waiting)}."
    return f"{count} of {len(found)} methods work.\n\n{text}"


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
    count = sum(status(entry) == "works" for entry in found)
    console.print(f"{count} of {len(found)} methods work.")


if __name__ == "__main__":
    run_tool(main, parse_args, stack=False)
