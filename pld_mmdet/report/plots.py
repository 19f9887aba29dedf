"""Chart sections of the page: classes, sizes, pseudo labels, AP and losses."""

from dataclasses import dataclass, field

from markupsafe import Markup

from pld_mmdet.report import charts, words
from pld_mmdet.report.collect import AP, Row, Run
from pld_mmdet.report.curves import Series, smooth

COLOURED = (
    "source",
    "adabn",
    "mean_teacher_no_adabn",
    "mean_teacher",
    "lpld",
    "oracle",
)
# row -> seed -> scalar -> series
Scalars = dict[str, dict[int, dict[str, Series]]]
LOSS_NAMES = {
    "loss": "total loss",
    "loss_rpn_cls": "RPN: object or not",
    "loss_rpn_bbox": "RPN: boxes",
    "loss_cls": "classification",
    "loss_bbox": "boxes",
    "loss_lpl": "low-confidence distillation",
}


@dataclass
class Block:
    """Small charts side by side below a title."""

    charts: list[Markup]
    title: str = ""
    legend: str = ""


@dataclass
class Card:
    """One large chart."""

    title: str
    chart: Markup
    note: str = ""


@dataclass
class Section:
    """A chapter of the page that is made of charts."""

    title: str
    note: str
    legend: str = ""
    blocks: list[Block] = field(default_factory=list)
    cards: list[Card] = field(default_factory=list)


def colour(name: str, place: int | None = None) -> str:
    """CSS class with the colour of a row: its own, or one by its place."""
    if name in COLOURED:
        return f"c-{name}"
    return "c-other" if place is None else f"c-{place % 8}"


def classes_and_sizes(run: Run, objects: dict[str, int]) -> Section | None:
    """Bars per class and per object size: source, adapted, oracle."""
    adapted = run.adapted()
    shown = [row for row in (run.row("source"), adapted, run.row("oracle")) if row]
    shown = [row for row in shown if row.values(run.target, AP)]
    if not shown:
        return None
    found = {
        key.removeprefix(f"{AP}/")
        for row in shown
        for numbers in row.metrics[run.target].values()
        for key in numbers
        if key.startswith(f"{AP}/")
    }
    names = sorted(found, key=lambda name: (-objects.get(name, 0), name))
    sizes = ["small", "medium", "large"]

    def series(keys: list[str]) -> list[tuple[str, str, list[float | None]]]:
        return [
            (
                row.short,
                colour(row.name),
                [_times_100(words.mean_of(row, run.target, key)) for key in keys],
            )
            for row in shown
        ]

    cards = []
    if names:
        bars = series([f"{AP}/{name}" for name in names])
        order = "Below each name: its objects in the test set, most frequent first."
        chart = charts.bar_groups(names, bars, objects)
        cards.append(Card("Per class", chart, order if objects else ""))
    by_size = series([f"{AP}_{size}" for size in sizes])
    if any(value is not None for _, _, values in by_size for value in values):
        cards.append(Card("By object size", charts.bar_groups(sizes, by_size)))
    return Section(
        "Before and after",
        f"COCO AP50 on {run.target}, mean over seeds.",
        charts.legend([(colour(row.name), row.short) for row in shown]),
        cards=cards,
    )


def _times_100(value: float | None) -> float | None:
    return None if value is None else 100 * value


def pseudo_curves(
    run: Run, scalars: Scalars, objects: dict[str, int]
) -> Section | None:
    """Kept and mined boxes per image over time, one chart per class."""
    rows = [
        row
        for row in run.rows
        if any("pseudo/high" in found for found in scalars[row.name].values())
    ]
    if not rows:
        return None
    name = (run.row("lpld") if run.row("lpld") in rows else rows[-1]).name
    seeds = scalars[name]
    classes = sorted(
        {
            key.split("/", 2)[2]
            for found in seeds.values()
            for key in found
            if key.startswith("pseudo/high/")
        },
        key=lambda name: (-objects.get(name, 0), name),
    )
    grid = []
    for label, suffix in [("all classes", ""), *((c, f"/{c}") for c in classes)]:
        lines = [
            (f"c-{kind}", smooth(found[key], 40), kind == "low")
            for kind in ("high", "low")
            for found in seeds.values()
            if (key := f"pseudo/{kind}{suffix}") in found
        ]
        grid.append(charts.line_chart(label, lines))
    entries = [("c-high", "confident boxes (HPL), solid")]
    if any("pseudo/low" in found for found in seeds.values()):
        entries.append(("c-low", "mined proposals (LPL), dashed"))
    title = next(row.short for row in rows if row.name == name)
    return Section(
        "Pseudo labels over time",
        f"Boxes per image that {title}'s teacher gives while it adapts"
        f"{', one line a seed' if len(seeds) > 1 else ''}. A class that falls to zero"
        " is being forgotten.",
        charts.legend(entries),
        [Block(grid)],
    )


def metric_curves(run: Run, scalars: Scalars) -> Section | None:
    """The metric of validations during training."""
    factor, charted = (100.0 if run.percent else 1.0), []
    for row in run.rows:
        lines, _ = _lines_of(run, [row], scalars, run.metric, factor, 1000)
        if lines:
            charted.append((row.short, lines))
    if not charted:
        return None
    high = max(y for _, lines in charted for _, points, _ in lines for _, y in points)
    return Section(
        f"{run.metric_name} over time",
        "On the validation split, measured while training; the result is the last"
        " checkpoint whatever these say.",
        blocks=[
            Block([charts.line_chart(name, line, high=high) for name, line in charted])
        ],
    )


def loss_curves(run: Run, scalars: Scalars) -> Section | None:
    """Losses; on streets, rows with labels apart from adapting rows."""
    groups = {"": run.rows}
    if run.streets:
        labelled = [r for r in run.rows if r.name in ("source", "oracle")]
        groups = {
            "Training with labels": labelled,
            "Training adapting": [r for r in run.rows if r not in labelled],
        }
    names = LOSS_NAMES if run.streets else _loss_names(scalars)
    blocks = []
    for title, rows in groups.items():
        grid, legend = [], {}
        for key, name in names.items():
            lines, entries = _lines_of(run, rows, scalars, key, 1.0, 60)
            if lines:
                grid.append(charts.line_chart(name, lines, _floor(lines)))
                legend |= dict(entries)
        if grid:
            blocks.append(Block(grid, title, charts.legend(list(legend.items()))))
    note = "Means over equal stretches of iterations."
    return Section("Losses", note, blocks=blocks) if blocks else None


def _floor(lines: list) -> float | None:
    """Axes begin at 0 unless a value is below."""
    below = any(y < 0 for _, points, _ in lines for _, y in points)
    return None if below else 0.0


def _loss_names(scalars: Scalars) -> dict[str, str]:
    """Scalars of any method that are losses."""
    seen = {
        key for seeds in scalars.values() for found in seeds.values() for key in found
    }
    parts = sorted(key for key in seen if "loss" in key and key != "loss")
    return {key: key.replace("_", " ") for key in ["loss", *parts] if key in seen}


def _lines_of(
    run: Run, rows: list[Row], scalars: Scalars, key: str, factor: float, points: int
) -> tuple[list, list[tuple[str, str]]]:
    lines, entries = [], {}
    for row in rows:
        css = colour(row.name, run.rows.index(row))
        for found in scalars[row.name].values():
            if key in found:
                series = [(x, factor * y) for x, y in smooth(found[key], points)]
                lines.append((css, series, False))
                entries[css] = row.short
    return lines, list(entries.items())
