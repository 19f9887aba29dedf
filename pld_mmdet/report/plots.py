"""Chart sections of the page: classes, sizes, pseudo labels, AP and losses."""

from html import escape

from pld_mmdet.report import charts, words
from pld_mmdet.report.collect import Row, Run
from pld_mmdet.report.curves import Series, smooth
from pld_mmdet.report.words import AP

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


def colour(name: str) -> str:
    """CSS class with the colour of a row."""
    return f"c-{name}" if name in COLOURED else "c-other"


def classes_and_sizes(run: Run, objects: dict[str, int]) -> str:
    """Bars per class and per object size: source, adapted, oracle."""
    adapted = run.adapted()
    shown = [row for row in (run.row("source"), adapted, run.row("oracle")) if row]
    shown = [row for row in shown if row.values(run.target, AP)]
    if not shown:
        return ""
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

    blocks = []
    if names:
        bars = series([f"{AP}/{name}" for name in names])
        chart = charts.bar_groups(names, bars, objects)
        order = (
            "Below each name: its objects in the test set, most frequent first."
            if objects
            else ""
        )
        blocks.append(
            f'<div class="card"><h3 class="first">Per class</h3>'
            f'<div class="scroll">{chart}</div><p class="soft">{order}</p></div>'
        )
    by_size = series([f"{AP}_{size}" for size in sizes])
    if any(value is not None for _, _, values in by_size for value in values):
        chart = charts.bar_groups(sizes, by_size)
        blocks.append(
            f'<div class="card"><h3 class="first">By object size</h3>{chart}</div>'
        )
    key = charts.legend([(colour(row.name), row.short) for row in shown])
    two = ' class="two"' if len(blocks) == 2 else ""
    return (
        f"<h2>Before and after</h2><p class='soft'>COCO AP50 on"
        f" {escape(run.target)}, mean over seeds.</p>{key}<div{two}>"
        f"{''.join(blocks)}</div>"
    )


def _times_100(value: float | None) -> float | None:
    return None if value is None else 100 * value


def pseudo_curves(run: Run, scalars: Scalars, objects: dict[str, int]) -> str:
    """Kept and mined boxes per image over time, one chart per class."""
    rows = [
        row
        for row in run.rows
        if any("pseudo/high" in found for found in scalars[row.name].values())
    ]
    if not rows:
        return ""
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
        grid.append(f"<div>{charts.line_chart(label, lines)}</div>")
    entries = [("c-high", "confident boxes (HPL), solid")]
    if any("pseudo/low" in found for found in seeds.values()):
        entries.append(("c-low", "mined proposals (LPL), dashed"))
    title = next(row.short for row in rows if row.name == name)
    return (
        "<h2>Pseudo labels over time</h2><p class='soft'>Boxes per image that"
        f" {escape(title)}'s teacher gives while it adapts"
        f"{', one line a seed' if len(seeds) > 1 else ''}. A class that falls to zero"
        f" is being forgotten.</p>{charts.legend(entries)}"
        f'<div class="card grid">{"".join(grid)}</div>'
    )


def ap_curves(run: Run, scalars: Scalars) -> str:
    """AP50 of validations during training."""
    charted = []
    for row in run.rows:
        lines, _ = _lines_of([row], scalars, AP, 100.0, 1000)
        if lines:
            charted.append((row.short, lines))
    if not charted:
        return ""
    high = max(y for _, lines in charted for _, points, _ in lines for _, y in points)
    grid = "".join(
        f"<div>{charts.line_chart(title, lines, high=high)}</div>"
        for title, lines in charted
    )
    return (
        "<h2>AP50 over time</h2><p class='soft'>On the validation split, measured while"
        " training; the result is the last checkpoint whatever these say.</p>"
        f'<div class="card grid">{grid}</div>'
    )


def loss_curves(run: Run, scalars: Scalars) -> str:
    """Losses, rows with labels apart from adapting rows."""
    groups = [
        ("with labels", [r for r in run.rows if r.name in ("source", "oracle")]),
        ("adapting", [r for r in run.rows if r.name not in ("source", "oracle")]),
    ]
    blocks = []
    for title, rows in groups:
        grid, legend = [], {}
        for key, name in LOSS_NAMES.items():
            lines, entries = _lines_of(rows, scalars, key, 1.0, 60)
            if lines:
                grid.append(f"<div>{charts.line_chart(name, lines)}</div>")
                legend |= dict(entries)
        if grid:
            blocks.append(
                f"<h3>Training {title}</h3>{charts.legend(list(legend.items()))}"
                f'<div class="card grid">{"".join(grid)}</div>'
            )
    if not blocks:
        return ""
    return (
        "<h2>Losses</h2><p class='soft'>Means over equal stretches of iterations.</p>"
        + "".join(blocks)
    )


def _lines_of(
    rows: list[Row], scalars: Scalars, key: str, factor: float, points: int
) -> tuple[list, list[tuple[str, str]]]:
    lines, entries = [], {}
    for row in rows:
        for found in scalars[row.name].values():
            if key in found:
                series = [(x, factor * y) for x, y in smooth(found[key], points)]
                lines.append((colour(row.name), series, False))
                entries[colour(row.name)] = row.short
    return lines, list(entries.items())
