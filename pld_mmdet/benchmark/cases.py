"""All cases: what they measure and about how long they take."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from pld_mmdet.benchmark.plan import Plan
from pld_mmdet.benchmark.timing import Comparison
from pld_mmdet.catalogue import ROOT, entries
from pld_mmdet.errors import UserError


@dataclass(frozen=True)
class Case:
    """One entry of the list.

    Attributes:
        module: Below ``pld_mmdet.benchmark``; the function has the case's name. Or a
            module of ``tests``, whose function ``pair`` makes both sides.
        summary: One line for ``--list``.
        seconds: Rough length on one core, for the time left.
        quick_seconds: The same with ``--quick``; 0: not part of it unless named.
    """

    module: str
    summary: str
    seconds: float
    quick_seconds: float


def _plain() -> dict[str, Case]:
    """Methods outside detection, each against the shortest loop of its mathematics.

    The loops are ``tests/<family>/plain_<stem>.py``, oracles of the tests at the same
    time; an installed package without the repository has none.
    """
    found = {}
    for entry in entries():
        loop = ROOT / entry.files.get("plain loop", "none")
        if loop.is_file():
            found[f"{entry.stem}_step"] = Case(
                f"tests.{entry.family}.plain_{entry.stem}",
                f"{entry.title} step / the shortest plain loop",
                30,
                6,
            )
    return found


CASES = {
    "lpld_step": Case(
        "steps",
        "LPLD step / Mean Teacher step, and / the released order; small detector",
        60,
        25,
    ),
    "lpld_step_r50": Case(
        "steps", "the same with R50-C4 at 600 x 1200, batch 1", 1000, 0
    ),
    "mean_teacher_step": Case(
        "steps", "Mean Teacher step / (teacher predict + supervised step)", 30, 12
    ),
    "step_breakdown": Case("steps", "where the time of an LPLD step goes", 15, 8),
    "ema": Case("ema", "EMA update / mmdet's MeanTeacherHook on R50-FPN", 10, 5),
    "soft_teacher_step": Case(
        "semi", "Soft Teacher iteration / mmdet's SoftTeacher; small detector", 30, 8
    ),
    "soft_teacher_step_r50": Case(
        "semi", "the same with R50-FPN at 256 x 512, 1 + 1 images", 90, 0
    ),
    "soft_teacher_stages": Case("semi", "both sides' time, stage by stage", 120, 8),
    "soft_teacher_memory": Case(
        "semi", "peak memory of both sides, in processes of their own", 120, 0
    ),
    "memory": Case("memory", "resident memory over 200 LPLD steps", 60, 15),
    "loader": Case("data", "training loader / stock mmdet's, same images", 30, 5),
    "evaluation": Case("data", "AP50Metric / CocoMetric, same detections", 25, 5),
    **_plain(),
    "runner_cost": Case("methods", "what the Runner adds to a step", 60, 10),
    "sampling": Case("methods", "sampled text / transformers' generate", 40, 8),
    "divergence": Case("methods", "KL over 50,000 words: time and memory", 40, 6),
}


def function_of(name: str) -> Callable[[Plan], list]:
    """What runs a case."""
    module = CASES[name].module
    if not module.startswith("tests."):
        return getattr(import_module(f"pld_mmdet.benchmark.{module}"), name)
    from pld_mmdet.benchmark.pairs import step_case

    return step_case(import_module(module).pair)


def choose_cases(names: list[str], quick: bool) -> list[str]:
    """The cases to run, in the list's order.

    Args:
        names: Wanted ones; empty: all (with ``quick`` all that are short).
        quick: See :class:`Plan`.

    Raises:
        UserError: Names the unknown case.
    """
    unknown = [name for name in names if name not in CASES]
    if unknown:
        raise UserError(
            f"There is no benchmark case {unknown[0]!r}.",
            f"Choose from {', '.join(CASES)}.",
        )
    if names:
        return [name for name in CASES if name in names]
    return [n for n, case in CASES.items() if not quick or case.quick_seconds]


def run_cases(
    names: list[str],
    rounds: int | None,
    quick: bool,
    console: Console,
    clock: str = "cpu",
    keep: Callable[[list], None] = lambda results: None,
) -> list:
    """Run cases one after the other and show progress with the time left.

    Args:
        names: From :func:`choose_cases`.
        rounds: Timed calls of each side; None: each case's own number.
        quick: Short runs.
        console: Where progress is shown.
        clock: The one that decides ratios, ``'cpu'`` or ``'wall'``.
        keep: Called with all results so far after each case, so that a later case
            that breaks or Ctrl-C loses none of them.

    Returns:
        Their :class:`~pld_mmdet.benchmark.timing.Comparison` and
        :class:`~pld_mmdet.benchmark.timing.Measurement` objects.
    """
    weights = {
        n: (CASES[n].quick_seconds if quick else 0) or CASES[n].seconds for n in names
    }
    results = []
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    # speed_estimate_period: one call of a side can take minutes
    with Progress(*columns, console=console, speed_estimate_period=1800) as progress:
        bar = progress.add_task("", total=sum(weights.values()))
        done = 0.0
        for number, name in enumerate(names, 1):
            progress.update(bar, description=f"[{number}/{len(names)}] {name}")

            def advance(share: float, base=done, weight=weights[name]) -> None:
                progress.update(bar, completed=base + share * weight)

            start = time.perf_counter()
            found = function_of(name)(Plan(rounds, quick, advance))
            done += weights[name]
            progress.update(bar, completed=done)
            for result in found:
                if isinstance(result, Comparison):
                    result.clock = clock
                progress.console.print(
                    f"{result.case}: {result.headline} "
                    f"({time.perf_counter() - start:.0f} s)",
                    highlight=False,
                )
            results += found
            keep(results)
    return results
