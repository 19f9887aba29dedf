"""What a finished run says about itself: did it get better, and can one trust it?"""

import math
from dataclasses import asdict, dataclass, field
from pathlib import Path

from pld_mmdet.detection.loops.scored_val import read_history
from pld_mmdet.engine.run.runner import find_latest
from pld_mmdet.errors import UserError
from pld_mmdet.reading import read_state

AP = "coco/AP50"
SCORES = {
    "label_free/agreement": "agreement of weak and strong view",
    "label_free/box_stability": "stability of the boxes under dropout",
    "label_free/das": "DAS (flatness and prototypes)",
}


@dataclass
class Outcome:
    """Numbers of a run.

    Attributes:
        history: Evaluations, one dict each, first the source weights at iteration 0.
        chosen: The checkpoint that is exported.
        chosen_iter: Its iteration.
        select: How it was chosen.
        guard: Content of guard.json.
        minutes: Wall time.
        planned: Iterations that the recipe asked for.
        trained: Whether weights were, not only statistics.
        before: The evaluation of the source, where ``history`` does not begin with it.
        after: That of the chosen one, where it is of another run.
    """

    history: list[dict]
    chosen: str
    chosen_iter: int
    select: str
    guard: dict = field(default_factory=dict)
    minutes: float | None = None
    planned: int = 0
    trained: bool = True
    before: dict | None = None
    after: dict | None = None

    def at(self, iteration: int) -> dict:
        """The evaluation at an iteration; the nearest one if there is none."""
        return min(self.history, key=lambda row: abs(row["iter"] - iteration))

    def ends(self) -> tuple[dict, dict]:
        """The evaluations of the source and of the chosen one; empty without any."""
        if not self.history:
            return self.before or {}, self.after or {}
        first = self.before or self.history[0]
        return first, self.after or self.at(self.chosen_iter)

    def series(self, key: str) -> list[tuple[int, float]]:
        """(iteration, value) of one number; only finite values."""
        return [
            (row["iter"], row[key])
            for row in self.history
            if isinstance(row.get(key), float) and math.isfinite(row[key])
        ]

    def weights_of(self, iteration: int) -> str:
        """Which iteration's weights a checkpoint holds; after a stop, older ones."""
        last = (self.guard.get("events") or [{}])[-1]
        if "weights_of" not in last or iteration != self.history[-1]["iter"]:
            return f"iteration {iteration}"
        return f"iteration {iteration}: the weights of {last['weights_of']} again"

    def sentences(self) -> list[str]:
        """The result in a few lines of plain words."""
        lines = []
        if self.guard.get("state") == "stopped":
            lines.append("Guard:    stopped. " + self.guard["events"][-1]["what"] + ".")
        elif self.guard.get("state") == "alarm":
            signs = "; ".join(self.guard["windows"][-1]["signs"])
            lines.append(f"Guard:    an alarm stood at the end: {signs}.")
        elif self.guard:
            count = len(self.guard["events"])
            what = f"{count} warnings, see the report" if count else "no warning"
            lines.append(f"Guard:    sound at the end; {what}.")
        if self.history:
            first, last = self.ends()
            for key, title in SCORES.items():
                if key in first and key in last:
                    lines.append(
                        f"Score:    {title} {first[key]:.3f} -> {last[key]:.3f}"
                    )
            if AP in first and AP in last:
                lines += self._measured(first, last)
            else:
                lines.append(
                    "Labels:   none given, so nobody knows the AP; the scores above "
                    "are signs, not measurements."
                )
        return lines

    def _measured(self, first: dict, chosen: dict) -> list[str]:
        best = max(self.history, key=lambda row: row.get(AP, -1.0))
        end = self.history[-1]
        text = (
            f"AP50:     {100 * first[AP]:.1f} source -> {100 * chosen[AP]:.1f} "
            f"({self.select}, {self.weights_of(chosen['iter'])}); last "
            f"{100 * end[AP]:.1f}, best seen {100 * best[AP]:.1f} (iteration "
            f"{best['iter']}; found with labels, so only to compare)."
        )
        return [text]

    def as_dict(self) -> dict:
        """For json."""
        return asdict(self)


def read_outcome(out: Path, select: str, planned: int) -> Outcome:
    """Read what a run left in its folder.

    Args:
        out: The folder.
        select: ``last``, ``safety`` (then the caller chooses) or a label-free score.
        planned: Iterations of the recipe.

    Raises:
        UserError: It holds no checkpoint.
    """
    last = find_latest(out)
    if last is None:
        raise UserError(f"{out} holds no checkpoint.", "Run the same command again.")
    chosen, iteration = Path(last), _iteration(Path(last))
    if select not in ("last", "safety"):
        best = sorted(out.glob(f"best_label_free_{select}_iter_*.pth"), key=_iteration)
        if best:
            chosen, iteration = best[-1], _iteration(best[-1])
        else:
            select = f"last, because {select} had no value"
    return Outcome(
        history=read_history(out),
        chosen=str(chosen),
        chosen_iter=iteration,
        select=select,
        guard=read_state(out / "guard.json"),
        minutes=read_state(out / "run.json").get("minutes"),
        planned=planned,
    )


def _iteration(path: Path) -> int:
    return int(path.stem.rpartition("_")[2])
