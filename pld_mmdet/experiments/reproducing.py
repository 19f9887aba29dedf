"""Run a table of results, record it, write its page: what tools/reproduce.py does."""

import argparse
import shlex
import sys
import time
from datetime import datetime, timezone
from pathlib import Path

from rich.console import Console

from pld_mmdet.engine.state.files import write_json
from pld_mmdet.errors import UserError
from pld_mmdet.experiments.contest import Contest, gate_zero, groups_of, write_pages
from pld_mmdet.experiments.gates import judge
from pld_mmdet.experiments.graph import jobs_of
from pld_mmdet.experiments.jobs import JobGraph
from pld_mmdet.experiments.panels import draw_pictures
from pld_mmdet.experiments.progress import clock, watch
from pld_mmdet.experiments.results import (
    collect,
    compare,
    load_result,
    markers,
    require_same_table,
    table,
    update_page,
    with_rows,
)
from pld_mmdet.experiments.rows import Experiment
from pld_mmdet.reading import RESULT, misfit, page_around, read_state


def reproduce(args: argparse.Namespace, console: Console) -> int:
    """Run the graph, record, show. Returns the exit code."""
    experiment = Experiment.load(args.config, args.rows)
    contest = None if args.rows else Contest.of(experiment)
    if args.gate:
        experiment = _gated(experiment, args)
    quick = "_quick" if args.quick else ""
    out = args.out or Path("work_dirs/reproduce") / f"{experiment.name}{quick}"
    recorded = args.result or Path("docs/results") / f"{experiment.name}.json"
    if args.quick and (args.result or args.page or args.check):
        raise UserError(
            "--quick only tries the chain; its numbers mean nothing.",
            "Leave out --quick, or --result, --page and --check.",
        )
    if args.add and not (args.result and args.result.exists() and args.rows):
        raise UserError(
            "--add needs a record to add to, and the rows.",
            "Name both: --result docs/results/NAME.json --overwrite --rows NAME ...",
        )
    # Read before it may be overwritten below.
    old = load_result(recorded) if recorded.exists() and not args.quick else None
    if args.page:  # now, not after hours
        page_around(Path(args.page), *markers(experiment.name))
    if args.add:
        about = dict(name=experiment.name, metric=experiment.metric)
        require_same_table(old, about | dict(seeds=list(args.seeds)))
    jobs = jobs_of(experiment, args.seeds, out, args.quick)
    began, previous = time.monotonic(), read_state(out / "result.json")
    previous = {} if misfit(previous, RESULT) else previous
    facts = {
        "command": shlex.join(["python", "tools/reproduce.py", *sys.argv[1:]]),
        "quick": args.quick,
        "started": _now(),
        "finished": None,
    }

    def record(finished: bool = False) -> dict:
        # Minutes of the earlier calls count when this one went on from them.
        earlier = (previous.get("minutes") or 0.0) if graph.skipped else 0.0
        facts["minutes"] = round(earlier + (time.monotonic() - began) / 60, 2)
        if finished:
            facts["finished"] = _now()
        result = collect(experiment, args.seeds, out, facts)
        write_json(out / "result.json", result)
        return result

    graph = JobGraph(jobs, out, args.workers, on_done=lambda job: record())
    todo = [job for job in jobs if not graph.is_done(job)]
    console.print(
        f"[bold]{experiment.name}[/]: {len(jobs)} jobs, {len(jobs) - len(todo)} done "
        f"before, {graph.workers} side by side, into {out}"
    )
    with watch(graph, console) as show:
        graph.run(show)
    result = record(finished=True)
    if args.report:
        key = str([row["evaluate"] for row in result["rows"]])
        pages = JobGraph([*jobs, experiment.report_job(out, graph.jobs, key)], out, 1)
        with watch(pages, console) as show:
            pages.run(show)
    console.print(table(result), soft_wrap=False)
    for sentence in result["missing"]:
        console.print(f"Note: {sentence}")
    code = 0
    if contest is not None:
        for group in groups_of(experiment.rows):
            console.print(
                f"Gate zero, {gate_zero(contest, experiment.rows, result, group)[1]}"
            )
    if args.gate:
        passes, sentences = judge(experiment.gates, result)
        for sentence in sentences:
            style = None if sentence.endswith("passes.") else "bold red"
            console.print(f"Gate: {sentence}", style=style)
        code = 0 if passes else 1
    for name, within, sentence in compare(result, old) if old else []:
        console.print(f"{name}: {sentence}", style=None if within else "bold red")
        if args.check and not within:
            code = 1
    shown = with_rows(old, result) if args.add else result
    if args.result:
        write_json(args.result, shown)
        console.print(f"Recorded in {args.result}")
        if (path := _contest_page(args, shown)) is not None:
            console.print(f"The contest's page: {path}")
    if experiment.pictures:
        _draw(experiment, args, out, console)
    if args.page:
        update_page(Path(args.page), shown)
        console.print(f"The table in {args.page} is new.")
    console.print(f"Took {clock(60 * result['minutes'])} in all.")
    if args.report:
        console.print(f"[bold]Open {(out / 'report.html').resolve()}[/]")
    return code


def _gated(experiment: Experiment, args: argparse.Namespace) -> Experiment:
    """The experiment with the rows and evaluations alone that its gates ask about."""
    if not experiment.gates:
        raise UserError(
            f"{args.config} has no gates.", "Leave --gate out: nothing is to be met."
        )
    asked = [number for gate in experiment.gates for number in gate.asked()]
    gated = Experiment.load(args.config, list(dict.fromkeys(row for row, _ in asked)))
    for row in gated.rows:
        row.evaluate = {k: v for k, v in row.evaluate.items() if (row.name, k) in asked}
    return gated


def _contest_page(args: argparse.Namespace, shown: dict) -> Path | None:
    """The page of a contest, beside its record: docs/results -> docs/contests."""
    folder = Path(args.result).parent.with_name("contests")
    return write_pages(Experiment.load(args.config), shown, folder)


def _draw(experiment: Experiment, args: argparse.Namespace, out: Path, console) -> None:
    """Samples of the rows side by side, in the folder and beside the record."""
    rows = [(row.name, row.title or row.name) for row in experiment.rows]
    file = out / "pictures.png"
    missing = draw_pictures(experiment.pictures, rows, out, args.seeds[0], file)
    for title in missing:
        console.print(f"Note: {title} has no samples for the picture.")
    if args.result and file.is_file():
        file = args.result.with_suffix(".png")
        file.write_bytes((out / "pictures.png").read_bytes())
    if file.is_file():
        console.print(f"Samples of seed {args.seeds[0]} side by side: {file}")


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
