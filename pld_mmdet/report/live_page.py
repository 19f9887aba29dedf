"""The page of a run that is still going; it renews itself. live.py serves it."""

import math
import time
from collections.abc import Callable

from markupsafe import Markup

from pld_mmdet.report import charts
from pld_mmdet.report.curves import Series, smooth
from pld_mmdet.report.live_pictures import pictures
from pld_mmdet.report.live_state import (
    LiveRun,
    guard_events,
    guard_sentences,
    headline,
    remarks,
)
from pld_mmdet.report.markup import part, render
from pld_mmdet.waiting import duration

SECONDS = 3  # between two looks of the page
CHARTED = 12  # classes with a chart of their own; the table has all
KINDS = (("high", "c-high", False), ("low", "c-low", True))
CURVES = {
    "coco/AP50": "AP50 (labels)",
    "label_free/agreement": "Agreement of weak and strong view",
    "label_free/box_stability": "Stability of the boxes",
    "label_free/das": "DAS (flatness and prototypes)",
    "guard/agreement": "Agreement of teacher and student",
    "guard/score": "Mean score of the teacher",
    "guard/entropy": "Mean entropy of the scores",
    "guard/distance": "Distance from the source",
    "guard/kept": "Share of the source's sure boxes still found",
    "loss": "Loss",
    "lr": "Learning rate",
}


def build_live_page(run: LiveRun) -> str:
    """The whole page; a part that cannot be drawn is named in it.

    Args:
        run: From :func:`pld_mmdet.report.live_state.read_run`.
    """
    sections: list[tuple[str, Callable[[LiveRun], Markup]]] = [
        ("progress", _progress),
        ("guard", _guard),
        ("pictures", pictures),
        ("pseudo labels", _pseudo),
        ("classes", _classes),
        ("curves", _curves),
    ]
    drawn, problems = [], list(run.problems)
    for name, draw in sections:
        try:
            drawn.append(draw(run))
        except Exception as error:  # one bad number must not cost the page
            problems.append(f"{name}: {type(error).__name__}: {error}")
    try:
        title = headline(run)
    except Exception as error:
        title = run.folder.name
        problems.append(f"title: {type(error).__name__}: {error}")
    at = time.strftime("%H:%M:%S", time.localtime(run.now))
    command = run.record.get("command")
    drawn.append(part("origin", problems, command, str(run.folder), at, SECONDS))
    return render(
        "run.html",
        title=title,
        name=run.folder.name,
        sections=drawn,
        seconds=SECONDS,
    )


def _progress(run: LiveRun) -> Markup:
    at, of = run.progress.get("iter", 0), run.progress.get("max_iters") or 0
    share = min(100.0 * at / of, 100.0) if of else 0.0
    facts = []
    loss = run.progress.get("loss")
    if isinstance(loss, int | float) and math.isfinite(loss):
        facts.append(f"loss {loss:.4g}")
    if run.record.get("started") and run.progress.get("time"):
        facts.append(f"{duration(60 * _minutes(run))} gone")
    images = (run.record.get("data") or {}).get("train", {}).get("images")
    if images:
        facts.append(f"{images} images")
    lines = [line for line in (" · ".join(facts), *remarks(run)) if line]
    return part("opening", f"Live · {run.folder.name}", headline(run), lines, share)


def _minutes(run: LiveRun) -> float:
    """Minutes of the run; run.json is renewed twice a minute only."""
    minutes = run.record.get("minutes") or 0.0
    path = run.folder / "run.json"
    if run.record.get("finished") is None and path.is_file():
        minutes += max(0.0, run.progress["time"] - path.stat().st_mtime) / 60
    return minutes


def _guard(run: LiveRun) -> Markup:
    bad = run.guard.get("state") in ("alarm", "stopped")
    events = guard_events(run.guard)[-8:]
    return part("guard", bad, guard_sentences(run.guard), events)


def _class_names(run: LiveRun) -> list[str]:
    """Classes with curves, those with the most labels now first."""
    prefix = "pseudo/high/"
    latest = {
        key.removeprefix(prefix): series[-1][1]
        for key, series in run.scalars.items()
        if key.startswith(prefix)
    }
    return sorted(latest, key=lambda name: -latest[name])


def _pseudo(run: LiveRun) -> Markup:
    if "pseudo/high" not in run.scalars:
        return part("pseudo", [], "", CHARTED, False)
    grid, names = [], _class_names(run)
    for label, suffix in [
        ("all classes", ""),
        *((n, f"/{n}") for n in names[:CHARTED]),
    ]:
        lines = [
            (colour, smooth(run.scalars[key], 60), dashed)
            for kind, colour, dashed in KINDS
            if (key := f"pseudo/{kind}{suffix}") in run.scalars
        ]
        grid.append(charts.line_chart(label, lines))
        # hundreds of dropped proposals would press the other lines flat
        dropped = run.scalars.get(f"pseudo/dropped{suffix}")
        if dropped:
            lines = [("c-dropped", smooth(dropped, 60), False)]
            grid.append(charts.line_chart(f"{label}: dropped", lines))
    entries = [("c-high", "kept: labels of the student")]
    if "pseudo/low" in run.scalars:
        entries.append(("c-low", "mined proposals, dashed"))
    if "pseudo/dropped" in run.scalars:
        entries.append(("c-dropped", "dropped proposals, on their own scale"))
    legend = charts.legend(entries)
    return part("pseudo", grid, legend, CHARTED, len(names) > CHARTED)


def _classes(run: LiveRun) -> Markup:
    names = _class_names(run)
    if not names:
        return Markup()
    kinds = [k for k in ("high", "low", "dropped") if f"pseudo/{k}" in run.scalars]
    words = dict(high="kept", low="mined", dropped="dropped")
    heads = ["class", "kept at first", *(f"{words[kind]} now" for kind in kinds)]
    rows = [
        [name, _at(run, "high", name, 0), *(_at(run, kind, name, -1) for kind in kinds)]
        for name in names
    ]
    return part("classes", "Each class, boxes an image", "", heads, rows)


def _at(run: LiveRun, kind: str, name: str, index: int) -> str:
    series = run.scalars.get(f"pseudo/{kind}/{name}")
    return f"{series[index][1]:.3g}" if series else ""


def _curves(run: LiveRun) -> Markup:
    drawn = []
    for key, title in CURVES.items():
        points = _series(run, key)
        if points:
            floor = None if key.startswith(("label_free", "coco")) else 0.0
            line = ("c-mean_teacher", smooth(points, 60), False)
            drawn.append(charts.line_chart(title, [line], floor))
    return part("curves", "Signs over time", drawn) if drawn else Markup()


def _series(run: LiveRun, key: str) -> Series:
    """Evaluations stand in scores.jsonl, where the source's is at iteration 0."""
    points = [
        (row["iter"], row[key])
        for row in run.scores
        if isinstance(row.get(key), int | float) and math.isfinite(row[key])
    ]
    return points or run.scalars.get(key, [])
