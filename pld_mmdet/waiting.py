"""Time left in words, for what takes longer than somebody watches in silence."""

import time
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

Item = TypeVar("Item")
EVERY = 15.0  # seconds between two lines


def duration(seconds: float) -> str:
    """Seconds in words, rounded as one would say them."""
    seconds = max(0, round(seconds))
    if seconds < 60:
        return f"{seconds} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours < 48 else f"{round(hours / 24)} days"


def counted(
    items: Iterable[Item],
    total: int,
    what: str,
    say: Callable[[str], None] = print,
    every: float = EVERY,
) -> Iterator[Item]:
    """Hand items on, and say now and then how many are done and how long it will last.

    Args:
        items: Work, one item after the other.
        total: How many there will be.
        what: Plural, for the line (``"images checked"``).
        say: Receives the line; nothing is said of work that is over before one is due.
        every: Seconds between two lines.
    """
    began = last = time.monotonic()
    for done, item in enumerate(items):
        now = time.monotonic()
        if done and now - last >= every:
            last = now
            left = duration((now - began) / done * (total - done))
            say(f"{done} of {total} {what}, about {left} left")
        yield item
