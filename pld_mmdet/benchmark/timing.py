"""Time several sides in turn, in one process, and compare their medians."""

import gc
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import torch


@dataclass
class Timing:
    """Seconds of every call of one side.

    Attributes:
        cpu: Processor time of this process. With one thread and no waiting it is what
            a watch shows on an idle machine, and it is not disturbed by a busy one.
        wall: By the watch.
    """

    cpu: list[float] = field(default_factory=list)
    wall: list[float] = field(default_factory=list)

    def median(self, clock: str) -> float:
        """Median seconds by ``'cpu'`` or ``'wall'``."""
        return statistics.median(getattr(self, clock))

    def summary(self) -> dict[str, dict[str, float]]:
        """Median, minimum and maximum by either clock."""
        return {
            clock: dict(
                median=self.median(clock),
                min=min(getattr(self, clock)),
                max=max(getattr(self, clock)),
            )
            for clock in ("cpu", "wall")
        }


def run_in_turn(
    sides: dict[str, Callable[[], object]],
    rounds: int,
    warm_up: int = 1,
    on_call: Callable[[], None] = lambda: None,
) -> dict[str, Timing]:
    """Call the sides one after the other, ``rounds`` times over (A B A B ...).

    A machine that gets slower meanwhile slows all sides alike. Garbage is collected
    before a call and not during it.

    Args:
        sides: What to time, by name.
        rounds: Timed calls of each side.
        warm_up: Untimed calls of each side before.
        on_call: Called after each call, for the progress bar.

    Returns:
        A :class:`Timing` for each side, in the same order.
    """
    timings = {name: Timing() for name in sides}
    for number in range(-warm_up, rounds):
        for name, side in sides.items():
            gc.collect()
            gc.disable()
            try:
                _synchronize()
                wall, cpu = time.perf_counter(), time.process_time()
                side()
                _synchronize()
                wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
            finally:
                gc.enable()
            if number >= 0:
                timings[name].wall.append(wall)
                timings[name].cpu.append(cpu)
            on_call()
    return timings


def _synchronize() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


@dataclass
class Comparison:
    """One side against another, or against the sum of several others.

    Attributes:
        case: Name of the case.
        setting: What was compared in words (network, image size, batch).
        timings: Of all sides.
        subject: The side that has to be fast.
        rivals: The sides whose medians are added up.
        target: Largest acceptable ratio; None: only reported.
        notes: What a reader has to know.
        clock: The one that decides, ``'cpu'`` or ``'wall'``.
    """

    case: str
    setting: str
    timings: dict[str, Timing]
    subject: str
    rivals: tuple[str, ...]
    target: float | None
    notes: list[str] = field(default_factory=list)
    clock: str = "cpu"

    def ratio_by(self, clock: str) -> float:
        """Ratio of medians by one of the clocks."""
        rival = sum(self.timings[name].median(clock) for name in self.rivals)
        return self.timings[self.subject].median(clock) / rival

    @property
    def ratio(self) -> float:
        """Ratio of medians by the clock that decides."""
        return self.ratio_by(self.clock)

    @property
    def paired(self) -> list[float]:
        """Ratio of each round; its spread says how far the ratio can be trusted."""
        seconds = {n: getattr(t, self.clock) for n, t in self.timings.items()}
        rivals = zip(*(seconds[name] for name in self.rivals), strict=True)
        return [
            ours / sum(theirs)
            for ours, theirs in zip(seconds[self.subject], rivals, strict=True)
        ]

    @property
    def met(self) -> bool | None:
        """Whether the target is met; None without a target."""
        return None if self.target is None else self.ratio <= self.target

    @property
    def headline(self) -> str:
        """The result in one line."""
        limit = "" if self.target is None else f" (target <= {self.target:g})"
        return f"{self.ratio:.2f}{limit}, by wall clock {self.ratio_by('wall'):.2f}"

    def record(self) -> dict:
        """Everything, ready for json."""
        return dict(
            case=self.case,
            setting=self.setting,
            subject=self.subject,
            rivals=list(self.rivals),
            clock=self.clock,
            ratio=self.ratio,
            ratio_by_wall_clock=self.ratio_by("wall"),
            paired_ratios=sorted(self.paired),
            rounds=len(self.paired),
            target=self.target,
            met=self.met,
            sides={name: t.summary() for name, t in self.timings.items()},
            notes=self.notes,
        )


@dataclass
class Measurement:
    """Named numbers of one unit, one of them with a limit.

    Attributes:
        case: Name of the case.
        setting: What was measured in words.
        values: The numbers by name.
        unit: Of all of them.
        limited: The name that ``target`` limits; None: only reported.
        target: Largest acceptable value.
        notes: What a reader has to know.
    """

    case: str
    setting: str
    values: dict[str, float]
    unit: str
    limited: str | None = None
    target: float | None = None
    notes: list[str] = field(default_factory=list)

    @property
    def met(self) -> bool | None:
        """Whether the limit is kept; None without one."""
        return (
            None if self.limited is None else self.values[self.limited] <= self.target
        )

    @property
    def headline(self) -> str:
        """The result in one line."""
        if self.limited is not None:
            value = self.values[self.limited]
            limit = f" (target <= {self.target:g})"
            return f"{self.limited} {value:.2f} {self.unit}{limit}"
        return ", ".join(
            f"{name} {value:.0f} {self.unit}" for name, value in self.values.items()
        )

    def record(self) -> dict:
        """Everything, ready for json."""
        return dict(
            case=self.case,
            setting=self.setting,
            values=self.values,
            unit=self.unit,
            limited=self.limited,
            target=self.target,
            met=self.met,
            notes=self.notes,
        )
