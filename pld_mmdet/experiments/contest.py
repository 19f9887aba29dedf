"""A contest: its gate zero, its paired verdicts, its page.

An experiment with ``contest=dict(...)`` is one. Its rows have a ``role`` and the
``groups`` that they stand in::

    contest = dict(
        question="...", purpose="few labels, many images",
        methods=dict(shrinkmatch=["shrinkmatch_100"]), distance=10.0)

``baseline`` is what a gain is over, ``method`` what is judged, ``rival`` what is simple
or trivial, ``all_labels`` the plain student with every true label under the same
budget, ``oracle`` what could be reached. **Gate zero**: ``all_labels`` closes 80 % of
the way from baseline to oracle, and the way is ``distance`` points, or eight standard
errors; where it fails the contest says nothing about its methods.

Rows of one seed share split, weights and order, so a gain is the mean over seeds of the
differences and its standard error theirs. ``works``: the gain is above 2 standard
errors, and the method is not below the strongest rival by more than 2 of theirs.
"""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from pld_mmdet.engine.state.files import write_atomic
from pld_mmdet.errors import UserError
from pld_mmdet.experiments.rows import Experiment, Row

ROLES = ("baseline", "method", "rival", "all_labels", "oracle")
CLOSED, ERRORS = 0.8, 8.0
WORKS, LESS, NONE, HARMS = "works", "gains less than a rival", "no gain", "harms"


@dataclass(frozen=True)
class Contest:
    """What a contest asks.

    Attributes:
        question: One sentence.
        purpose: As the page "Which method?" lists it.
        methods: Rows of each method, by its stem.
        distance: Points from baseline to oracle that make the contest worth it.
        advice: What to use and when, in three sentences; written after the record.
        needs: What a method needs, by its stem, and what was measured.
    """

    question: str
    purpose: str
    methods: dict[str, list[str]]
    distance: float = 10.0
    advice: str = ""
    needs: dict[str, str] | None = None

    @classmethod
    def of(cls, experiment: Experiment) -> "Contest | None":
        """The contest of an experiment, if it is one.

        Raises:
            UserError: Unknown keys or roles, a method without a row, a group without
                a baseline.
        """
        if experiment.contest is None:
            return None
        known = {field.name for field in fields(cls)}
        odd = sorted(set(experiment.contest) - known)
        rows = {row.name: row for row in experiment.rows}
        faults = [f"there is no key {name!r}" for name in odd]
        faults += [
            f"row {row.name} has role {row.role!r}"
            for row in experiment.rows
            if row.role not in ROLES or not row.groups
        ]
        faults += [
            f"group {group!r} has {len(found)} baselines"
            for group in groups_of(experiment.rows)
            if len(found := in_group(experiment.rows, group, "baseline")) != 1
        ]
        if faults:
            raise UserError(
                f"The contest of {experiment.config} does not fit: {faults[0]}.",
                f"Keys are {', '.join(sorted(known))}; roles {', '.join(ROLES)}; a "
                "group has one baseline.",
            )
        made = cls(**experiment.contest)
        for stem, names in made.methods.items():
            if not any(name in rows for name in names):
                raise UserError(
                    f"The contest of {experiment.config} has no row of {stem}.",
                    "Name its rows in `methods`.",
                )
        return made


def groups_of(rows: Sequence[Row]) -> list[str]:
    """The groups, in the order of the rows."""
    return list(dict.fromkeys(group for row in rows for group in row.groups))


def in_group(rows: Sequence[Row], group: str, role: str) -> list[Row]:
    """Rows of a role in a group."""
    return [row for row in rows if group in row.groups and row.role == role]


@dataclass(frozen=True)
class Gain:
    """A paired difference over seeds.

    Attributes:
        mean: Of the differences.
        error: Standard error of that mean; infinite for fewer than two seeds.
    """

    mean: float
    error: float

    @classmethod
    def between(cls, ours: dict[str, float], theirs: dict[str, float]) -> "Gain":
        """Of the seeds that both have.

        Args:
            ours: Value by seed.
            theirs: Likewise.

        Examples:
            >>> Gain.between({"1": 5.0, "2": 9.0}, {"1": 4.0, "2": 5.0})
            Gain(mean=2.5, error=1.5)
        """
        gaps = [ours[seed] - theirs[seed] for seed in ours if seed in theirs]
        if not gaps:
            return cls(math.nan, math.inf)
        error = math.inf
        if len(gaps) > 1:
            error = statistics.stdev(gaps) / math.sqrt(len(gaps))
        return cls(statistics.mean(gaps), error)

    @property
    def above(self) -> bool:
        """More than two standard errors above 0."""
        return self.mean > 2 * self.error

    @property
    def below(self) -> bool:
        """More than two standard errors below 0."""
        return self.mean < -2 * self.error

    def text(self) -> str:
        """``+1.5 ± 0.4``; nothing where nothing was measured."""
        if math.isnan(self.mean):
            return ""
        error = "" if math.isinf(self.error) else f" ± {self.error:.1f}"
        return f"{self.mean:+.1f}{error}"


def verdict(over_baseline: Gain, over_rival: Gain | None) -> str:
    """The word for a method.

    Args:
        over_baseline: Its gain.
        over_rival: Over the strongest simple or trivial rival, where there is one.
    """
    if over_baseline.below:
        return HARMS
    if not over_baseline.above:
        return NONE
    return LESS if over_rival is not None and over_rival.below else WORKS


@dataclass(frozen=True)
class Line:
    """A row of a group's table: all numbers in points.

    Attributes:
        row: The row.
        values: By seed.
        gain: Over the baseline.
        over_rival: A method's, over the strongest rival.
        word: A method's verdict; empty for others and while gate zero fails.
    """

    row: Row
    values: dict[str, float]
    gain: Gain
    over_rival: Gain | None
    word: str


def values_of(result: dict, row: str, group: str = "") -> dict[str, float]:
    """A row's metric by seed, in points (lower is better: negative)."""
    scale = 100.0 if result.get("percent", True) else 1.0
    scale = -scale if result.get("lower_is_better") else scale
    for entry in result["rows"]:
        if entry["name"] == row:
            tests = entry["evaluate"]
            part = tests.get(group) or next(iter(tests.values()), {})
            seeds = part.get("seeds") or {}
            return {
                seed: scale * numbers[result["metric"]]
                for seed, numbers in seeds.items()
                if result["metric"] in numbers
            }
    return {}


def gate_zero(
    contest: Contest, rows: Sequence[Row], result: dict, group: str
) -> tuple[bool | None, str]:
    """Whether all true labels close the way; None where the group has no such rows.

    Returns:
        The answer and a sentence.
    """
    found = [in_group(rows, group, r) for r in ("baseline", "all_labels", "oracle")]
    if not all(found):
        return None, f"{group}: no gate zero, for the lack of all_labels and oracle."
    start, full, best = (values_of(result, part[0].name, group) for part in found)
    way, closed = Gain.between(best, start), Gain.between(full, start)
    if math.isnan(way.mean) or math.isnan(closed.mean):
        return False, f"{group}: gate zero is not measured yet."
    share = closed.mean / way.mean if way.mean > 0 else 0.0
    far = way.mean >= contest.distance or way.mean >= ERRORS * way.error
    passes = share >= CLOSED and far
    return passes, (
        f"{group}: all labels close {100 * share:.0f} % (wanted {100 * CLOSED:.0f}) of "
        f"{way.mean:.1f} points from start to oracle (wanted {contest.distance:g}): "
        f"{'passes' if passes else 'FAILS'}."
    )


def judged(
    contest: Contest, rows: Sequence[Row], result: dict, group: str
) -> list[Line]:
    """A group's rows, best first, with gains and verdicts."""
    (base,) = in_group(rows, group, "baseline")
    start = values_of(result, base.name, group)
    rivals = [values_of(result, r.name, group) for r in in_group(rows, group, "rival")]
    rivals = [found for found in rivals if found]
    best = max(rivals, key=lambda found: statistics.mean(found.values()), default=None)
    passes = gate_zero(contest, rows, result, group)[0] is not False
    lines = []
    for row in rows:
        values = values_of(result, row.name, group)
        if group not in row.groups or not values:
            continue
        gain = Gain.between(values, start)
        rival = Gain.between(values, best) if best else None
        method = row.role == "method"
        word = verdict(gain, rival) if method and passes else ""
        lines.append(Line(row, values, gain, rival if method else None, word))
    return sorted(lines, key=lambda line: -statistics.mean(line.values.values()))


def statuses(contest: Contest, rows: Sequence[Row], result: dict) -> dict[str, str]:
    """Each method's verdict, with the groups where it has several different ones.

    Args:
        contest: The contest.
        rows: Its rows.
        result: The record.

    Returns:
        By stem; a method without a number is left out.
    """
    words: dict[str, dict[str, str]] = {}
    for group in groups_of(rows):
        for line in judged(contest, rows, result, group):
            for stem, names in contest.methods.items():
                if line.row.name in names and line.word:
                    words.setdefault(stem, {})[group] = line.word
    return {
        stem: next(iter(found.values()))
        if len(set(found.values())) == 1
        else "; ".join(f"{word} ({group})" for group, word in found.items())
        for stem, found in words.items()
    }


def page(experiment: Experiment, contest: Contest, result: dict, picture: str) -> str:
    """The contest's page, as markdown.

    Args:
        experiment: With all rows.
        contest: Of it.
        result: The record.
        picture: Name of the plot beside the page.
    """
    rows = experiment.rows
    by_name = {entry["name"]: entry for entry in result["rows"]}
    sign = -1.0 if result.get("lower_is_better") else 1.0
    text = [f"# {contest.purpose[:1].upper()}{contest.purpose[1:]}", contest.question]
    for group in groups_of(rows):
        lines = judged(contest, rows, result, group)
        if not lines:
            continue
        text += [f"## {group}", gate_zero(contest, rows, result, group)[1]]
        head = ["", "role", result["metric"], "gain", "over the best rival", "verdict"]
        head += ["CPU minutes", "MB"]
        table = [head, ["---"] * len(head)]
        for line in lines:
            entry = by_name[line.row.name]
            values = list(line.values.values())
            table.append(
                [
                    line.row.title or line.row.name,
                    line.row.role.replace("_", " "),
                    f"{sign * statistics.mean(values):.1f}",
                    "" if line.row.role == "baseline" else line.gain.text(),
                    line.over_rival.text() if line.over_rival else "",
                    f"**{line.word}**" if line.word else "",
                    f"{entry['minutes'] or 0:.1f}",
                    f"{entry['peak_memory_mb'] or 0:.0f}",
                ]
            )
        text.append("\n".join("| " + " | ".join(row) + " |" for row in table))
    text.append(f"![Gains over the baseline, two standard errors]({picture})")
    if contest.needs:
        found = [f"- **{stem}** {words}" for stem, words in contest.needs.items()]
        text += ["## What the methods need", "\n".join(found)]
    if contest.advice:
        text += ["## What to use and when", contest.advice]
    seeds = ", ".join(map(str, result["seeds"]))
    dirty = " with uncommitted changes" if result.get("dirty") else ""
    text.append(
        f"Gains are paired over seeds {seeds} (same split, weights and order in all "
        "rows of a seed), ± one standard error; *works* is a gain above two and not "
        "below the strongest rival by more than two. Reported: "
        f"{result['reported']}. Made by `{result['command']}` at commit "
        f"{(result.get('commit') or 'several')[:10]}{dirty}, {result['minutes']:.0f} "
        "minutes in all."
    )
    return "\n\n".join(text) + "\n"


def draw(experiment: Experiment, contest: Contest, result: dict, file: Path) -> None:
    """The plot: gains over the baseline with two standard errors, a panel a group."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    found = [
        (group, judged(contest, experiment.rows, result, group))
        for group in groups_of(experiment.rows)
    ]
    found = [(group, lines) for group, lines in found if lines]
    colours = dict(method="C0", rival="C1", all_labels="C2", oracle="C2")
    figure, panels = pyplot.subplots(
        len(found),
        squeeze=False,
        figsize=(7, sum(0.35 * len(lines) + 1 for _, lines in found)),
        height_ratios=[len(lines) + 2 for _, lines in found],
    )
    for panel, (group, lines) in zip(panels[:, 0], found, strict=True):
        shown = [line for line in reversed(lines) if line.row.role != "baseline"]
        for place, line in enumerate(shown):
            error = 0.0 if math.isinf(line.gain.error) else 2 * line.gain.error
            colour = colours[line.row.role]
            panel.errorbar(line.gain.mean, place, xerr=error, fmt="o", color=colour)
        panel.axvline(0, color="grey", linewidth=0.8)
        panel.set_yticks(range(len(shown)), [line.row.title for line in shown])
        panel.set_title(group)
        panel.set_xlabel("points over the baseline")
    figure.tight_layout()
    write_atomic(file, lambda stream: figure.savefig(stream, format="png", dpi=80))
    pyplot.close(figure)


def write_pages(experiment: Experiment, result: dict, folder: Path) -> Path | None:
    """Write ``NAME.md`` and ``NAME.png`` into a folder, if it is a contest.

    Args:
        experiment: With all rows.
        result: The record.
        folder: ``docs/contests``.

    Returns:
        The page.
    """
    contest = Contest.of(experiment)
    if contest is None:
        return None
    folder.mkdir(parents=True, exist_ok=True)
    plot = folder / f"{experiment.name}.png"
    draw(experiment, contest, result, plot)
    path = folder / f"{experiment.name}.md"
    text = page(experiment, contest, result, plot.name)
    write_atomic(path, lambda file: file.write(text.encode()))
    return path
