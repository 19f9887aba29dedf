"""The report of one adaptation: an HTML file that loads nothing from anywhere."""

from html import escape
from pathlib import Path

from pld_mmdet.adaptation.folder import Images
from pld_mmdet.adaptation.outcome import AP, SCORES, Outcome
from pld_mmdet.adaptation.recipe import Recipe
from pld_mmdet.engine.files import read_state, write_atomic
from pld_mmdet.report.charts import line_chart
from pld_mmdet.report.style import CSS


def write_page(
    out: Path, outcome: Outcome, images: Images, recipe: Recipe, method: str
) -> Path:
    """Write ``OUT/report.html``.

    Args:
        out: The run's folder.
        outcome: From :func:`pld_mmdet.adaptation.outcome.read_outcome`.
        images: What it was adapted to.
        recipe: What the rule chose.
        method: Name of the method.

    Returns:
        The file.
    """
    path = out / "report.html"
    body = [
        f'<p class="kicker">Source-free adaptation · {escape(out.name)} · '
        f"{escape(method)}</p>",
        f"<h1>{escape(_headline(outcome))}</h1>",
        "".join(f'<p class="soft">{escape(s)}</p>' for s in outcome.sentences()),
        _charts(outcome),
        _classes(outcome),
        _events(outcome),
        _how(out, images, recipe),
    ]
    page = (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f"<title>{escape(out.name)}: adaptation</title><style>{CSS}</style></head>"
        f"<body><main>{''.join(body)}</main></body></html>\n"
    )
    write_atomic(path, lambda file: file.write(page.encode()))
    return path


def _headline(outcome: Outcome) -> str:
    if outcome.guard.get("state") == "stopped":
        return "Self-training collapsed; the last good weights were kept"
    if not outcome.history:
        return "Adapted"
    first, chosen = outcome.history[0], outcome.at(outcome.chosen_iter)
    if AP in first and AP in chosen:
        return (
            f"AP50 on your labelled images: {100 * first[AP]:.1f} before, "
            f"{100 * chosen[AP]:.1f} after"
        )
    known = [k for k in SCORES if _finite(first.get(k)) and _finite(chosen.get(k))]
    better = sum(chosen[k] > first[k] for k in known)
    return f"{better} of {len(known)} label-free scores got better"


def _finite(value) -> bool:
    return isinstance(value, float) and abs(value) < float("inf")


def _charts(outcome: Outcome) -> str:
    charts = []
    for key, title in {AP: "AP50 (labels)", **SCORES}.items():
        points = outcome.series(key)
        if points:
            charts.append(
                line_chart(title, [("c-mean_teacher", points, False)], floor=None)
            )
    windows = outcome.guard.get("windows", [])
    for key, title in (
        ("boxes", "Pseudo boxes an image"),
        ("score", "Mean score of the teacher"),
        ("entropy", "Mean entropy of the scores"),
        ("agreement", "Teacher-student agreement"),
        ("distance", "Distance from the source"),
    ):
        points = [(w["iter"], w[key]) for w in windows if _finite(w.get(key))]
        if points:
            charts.append(line_chart(title, [("c-lpld", points, False)]))
    if not charts:
        return ""
    return (
        '<h2>How it went</h2><div class="card"><div style="display:grid;gap:18px;'
        'grid-template-columns:repeat(auto-fill,minmax(260px,1fr))">'
        f"{''.join(charts)}</div></div>"
    )


def _classes(outcome: Outcome) -> str:
    windows, names = outcome.guard.get("windows"), outcome.guard.get("classes")
    if not windows:
        return ""
    first, last = windows[0]["classes"], windows[-1]["classes"]
    silent = set(windows[-1]["silent"])
    rows = "".join(
        f"<tr><td>{escape(name)}</td><td>{a:.3g}</td><td>{b:.3g}</td>"
        f"<td>{'silent' if name in silent else ''}</td></tr>"
        for name, a, b in zip(names, first, last, strict=True)
    )
    return (
        "<h2>Pseudo labels of each class</h2>"
        '<p class="soft">Boxes an image that the teacher was sure of, in the first and'
        " in the last window of the run.</p>"
        '<div class="card scroll"><table><thead><tr><th>class</th><th>first</th>'
        f"<th>last</th><th></th></tr></thead><tbody>{rows}</tbody></table></div>"
    )


def _events(outcome: Outcome) -> str:
    events = outcome.guard.get("events")
    if not events:
        return ""
    items = "".join(
        f"<li>Iteration {e['iter']}: {escape(e['what'])}.</li>" for e in events
    )
    return f"<h2>What the guard said</h2><ul>{items}</ul>"


def _how(out: Path, images: Images, recipe: Recipe) -> str:
    record = read_state(out / "run.json")
    facts = {
        "command": record.get("command"),
        "commit": record.get("commit"),
        "minutes": record.get("minutes"),
        "ended": record.get("exit"),
        "images": images.sentence(),
        "rule": recipe.sentence(),
        "source": (record.get("init_from") or ""),
    }
    items = "".join(
        f"<dt>{escape(k)}</dt><dd>{escape(str(v))}</dd>"
        for k, v in facts.items()
        if v is not None
    )
    broken = "".join(
        f"<li>{escape(name)}: {escape(what)}</li>" for name, what in images.broken
    )
    skipped = f"<h3>Skipped images</h3><ul>{broken}</ul>" if broken else ""
    return (
        f'<h2>How it was made</h2><div class="card"><dl class="facts">{items}</dl>'
        f"{skipped}</div>"
        f"<pre>python tools/train.py {escape(str(out / 'config.py'))} --work-dir AGAIN"
        "</pre>"
    )
