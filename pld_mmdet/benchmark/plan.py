"""What a case is told, and what it reports while it runs."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass
class Plan:
    """How a case runs.

    Attributes:
        rounds: Timed calls of each side; None leaves it to the case.
        quick: A short run that shows that everything works; its numbers are rough.
        advance: Called with the share of the case that is done, in [0, 1].
    """

    rounds: int | None = None
    quick: bool = False
    advance: Callable[[float], None] = lambda share: None

    def choose(self, normal: int, quick: int) -> int:
        """Rounds: the user's wish, or one of the case's two numbers."""
        if self.rounds is not None:
            return self.rounds
        return quick if self.quick else normal

    def size(self, normal: int, quick: int) -> int:
        """Batch, images or steps of the case."""
        return quick if self.quick else normal

    def counter(self, calls: int) -> Callable[[], None]:
        """A function to call ``calls`` times, for the progress bar."""
        done = 0

        def tick() -> None:
            nonlocal done
            done += 1
            self.advance(min(1.0, done / calls))

        return tick
