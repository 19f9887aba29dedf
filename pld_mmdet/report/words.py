"""Sentences built from numbers; nothing here is written without one."""

from markupsafe import Markup

from pld_mmdet.detection.evaluation.pseudo_quality import PseudoLabelQuality
from pld_mmdet.report.collect import AP, Row, Run, spread
from pld_mmdet.report.markup import html, joined

PLACES = {"clear": "In clear weather", "fog": "In fog"}


def percent(value: float) -> str:
    """A fraction as percent with one decimal."""
    return f"{100 * value:.1f}"


def mean_of(row: Row | None, evaluation: str, key: str = AP) -> float | None:
    """Mean over seeds, None when there is no number."""
    values = row.values(evaluation, key) if row else {}
    return spread(values)[0] if values else None


def headline(run: Run) -> Markup:
    """The first sentence of the page; only parts that have a number."""
    source, adapted = run.row("source"), run.adapted()
    if not run.streets:
        return _of_method(run)
    clear = mean_of(source, run.source) if run.source != run.target else None
    fog = mean_of(source, run.target)
    repaired = mean_of(adapted, run.target)
    parts = []
    if clear is not None:
        place = "clear streets" if run.source == "clear" else run.source
        parts.append(html("Trained on {}: <b>{}</b> AP50.", place, percent(clear)))
    if fog is not None:
        place = PLACES.get(run.target, f"On {run.target}")
        parts.append(html('{}: <b class="source">{}</b>.', place, percent(fog)))
    if repaired is not None:
        kind = "foggy images" if run.target == "fog" else "target images"
        better = fog is None or repaired > fog
        parts.append(
            html(
                '{} with unlabelled {}: <b class="adapted">{}</b>.',
                "Repaired" if better else "After adapting",
                kind,
                percent(repaired),
            )
        )
    return _parts(parts, run)


def _of_method(run: Run) -> Markup:
    """Baseline and method, of any experiment."""
    parts = []
    for name, css in ((run.baseline, "source"), (run.method, "adapted")):
        row = run.row(name)
        value = mean_of(row, run.target, run.metric)
        if value is not None:
            words = '{}: <b class="{}">{}</b> {}.'
            parts.append(
                html(words, row.title, css, run.number(value), run.metric_name)
            )
    return _parts(parts, run)


def _parts(parts: list[Markup], run: Run) -> Markup:
    if not parts:
        return html("This run has no {} yet.", run.metric_name)
    return joined(html('<span class="part">{}</span> ', part) for part in parts)


def plain_seeds(run: Run) -> str:
    """How many seeds the numbers stand on."""
    if len(run.seeds) < 2:
        which = f" (seed {run.seeds[0]})" if run.seeds else ""
        return (
            f"One seed only{which}: there is no spread, small differences say nothing."
        )
    seeds = ", ".join(map(str, run.seeds))
    return f"Mean over {len(run.seeds)} seeds ({seeds}); ± is their standard deviation."


def breakdown(run: Run) -> str:
    """Where the gain comes from and how much room is left, in plain sentences."""
    if not run.streets:
        method = run.row(run.method)
        others = [run.row(name) for name in (run.baseline, *run.rivals)]
        lines = [compare(run, method.name, other.name) for other in others if other]
        return " ".join(lines) if method else ""
    evaluation = run.target
    base = mean_of(run.row("source"), evaluation)
    adapted = run.adapted()
    end = mean_of(adapted, evaluation)
    if base is None or adapted is None or end is None:
        return ""
    gain = end - base
    lines = []
    if gain <= 0:
        lines.append(f"Adapting did not help: it changed AP50 by {_points(gain)}.")
    adabn = mean_of(run.row("adabn"), evaluation)
    teacher = mean_of(run.row("mean_teacher"), evaluation)
    if adabn is not None and adapted.name != "adabn":
        of = f"Of the {_points(gain)} gained, r" if gain > 0 else "R"
        lines.append(
            f"{of}e-estimating the batch-norm statistics on target images (AdaBN) alone"
            f" accounts for {_points(adabn - base)}."
        )
    if teacher is not None and adabn is not None:
        verb = "adds" if teacher >= adabn else "changes that by"
        to = " to that" if teacher >= adabn else ""
        lines.append(f"Mean Teacher {verb} {_points(teacher - adabn)}{to}.")
    if teacher is not None and mean_of(run.row("lpld"), evaluation) is not None:
        lines.append(compare(run, "lpld", "mean_teacher"))
    oracle = mean_of(run.row("oracle"), evaluation)
    if oracle is not None and oracle > base:
        closed = f": {100 * gain / (oracle - base):.0f} % of the gap is closed"
        lines.append(
            f"The oracle, trained with target labels, reaches {percent(oracle)}"
            f"{closed if gain > 0 else ''}."
        )
    return " ".join(lines)


def compare(run: Run, name: str, rival: str) -> str:
    """Difference of two rows on the seeds both have, next to its spread."""
    row, other = run.row(name), run.row(rival)
    mine, theirs = (r.values(run.target, run.metric) for r in (row, other))
    both = sorted(mine.keys() & theirs.keys())
    if not both:
        return ""
    mean, std = spread({s: mine[s] - theirs[s] for s in both})
    sign = "+" if mean >= 0 else "−"
    unit = ""
    if run.percent:
        unit = " point" if round(100 * abs(mean), 1) == 1 else " points"
    names = f"{row.short} against {other.short}"
    if not run.streets:
        names = f"{row.title} against {other.title}"
    text = f"{names}: {sign}{run.number(abs(mean))}{unit}"
    if std is None:
        return f"{text} on one seed, which says little."
    verdict = "within" if abs(mean) <= std else "beyond"
    return (
        f"{text} ± {run.number(std)} over {len(both)} seeds"
        f" ({verdict} the spread of the seeds)."
    )


def _points(value: float) -> str:
    number = f"{round(100 * value, 1) + 0.0:.1f}"  # + 0.0: no "-0.0"
    return f"{number.replace('-', '−')} point{'' if number == '1.0' else 's'}"


def quality_sentence(quality: PseudoLabelQuality) -> str:
    """How many pseudo labels lie on objects; empty when there was nothing to count."""
    found = quality.summary()
    objects = found["objects/count"]
    if not objects:
        return ""
    reached = found["objects/found"]
    text = (
        f"In {quality.images} test images with {objects} objects the teacher gives"
        f" {found['high/per_image']:.1f} confident boxes an image"
    )
    if found["high/per_image"]:
        text += f"; {found['high/right_class']:.0%} lie on an object of their class"
    text += f", which reaches {reached:.0%} of the objects."
    if not found.get("low/per_image"):
        return text
    text += (
        f" It mines {found['low/per_image']:.1f} proposals an image:"
        f" {found['low/on_object']:.0%} lie on some object,"
        f" {found['low/right_class']:.0%} on one of their class"
    )
    if reached < 1:
        left = found["objects/gained_by_low"] / (1 - reached)
        text += f"; they reach {left:.0%} of the objects left"
    return text + " (IoU of at least 0.5)."
