"""What a person sees while a job graph runs: a line per running job, and time left."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from pld_mmdet.experiments.jobs import JobGraph, Running


def clock(seconds: float) -> str:
    """Seconds as ``m:ss`` or ``h:mm:ss``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def part_done(running: Running) -> tuple[float, str]:
    """How far a running job is, 0 to 1, and what it says about itself."""
    progress = running.progress()
    if progress.get("max_iters"):
        step, steps = progress["iter"], progress["max_iters"]
        note = f"{progress.get('stage', '')} {step}/{steps}".strip()
        loss = progress.get("loss")
        if isinstance(loss, int | float):
            note += f", loss {loss:.3f}"
        return min(step / steps, 1.0), note
    if running.job.work_dir is not None:  # it will report; its start says nothing
        return 0.0, "starting"
    spent = time.monotonic() - running.began
    # No report of its own: by the usual length; one that takes longer than that comes
    # to a halt at four fifths.
    return spent / max(running.job.seconds, 1.25 * spent), "about"


def headline(graph: JobGraph, began: float) -> str:
    """One line on the whole graph."""
    return (
        f"{len(graph.done)} of {len(graph.jobs)} jobs done, "
        f"{clock(time.monotonic() - began)} gone, "
        f"about {clock(graph.seconds_left())} left"
    )


def picture(graph: JobGraph, began: float) -> Group:
    """The live block: the headline and a bar for each running job."""
    table = Table.grid(padding=(0, 2))
    for name, running in graph.running.items():
        part, note = part_done(running)
        spent = clock(time.monotonic() - running.began)
        bar = ProgressBar(total=1.0, completed=part, width=24)
        table.add_row(f"  {name}", bar, f"{part:4.0%}", spent, f"[dim]{note}[/dim]")
    return Group(Text(headline(graph, began), style="bold"), table)


@contextmanager
def watch(graph: JobGraph, console: Console) -> Iterator[Callable[[JobGraph], None]]:
    """Give the function that ``JobGraph.run(show=...)`` calls.

    On a terminal the block is redrawn in place and each finished job leaves a line;
    elsewhere (a log file) starts and ends are lines, and a status line comes each
    half minute.

    Args:
        graph: The graph that is going to run.
        console: Where to write.
    """
    began = time.monotonic()
    seen: set[str] = set()
    started: set[str] = set()
    last = [began]
    live = Live(console=console, transient=True, auto_refresh=False)

    def show(current: JobGraph) -> None:
        for name in [n for n in current.done if n not in seen]:
            seen.add(name)
            if name in current.took:
                console.print(f"  done  {name}  [dim]{clock(current.took[name])}[/dim]")
        if console.is_terminal:
            live.update(picture(current, began), refresh=True)
            return
        for name in current.running.keys() - started:
            started.add(name)
            console.print(f"  start {name}  [dim]{current.log(current.jobs[name])}[/]")
        if time.monotonic() - last[0] >= 30:
            last[0] = time.monotonic()
            parts = [
                f"{name} {part_done(running)[0]:.0%}"
                for name, running in current.running.items()
            ]
            console.print(f"  {headline(current, began)}: {', '.join(parts)}")

    if console.is_terminal:
        with live:
            yield show
    else:
        yield show
