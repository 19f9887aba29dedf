"""Conditions that an experiment's start must meet before its rows are worth running.

An experiment's config lists them as ``gates``; ``tools/reproduce.py CONFIG --gate
--seeds 10 11`` runs only the rows that they ask about and says which ones pass. They
are committed before the first run, and a failed one is a result.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from pld_mmdet.errors import UserError
from pld_mmdet.experiments.counted import COUNTED


@dataclass
class Gate:
    """One condition on the mean over the seeds.

    Attributes:
        title: What is measured, for the sentence.
        row: The row that is measured.
        on: Its evaluation, or what the run counted: ``'pseudo'`` of its labels,
            ``'guard'`` of its collapse guard's windows.
        metric: Name of the number.
        at_least: Smallest value that passes, or None.
        at_most: Largest value that passes, or None.
        minus: Row whose number is subtracted, or None.
        minus_on: The evaluation of that number [``on``].
        over: Row whose number divides, or None.
        over_on: The divisor's evaluation [``on``].
        over_metric: The divisor's number [``metric``].
    """

    title: str
    row: str
    on: str
    metric: str
    at_least: float | None = None
    at_most: float | None = None
    minus: str | None = None
    minus_on: str | None = None
    over: str | None = None
    over_on: str | None = None
    over_metric: str | None = None

    def __post_init__(self) -> None:
        if self.at_least is None and self.at_most is None:
            raise UserError(
                f"The gate {self.title!r} lets everything pass.",
                "Give it at_least or at_most.",
            )

    def rows(self) -> list[str]:
        """Names of the rows it asks about."""
        return [row for row, _ in self.asked()]

    def asked(self) -> list[tuple[str, str]]:
        """Row, and evaluation or count, of each number that it needs."""
        sources = (
            (self.row, self.on),
            (self.minus, self.minus_on or self.on),
            (self.over, self.over_on or self.on),
        )
        return [(row, on) for row, on in sources if row]

    def value(self, result: dict) -> float | None:
        """The number in a result of ``collect``; None if it is not there yet."""
        found = _number(result, self.row, self.on, self.metric)
        if found is None:
            return None
        if self.minus is not None:
            on = self.minus_on or self.on
            other = _number(result, self.minus, on, self.metric)
            return None if other is None else found - other
        if self.over is not None:
            on, metric = self.over_on or self.on, self.over_metric or self.metric
            other = _number(result, self.over, on, metric)
            return None if not other else found / other
        return found

    def judge(self, result: dict) -> tuple[bool, str]:
        """Whether it passes, and the sentence that says so."""
        value = self.value(result)
        wanted = [f"at least {self.at_least:g}"] if self.at_least is not None else []
        wanted += [f"at most {self.at_most:g}"] if self.at_most is not None else []
        if value is None:
            return False, f"{self.title}: not measured yet ({' and '.join(wanted)})."
        passes = (self.at_least is None or value >= self.at_least) and (
            self.at_most is None or value <= self.at_most
        )
        word = "passes" if passes else "FAILS"
        return passes, f"{self.title}: {value:.4g}, {' and '.join(wanted)}: {word}."


def read_gates(listed: Sequence[dict], rows: Sequence[str]) -> list[Gate]:
    """Build the gates of an experiment.

    Args:
        listed: As in its config.
        rows: Names of all of its rows.

    Raises:
        UserError: A key or a row that is not known.
    """
    gates = []
    for entry in listed:
        try:
            gate = Gate(**entry)
        except TypeError as error:
            raise UserError(
                f"A gate of the experiment does not fit: {error}.",
                f"Its keys are {', '.join(Gate.__dataclass_fields__)}.",
            ) from None
        unknown = [name for name in gate.rows() if name not in rows]
        if unknown:
            raise UserError(
                f"The gate {gate.title!r} asks about row {unknown[0]!r}, and the "
                "experiment has none.",
                f"Its rows are: {', '.join(rows)}.",
            )
        gates.append(gate)
    return gates


def judge(gates: Sequence[Gate], result: dict) -> tuple[bool, list[str]]:
    """All gates: whether every one passes, and a sentence for each."""
    judged = [gate.judge(result) for gate in gates]
    return all(passes for passes, _ in judged), [sentence for _, sentence in judged]


def _number(result: dict, row: str, on: str, metric: str) -> float | None:
    for entry in result["rows"]:
        if entry["name"] == row:
            part = entry.get(on) if on in COUNTED else entry["evaluate"].get(on)
            return (part or {}).get("mean", {}).get(metric)
    return None
