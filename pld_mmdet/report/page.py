"""Put the report together: one HTML file that loads nothing from anywhere."""

import base64
from pathlib import Path

from markupsafe import Markup

from pld_mmdet.report import charts, plots, words
from pld_mmdet.report.collect import AP, Row, Run, spread
from pld_mmdet.report.curves import read_scalars
from pld_mmdet.report.markup import render
from pld_mmdet.report.pictures import SHOWN_SCORE, Strip
from pld_mmdet.report.plots import colour

# Further numbers of a detector, where the experiment names no columns of its own.
AP_COLUMNS = {
    "VOC07 (papers)": "voc07/AP50",
    "VOC area": "voc_area/AP50",
    "small": "coco/AP50_small",
    "medium": "coco/AP50_medium",
    "large": "coco/AP50_large",
}
AP_NOTE = (
    "AP50 in percent. Small, medium and large split the COCO number by object size. "
    "The papers of this field report the VOC 2007 11-point number; compare only like "
    "with like."
)
FOUND = [
    ("c-truth", "object (ground truth)"),
    ("c-right", "found"),
    ("c-wrong", "wrong or double"),
    ("c-missed", "missed"),
]
PSEUDO = [
    ("c-truth", "object (never shown to the student)"),
    ("c-high", "kept: confident box (HPL)"),
    ("c-low", "mined: low-confidence proposal (LPL)"),
    ("c-dropped", "dropped proposal"),
]


def build_page(
    run: Run,
    strips: list[Strip] = (),
    strips_rule: str = "",
    pseudo_strips: list[Strip] = (),
    quality: str = "",
    objects: dict[str, int] | None = None,
) -> str:
    """The whole page.

    Args:
        run: What :func:`pld_mmdet.report.collect.collect` read.
        strips: Input, truth, source, adapted for some test images.
        strips_rule: How these images were chosen.
        pseudo_strips: Kept, mined and dropped boxes of the LPLD teacher.
        quality: Sentence on how good the teacher's pseudo labels are.
        objects: Objects per class of the test set, orders the class chart.
    """
    scalars = {
        row.name: {seed: read_scalars(folder) for seed, folder in row.work_dirs.items()}
        for row in run.rows
    }
    columns = _columns(run)
    sections = [
        plots.classes_and_sizes(run, objects or {}),
        plots.pseudo_curves(run, scalars, objects or {}),
        plots.metric_curves(run, scalars),
        plots.loss_curves(run, scalars),
    ]
    sentences = [words.breakdown(run), words.plain_seeds(run)]
    seeds = ", ".join(map(str, run.seeds)) or "not recorded"
    return render(
        "experiment.html",
        run=run,
        kicker="Source-free adaptation" if run.streets else "Experiment",
        headline=words.headline(run),
        sentences=[s for s in sentences if s],
        ladder=_overview(run),
        table_note=AP_NOTE if run.metric == AP else run.unit_sentence,
        heads=[
            "Row",
            f"{run.metric_name} on {run.target}",
            f"against {_base(run)[1]}",
            *columns,
            "minutes",
        ],
        lines=[_line(run, row, n, columns) for n, row in enumerate(run.rows)],
        pictures=_saved_pictures(run.path),
        strips=strips,
        strips_rule=strips_rule,
        shown_score=SHOWN_SCORE,
        strips_key=charts.legend(FOUND),
        pseudo_strips=pseudo_strips,
        quality=quality,
        pseudo_key=charts.legend(PSEUDO),
        charts=[section for section in sections if section],
        made=[*run.facts.items(), ("seeds", seeds)],
        commands=[row for row in run.rows if row.commands],
    )


def _base(run: Run) -> tuple[Row | None, str]:
    """The row that the others are measured against, and what it is called."""
    row = run.row("source" if run.streets else run.baseline or run.rows[0].name)
    return row, "source" if run.streets else row.title


def _columns(run: Run) -> dict[str, tuple[str, str]]:
    """Title -> (evaluation, metric) of what stands beside the main number."""
    columns = {
        title: column
        for title, column in run.columns.items()
        if column != (run.target, run.metric)
    }
    if run.metric == AP and not columns:
        columns = {title: (run.target, key) for title, key in AP_COLUMNS.items()}
        if run.source != run.target:
            columns[f"AP50 on {run.source}"] = (run.source, AP)
    return columns


def _overview(run: Run) -> Markup:
    factor = 100 if run.percent else 1
    rows = [
        (row.short if run.streets else row.title, colour(row.name, n), numbers)
        for n, row in enumerate(run.rows)
        if (
            numbers := [factor * v for v in row.values(run.target, run.metric).values()]
        )
    ]
    if not rows:
        return Markup()
    clear = words.mean_of(run.row("source"), run.source) if run.streets else None
    mark = None
    if clear is not None and run.source != run.target:
        mark = (f"Dashed: the source detector on {run.source} images", 100 * clear)
    return charts.ladder(rows, mark, lambda value: run.number(value / factor))


def _line(run: Run, row: Row, place: int, columns: dict[str, tuple[str, str]]) -> dict:
    """One row of the table, as text."""
    values = row.values(run.target, run.metric)
    base = _base(run)[0]
    mean, start = (words.mean_of(r, run.target, run.metric) for r in (row, base))
    gain = ""
    if row is not base and mean is not None and start is not None:
        sign = "+" if mean >= start else "−"
        gain = f"{sign}{run.number(abs(mean - start))}"
    each = " · ".join(run.number(v) for v in values.values())
    cells = [_text(run, row.values(*column)) for column in columns.values()]
    return dict(
        muted=row.name in ("source", "oracle"),
        colour=colour(row.name, place),
        title=row.title,
        meaning=row.meaning,
        main=" ± ".join(part for part in _text(run, values) if part),
        seeds=each if len(values) > 1 else "1 seed" if values else "",
        gain=gain,
        cells=cells,
        minutes=f"{row.minutes:.1f}" if row.minutes is not None else "",
    )


def _text(run: Run, values: dict[int, float]) -> tuple[str, str]:
    """Mean and standard deviation as text; a dash where nothing is known."""
    if not values:
        return "–", ""
    mean, std = spread(values)
    return run.number(mean), "" if std is None else run.number(std)


def _saved_pictures(folder: Path) -> list[tuple[str, str]]:
    """Pictures that the experiment left in its folder, embedded."""
    return [
        (
            file.stem.replace("_", " "),
            "data:image/png;base64," + base64.b64encode(file.read_bytes()).decode(),
        )
        for file in sorted(folder.glob("*.png"))
    ]
