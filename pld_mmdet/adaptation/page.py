"""The report of one adaptation: an HTML file that loads nothing from anywhere."""

from pathlib import Path

from markupsafe import Markup

from pld_mmdet.adaptation.folder import Images
from pld_mmdet.adaptation.outcome import AP, SCORES, Outcome
from pld_mmdet.adaptation.recipe import Recipe
from pld_mmdet.engine.state.files import write_atomic
from pld_mmdet.reading import read_state
from pld_mmdet.report.charts import line_chart
from pld_mmdet.report.live_state import guard_events
from pld_mmdet.report.markup import encoded, part, render

# Title, note and heads of the table of classes.
CLASSES = (
    "Pseudo labels of each class",
    "Boxes an image that the teacher was sure of, in the first and in the last window "
    "of the run.",
    ("class", "first", "last", ""),
)


def write_page(
    out: Path,
    outcome: Outcome,
    images: Images,
    recipe: Recipe,
    method: str,
    verdict: str,
) -> Path:
    """Write ``OUT/report.html``.

    Args:
        out: The run's folder.
        outcome: From :func:`pld_mmdet.adaptation.outcome.read_outcome`.
        images: What it was adapted to.
        recipe: What the rule chose.
        method: Name of the method.
        verdict: The headline where neither a collapse nor AP50 is one.

    Returns:
        The file.
    """
    path = out / "report.html"
    record = read_state(out / "run.json")
    made = {
        "command": record.get("command"),
        "commit": record.get("commit"),
        "minutes": record.get("minutes"),
        "ended": record.get("exit"),
        "images": images.sentence(),
        "rule": recipe.sentence(outcome.trained),
        "source": record.get("init_from") or "",
    }
    facts = [(key, value) for key, value in made.items() if value is not None]
    broken = [f"{name}: {what}" for name, what in images.broken]
    again = f"python tools/train.py {out / 'config.py'} --work-dir AGAIN"
    kicker = f"Source-free adaptation · {out.name} · {method}"
    charts, classes = _charts(outcome), _classes(outcome)
    events = guard_events(outcome.guard)
    sections = [
        part("opening", kicker, _headline(outcome, verdict), outcome.sentences(), None),
        charts and part("curves", "How it went", charts),
        classes and part("classes", *CLASSES, classes),
        events and part("guard", False, [], events),
        part("made", facts, broken, again),
    ]
    page = render(
        "run.html",
        title="Adaptation",
        name=out.name,
        sections=[section for section in sections if section],
        seconds=0,
    )
    write_atomic(path, lambda file: file.write(encoded(page)))
    return path


def _headline(outcome: Outcome, verdict: str) -> str:
    if outcome.guard.get("state") == "stopped":
        return "Self-training collapsed; the last good weights were kept"
    first, chosen = outcome.ends()
    if AP in first and AP in chosen:
        return (
            f"AP50 on your labelled images: {100 * first[AP]:.1f} before, "
            f"{100 * chosen[AP]:.1f} after"
        )
    return verdict


def _finite(value) -> bool:
    return isinstance(value, float) and abs(value) < float("inf")


def _charts(outcome: Outcome) -> list[Markup]:
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
        ("kept", "Share of the source's sure boxes that the teacher still finds"),
    ):
        points = [(w["iter"], w[key]) for w in windows if _finite(w.get(key))]
        if points:
            charts.append(line_chart(title, [("c-lpld", points, False)]))
    return charts


def _classes(outcome: Outcome) -> list[tuple[str, str, str, str]]:
    """Name, boxes an image in the first and the last window, whether it is silent."""
    windows, names = outcome.guard.get("windows"), outcome.guard.get("classes")
    if not windows:
        return []
    silent = set(windows[-1]["silent"])
    return [
        (name, f"{first:.3g}", f"{last:.3g}", "silent" if name in silent else "")
        for name, first, last in zip(
            names, windows[0]["classes"], windows[-1]["classes"], strict=True
        )
    ]
