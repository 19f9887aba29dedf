"""The page of a run that is still going; it renews itself. live.py serves it."""

import math
import time
from collections.abc import Callable
from html import escape

from pld_mmdet.report import charts
from pld_mmdet.report.curves import Series, smooth
from pld_mmdet.report.live_pictures import pictures
from pld_mmdet.report.live_state import (
    LiveRun,
    duration,
    guard_sentences,
    headline,
    remarks,
)
from pld_mmdet.report.style import CSS

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
    "loss": "Loss",
    "lr": "Learning rate",
}
_CSS = """
.bar-wrap{max-width:46em;margin:0 0 14px}.bar-wrap .track{height:18px;border-radius:6px;
background:var(--grid)}.bar-wrap .track .bar{top:0;bottom:0}
.photos{display:grid;gap:14px;grid-template-columns:repeat(auto-fill,
minmax(min(100%,340px),1fr))}.photos figure{margin:0}
.photos figcaption{font-size:13px;line-height:1.35;margin-top:6px;
overflow-wrap:anywhere}
.alarm{border-left-color:#d55e00}#gone{display:none;position:sticky;top:0;z-index:5;
background:var(--card);padding:10px 16px;border-bottom:2px solid #d55e00}
"""
# Replaces <main> only, so that the page neither jumps nor flickers. Not while a picture
# is enlarged (the address has a #) or nobody looks.
_SCRIPT = """
let busy=false;
async function again(){
 if(document.hidden||busy||location.hash.length>1)return;
 busy=true;
 try{
  const answer=await fetch(location.pathname,{cache:"no-store"});
  const page=new DOMParser().parseFromString(await answer.text(),"text/html");
  document.querySelector("main").replaceWith(page.querySelector("main"));
  document.title=page.title;
  document.getElementById("gone").style.display="none";
 }catch{document.getElementById("gone").style.display="block"}
 busy=false;
}
setInterval(again,EVERY);
document.addEventListener("visibilitychange",again);
"""


def build_live_page(run: LiveRun) -> str:
    """The whole page; a part that cannot be drawn is named in it.

    Args:
        run: From :func:`pld_mmdet.report.live_state.read_run`.
    """
    sections: list[tuple[str, Callable[[LiveRun], str]]] = [
        ("progress", _progress),
        ("guard", _guard),
        ("pictures", pictures),
        ("pseudo labels", _pseudo),
        ("classes", _classes),
        ("curves", _curves),
    ]
    body, problems = [], list(run.problems)
    for name, draw in sections:
        try:
            body.append(draw(run))
        except Exception as error:  # one bad number must not cost the page
            problems.append(f"{name}: {type(error).__name__}: {error}")
    try:
        title = headline(run)
    except Exception as error:
        title = run.folder.name
        problems.append(f"title: {type(error).__name__}: {error}")
    body.append(_footer(run, problems))
    script = _SCRIPT.replace("EVERY", str(1000 * SECONDS))
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f'<noscript><meta http-equiv="refresh" content="{SECONDS}"></noscript>'
        f"<title>{escape(title)} · {escape(run.folder.name)}</title>"
        f"<style>{CSS}{_CSS}</style></head><body>"
        '<div id="gone">The server of this page has ended, with its run or by Ctrl-C. '
        "Below is the last state that it showed.</div>"
        f"<main>{''.join(body)}</main><script>{script}</script></body></html>\n"
    )


def _progress(run: LiveRun) -> str:
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
    lines = [" · ".join(facts), *remarks(run)]
    return (
        f'<p class="kicker">Live · {escape(run.folder.name)}</p>'
        f"<h1>{escape(headline(run))}</h1>"
        f'<div class="bar-wrap c-lpld"><div class="track"><i class="bar"'
        f' style="width:{share:.1f}%"></i></div></div>'
        + "".join(f'<p class="soft">{escape(line)}</p>' for line in lines if line)
    )


def _minutes(run: LiveRun) -> float:
    """Minutes of the run; run.json is renewed twice a minute only."""
    minutes = run.record.get("minutes") or 0.0
    path = run.folder / "run.json"
    if run.record.get("finished") is None and path.is_file():
        minutes += max(0.0, run.progress["time"] - path.stat().st_mtime) / 60
    return minutes


def _guard(run: LiveRun) -> str:
    sentences = guard_sentences(run.guard)
    bad = run.guard.get("state") in ("alarm", "stopped")
    events = "".join(
        f"<li>Iteration {event['iter']}: {escape(event['what'])}.</li>"
        for event in (run.guard.get("events") or [])[-8:]
    )
    return (
        "<h2>Collapse guard</h2>"
        f'<div class="note{" alarm" if bad else ""}">'
        + "".join(f"<p>{escape(sentence)}</p>" for sentence in sentences)
        + "</div>"
        + (f'<h3>What it said</h3><ul class="missing">{events}</ul>' if events else "")
    )


def _class_names(run: LiveRun) -> list[str]:
    """Classes with curves, those with the most labels now first."""
    prefix = "pseudo/high/"
    latest = {
        key.removeprefix(prefix): series[-1][1]
        for key, series in run.scalars.items()
        if key.startswith(prefix)
    }
    return sorted(latest, key=lambda name: -latest[name])


def _pseudo(run: LiveRun) -> str:
    if "pseudo/high" not in run.scalars:
        return (
            "<h2>Pseudo labels over time</h2><p class='soft'>No count has been written "
            "yet.</p>"
        )
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
        grid.append(f"<div>{charts.line_chart(label, lines)}</div>")
        # hundreds of dropped proposals would press the other lines flat
        dropped = run.scalars.get(f"pseudo/dropped{suffix}")
        if dropped:
            lines = [("c-dropped", smooth(dropped, 60), False)]
            grid.append(f"<div>{charts.line_chart(f'{label}: dropped', lines)}</div>")
    entries = [("c-high", "kept: labels of the student")]
    if "pseudo/low" in run.scalars:
        entries.append(("c-low", "mined proposals, dashed"))
    if "pseudo/dropped" in run.scalars:
        entries.append(("c-dropped", "dropped proposals, on their own scale"))
    more = ""
    if len(names) > CHARTED:
        more = (
            f"<p class='soft'>Charts of the {CHARTED} classes with most labels; the "
            "table has all.</p>"
        )
    return (
        "<h2>Pseudo labels over time</h2><p class='soft'>Boxes an image. A class that "
        f"falls to zero is being forgotten.</p>{charts.legend(entries)}{more}"
        f'<div class="card grid">{"".join(grid)}</div>'
    )


def _classes(run: LiveRun) -> str:
    names = _class_names(run)
    if not names:
        return ""
    kinds = [k for k in ("high", "low", "dropped") if f"pseudo/{k}" in run.scalars]
    words = dict(high="kept", low="mined", dropped="dropped")
    rows = "".join(
        f"<tr><td>{escape(name)}</td><td>{_at(run, 'high', name, 0)}</td>"
        + "".join(f"<td>{_at(run, kind, name, -1)}</td>" for kind in kinds)
        + "</tr>"
        for name in names
    )
    heads = "".join(f"<th>{words[kind]} now</th>" for kind in kinds)
    return (
        '<h3>Each class, boxes an image</h3><div class="card scroll"><table><thead><tr>'
        f"<th>class</th><th>kept at first</th>{heads}</tr></thead>"
        f"<tbody>{rows}</tbody></table></div>"
    )


def _at(run: LiveRun, kind: str, name: str, index: int) -> str:
    series = run.scalars.get(f"pseudo/{kind}/{name}")
    return f"{series[index][1]:.3g}" if series else ""


def _curves(run: LiveRun) -> str:
    drawn = []
    for key, title in CURVES.items():
        points = _series(run, key)
        if points:
            floor = None if key.startswith(("label_free", "coco")) else 0.0
            line = ("c-mean_teacher", smooth(points, 60), False)
            chart = charts.line_chart(title, [line], floor)
            drawn.append(f"<div>{chart}</div>")
    if not drawn:
        return ""
    return f'<h2>Signs over time</h2><div class="card grid">{"".join(drawn)}</div>'


def _series(run: LiveRun, key: str) -> Series:
    """Evaluations stand in scores.jsonl, where the source's is at iteration 0."""
    points = [
        (row["iter"], row[key])
        for row in run.scores
        if isinstance(row.get(key), int | float) and math.isfinite(row[key])
    ]
    return points or run.scalars.get(key, [])


def _footer(run: LiveRun, problems: list[str]) -> str:
    at = time.strftime("%H:%M:%S", time.localtime(run.now))
    items = "".join(f"<li>{escape(problem)}</li>" for problem in problems)
    wrong = (
        f'<h2>What could not be drawn</h2><ul class="missing">{items}</ul>'
        if problems
        else ""
    )
    command = run.record.get("command")
    made = f"<pre>{escape(str(command))}</pre>" if command else ""
    return (
        f"{wrong}<h2>Where it comes from</h2>{made}<p class='soft'>Read from "
        f"{escape(str(run.folder))} at {at}; the page renews itself every {SECONDS} s "
        "while one looks at it.</p>"
    )
