"""Sentences built from numbers; nothing here is written without one."""

from html import escape

from pld_mmdet.detection.evaluation.pseudo_quality import PseudoLabelQuality
from pld_mmdet.report.collect import Row, Run, spread

AP = "coco/AP50"
PLACES = {"clear": "In clear weather", "fog": "In fog"}


def percent(value: float) -> str:
    """A fraction as percent with one decimal."""
    return f"{100 * value:.1f}"


def mean_of(row: Row | None, evaluation: str, key: str = AP) -> float | None:
    """Mean over seeds, None when there is no number."""
    values = row.values(evaluation, key) if row else {}
    return spread(values)[0] if values else None


def headline(run: Run) -> str:
    """The first sentence of the page, as HTML; only parts that have a number."""
    source, adapted = run.row("source"), run.adapted()
    clear = mean_of(source, run.source) if run.source != run.target else None
    fog = mean_of(source, run.target)
    repaired = mean_of(adapted, run.target)
    parts = []
    if clear is not None:
        place = "clear streets" if run.source == "clear" else run.source
        parts.append(f"Trained on {escape(place)}: <b>{percent(clear)}</b> AP50.")
    if fog is not None:
        place = PLACES.get(run.target, f"On {run.target}")
        parts.append(f'{escape(place)}: <b class="source">{percent(fog)}</b>.')
    if repaired is not None:
        kind = "foggy images" if run.target == "fog" else "target images"
        better = fog is None or repaired > fog
        parts.append(
            f"{'Repaired' if better else 'After adapting'} with unlabelled {kind}:"
            f' <b class="adapted">{percent(repaired)}</b>.'
        )
    if not parts:
        return "This run has no AP50 yet."
    return "".join(f'<span class="part">{part}</span> ' for part in parts)


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
    mine, theirs = row.values(run.target, AP), other.values(run.target, AP)
    both = sorted(mine.keys() & theirs.keys())
    if not both:
        return ""
    mean, std = spread({s: mine[s] - theirs[s] for s in both})
    sign = "+" if mean >= 0 else "−"
    text = (
        f"{row.short} against {other.short}: {sign}{100 * abs(mean):.1f}"
        f" point{'' if round(100 * abs(mean), 1) == 1 else 's'}"
    )
    if std is None:
        return f"{text} on one seed, which says little."
    verdict = "within" if abs(mean) <= std else "beyond"
    return (
        f"{text} ± {100 * std:.1f} over {len(both)} seeds"
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
