"""The result as a table for people and as a record for machines."""

import json
import os
from datetime import datetime, timezone
from pathlib import Path

from rich.console import Console
from rich.table import Table

from pld_mmdet.benchmark.timing import Comparison, Measurement
from pld_mmdet.engine.state.files import write_json
from pld_mmdet.engine.state.provenance import command_line, commit, machine, versions


def print_results(results: list[Comparison | Measurement], console: Console) -> None:
    """Print the table and, below it, what a reader has to know.

    Args:
        results: Of :func:`pld_mmdet.benchmark.cases.run_cases`.
        console: Where to.
    """
    table = Table(title="Benchmark", title_justify="left", pad_edge=False)
    table.add_column("case")
    table.add_column("side")
    for name in ("median", "min", "ratio", "rounds", "wall", "target"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("met")
    for result in results:
        for row in _rows(result):
            table.add_row(*row)
        table.add_section()
    console.print(table)
    console.print(
        "ratio: of medians (processor time on one thread, else wall clock); rounds: "
        "smallest to largest ratio of one round; wall: the ratio by the wall clock.",
        highlight=False,
    )
    notes = dict.fromkeys(
        f"{r.case} ({r.setting}). {' '.join(r.notes)}" for r in results
    )
    for note in notes:
        console.print(f"- {note}", highlight=False, markup=False)


def _rows(result: Comparison | Measurement) -> list[list[str]]:
    met = {None: "", True: "[green]yes[/]", False: "[red]no[/]"}[result.met]
    rows = []
    if isinstance(result, Comparison):
        paired = sorted(result.paired)
        ratio = [
            f"[bold]{result.ratio:.2f}[/]",
            f"{paired[0]:.2f}-{paired[-1]:.2f}",
            f"{result.ratio_by('wall'):.2f}",
            "" if result.target is None else f"<= {result.target:g}",
            met,
        ]
        for name in (result.subject, *result.rivals):
            side = result.timings[name]
            median, least = side.median(result.clock), min(getattr(side, result.clock))
            row = [name, f"{median:.3g} s", f"{least:.3g} s"]
            rows.append(row + (ratio if name == result.subject else [""] * 5))
    else:
        for name, value in result.values.items():
            limited = name == result.limited
            target = f"<= {result.target:g}" if limited else ""
            shown = f"{value:.1f} {result.unit}"
            row = [name, shown, "", "", "", "", target, met if limited else ""]
            rows.append(row)
    return [[result.case if n == 0 else "", *row] for n, row in enumerate(rows)]


def write_results(path: str, results: list[Comparison | Measurement]) -> None:
    """Record each result with command, commit, machine and versions.

    Results of the same case and setting are replaced, others stay, so that a case can
    be repeated alone.

    Args:
        path: The file.
        results: Of :func:`pld_mmdet.benchmark.cases.run_cases`.
    """
    head, dirty = commit()
    origin = dict(
        command=command_line(),
        commit=head,
        dirty=dirty,
        date=datetime.now(timezone.utc).strftime("%Y-%m-%d"),
        machine=machine() | dict(load_average=os.getloadavg()[0]),
        versions=versions(),
    )
    target = Path(path)
    old = json.loads(target.read_text(encoding="utf-8")) if target.exists() else []
    records = {(r["case"], r["setting"]): r for r in old}
    for result in results:
        records[result.case, result.setting] = result.record() | dict(origin=origin)
    write_json(target, _rounded(list(records.values())))


def _rounded(value):
    if isinstance(value, float):
        return float(f"{value:.5g}")
    if isinstance(value, dict):
        return {k: _rounded(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_rounded(v) for v in value]
    return value
