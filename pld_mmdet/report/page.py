"""Put the report together: one HTML file that loads nothing from anywhere."""

from html import escape

from pld_mmdet.report import charts, figures, plots, words
from pld_mmdet.report.collect import Run, spread
from pld_mmdet.report.curves import read_scalars
from pld_mmdet.report.pictures import Strip
from pld_mmdet.report.plots import colour
from pld_mmdet.report.style import CSS
from pld_mmdet.report.words import AP, percent

COLUMNS = [
    ("voc07/AP50", "VOC07 (papers)"),
    ("voc_area/AP50", "VOC area"),
    ("coco/AP50_small", "small"),
    ("coco/AP50_medium", "medium"),
    ("coco/AP50_large", "large"),
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
    body = [
        f'<p class="kicker">Source-free adaptation · {escape(run.name)}</p>',
        f"<h1>{words.headline(run)}</h1>",
        _quick(run),
        f'<p class="lead">{escape(words.breakdown(run))}</p>',
        f'<p class="soft">{escape(words.plain_seeds(run))}</p>',
        _overview(run),
        _table(run),
        figures.pictures(strips, strips_rule),
        figures.pseudo_pictures(pseudo_strips, quality),
        plots.classes_and_sizes(run, objects or {}),
        plots.pseudo_curves(run, scalars, objects or {}),
        plots.ap_curves(run, scalars),
        plots.loss_curves(run, scalars),
        _provenance(run),
        _missing(run),
    ]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f"<title>{escape(run.name)}: adaptation report</title>"
        f"<style>{CSS}</style></head><body><main>{''.join(body)}</main></body></html>\n"
    )


def _quick(run: Run) -> str:
    if not run.quick:
        return ""
    return (
        '<p class="note"><b>A quick run.</b> Tiny lengths that only try the chain: its'
        " numbers say nothing about the methods.</p>"
    )


def _overview(run: Run) -> str:
    rows = [
        (row.short, colour(row.name), [100 * v for v in values.values()])
        for row in run.rows
        if (values := row.values(run.target, AP))
    ]
    if not rows:
        return ""
    clear = words.mean_of(run.row("source"), run.source)
    mark = None
    if clear is not None and run.source != run.target:
        mark = (f"Dashed: the source detector on {run.source} images", 100 * clear)
    dots = " Circles are single seeds." if len(run.seeds) > 1 else ""
    return (
        f'<div class="card"><h3 class="first">AP50 on {escape(run.target)}</h3>'
        f'{charts.ladder(rows, mark)}<p class="soft last">COCO AP at IoU 0.5 in'
        f" percent, mean of the classes, test split.{dots}</p></div>"
    )


def _table(run: Run) -> str:
    base = run.row("source")
    base_mean = words.mean_of(base, run.target)
    has_clear = run.source != run.target
    head = ["Row", f"AP50 on {run.target}", "against source"]
    head += [title for _, title in COLUMNS]
    head += [f"AP50 on {run.source}"] if has_clear else []
    head += ["minutes"]
    lines = []
    for row in run.rows:
        values = row.values(run.target, AP)
        mean = words.mean_of(row, run.target)
        gain = (
            ""
            if mean is None or base_mean is None
            else f"{100 * (mean - base_mean):+.1f}"
        )
        cells = [
            f'<span class="swatch {colour(row.name)}"></span><b>{escape(row.title)}</b>'
            f"<small>{escape(row.meaning)}</small>",
            f'<b class="main">{_mean_std(values)}</b>{_seeds(values)}',
            "" if row is base else gain.replace("-", "−"),
        ]
        cells += [_narrow(row.values(run.target, key)) for key, _ in COLUMNS]
        cells += [_narrow(row.values(run.source, AP))] if has_clear else []
        cells.append(f"{row.minutes:.1f}" if row.minutes is not None else "")
        muted = ' class="muted"' if row.name in ("source", "oracle") else ""
        tds = "".join(f"<td>{cell}</td>" for cell in cells)
        lines.append(f"<tr{muted}>{tds}</tr>")
    heads = "".join(f"<th>{escape(title)}</th>" for title in head)
    meanings = "".join(
        f"<dt>{escape(row.title)}</dt><dd>{escape(row.meaning)}</dd>"
        for row in run.rows
    )
    return (
        f'<h2>All numbers</h2><p class="soft">AP50 in percent. Small, medium and large'
        " split the COCO number by object size. The papers of this field report the VOC"
        " 2007 11-point number; compare only like with like.</p>"
        f'<div class="card scroll"><table><thead><tr>{heads}</tr></thead>'
        f"<tbody>{''.join(lines)}</tbody></table></div>"
        f'<dl class="meanings facts">{meanings}</dl>'
    )


def _mean_std(values: dict[int, float]) -> str:
    if not values:
        return "–"
    mean, std = spread(values)
    return percent(mean) + (f" ± {100 * std:.1f}" if std is not None else "")


def _narrow(values: dict[int, float]) -> str:
    mean, _, std = _mean_std(values).partition(" ± ")
    return mean + (f"<small>± {std}</small>" if std else "")


def _seeds(values: dict[int, float]) -> str:
    if len(values) < 2:
        return '<small class="seeds">1 seed</small>' if values else ""
    each = " · ".join(percent(v) for v in values.values())
    return f'<small class="seeds">{each}</small>'


def _provenance(run: Run) -> str:
    facts = dict(run.facts)
    facts["seeds"] = ", ".join(map(str, run.seeds)) or "not recorded"
    items = "".join(
        f"<dt>{escape(key)}</dt><dd>{escape(value)}</dd>"
        for key, value in facts.items()
    )
    command = f"<h3>This page again</h3><pre>{escape(run.command)}</pre>"
    rows = "".join(
        f"<h3>{escape(row.title)}"
        + (f" <small class='soft'>{escape(row.config)}</small>" if row.config else "")
        + "</h3>"
        + "".join(
            f'<p class="soft" style="margin:0">{escape(what)}</p>'
            f"<pre>{escape(line)}</pre>"
            for what, line in row.commands.items()
        )
        for row in run.rows
        if row.commands
    )
    details = ""
    if rows:
        details = (
            '<div class="card"><details><summary>The command of every row</summary>'
            f"{rows}</details></div>"
        )
    return (
        f'<h2>How it was made</h2><div class="card"><dl class="facts">{items}</dl>'
        f"{command if run.command else ''}</div>{details}"
    )


def _missing(run: Run) -> str:
    if not run.missing:
        return ""
    items = "".join(f"<li>{escape(line)}</li>" for line in run.missing)
    return f'<h2>What is missing</h2><ul class="missing">{items}</ul>'
