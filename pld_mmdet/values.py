"""Which numbers mean something: declared once, for command lines, calls, configs."""

import math
from argparse import ArgumentTypeError
from dataclasses import dataclass

from pld_mmdet.errors import UserError


@dataclass(frozen=True)
class Number:
    """A range of numbers. Calling it reads a text, as argparse's ``type`` does.

    Args:
        low: Smallest value.
        high: Largest value.
        whole: Only whole numbers.
        above: ``low`` itself is left out.
        below: ``high`` itself is left out.
    """

    low: float = -math.inf
    high: float = math.inf
    whole: bool = False
    above: bool = False
    below: bool = False

    def __str__(self) -> str:
        text = "a whole number" if self.whole else "a finite number"
        if math.isfinite(self.low):
            text += f" {'above' if self.above else 'from'} {self.low:.10g}"
        if math.isfinite(self.high):
            text += f" {'below' if self.below else 'to'} {self.high:.10g}"
        return text

    def problem(self, value: object) -> str | None:
        """What is wrong with a value, with the nearest one that is right."""
        fits = isinstance(value, int) or (isinstance(value, float) and not self.whole)
        if not fits or isinstance(value, bool) or not math.isfinite(value):
            return f"{value!r} is not {self}"
        inside = self.low < value if self.above else self.low <= value
        inside &= value < self.high if self.below else value <= self.high
        if inside:
            return None
        edge = self.low if value <= self.low else self.high
        open_edge = self.above if edge == self.low else self.below
        nearest = "" if open_edge else f" (nearest: {edge:.10g})"
        return f"{value!r} is not {self}{nearest}"

    def check(self, name: str, value: object) -> None:
        """Refuse a value that means nothing; None is "not given".

        Raises:
            UserError: Names the argument, its value and the range.
        """
        problem = None if value is None else self.problem(value)
        if problem is not None:
            raise UserError(f"{name}: {problem}.", f"Give {self}.")

    def __call__(self, text: str) -> float:
        """Read an option of a command line."""
        try:
            value = int(text) if self.whole else float(text)
        except ValueError:
            raise ArgumentTypeError(f"{text!r} is not {self}") from None
        problem = self.problem(value)
        if problem is not None:
            raise ArgumentTypeError(problem)
        return value


MOST = 10**9  # more iterations, images or rounds than anybody waits for
POSITIVE_INT = Number(1, MOST, whole=True)
COUNT = Number(0, MOST, whole=True)
SEED = Number(0, 2**32 - 1, whole=True)
WORKERS = Number(0, 1024, whole=True)
PROCESSES = Number(1, 1024, whole=True)
BATCH = Number(1, 65536, whole=True)
PORT = Number(0, 65535, whole=True)
INDEX = Number(-1000, 1000, whole=True)  # of a list, from its end too
SHARE = Number(0.0, 1.0)
PERCENT = Number(0.0, 100.0, above=True)
POSITIVE = Number(0.0, 1e9, above=True)
NOT_NEGATIVE = Number(0.0, 1e9)

# The numbers of ``pld_mmdet.adapt`` and of tools/adapt.py, by argument.
ADAPT = {
    "batch": BATCH,
    "gpus": PROCESSES,
    "iterations": POSITIVE_INT,
    "lr": POSITIVE,
    "keep": SHARE,
    "threshold": SHARE,
    "stage": INDEX,
    "seed": SEED,
    "score_images": POSITIVE_INT,
    "evaluations": POSITIVE_INT,
    "workers": WORKERS,
    "watch": PORT,
    "max_pixels": POSITIVE_INT,
}
