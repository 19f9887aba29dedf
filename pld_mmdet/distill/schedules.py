"""How a number moves over a run, as a function of the share of it that is done."""

import math

from pld_mmdet.errors import one_of

_KINDS = ("linear", "cosine", "sigmoid")


def ramp(kind: str, start: float, end: float, share: float) -> float:
    """A number on its way from ``start`` to ``end``.

    Args:
        kind: ``linear``: s. ``cosine``: (1 - cos(pi s)) / 2, flat at both ends.
            ``sigmoid``: exp(-5 (1 - s)^2) (Laine & Aila 2017), which begins at 0.0067
            of the way.
        start: Value at the beginning.
        end: Value at the end.
        share: s, the part of the way that is behind; clipped to [0, 1].

    Returns:
        ``start`` + that part of (``end`` - ``start``).

    Raises:
        UserError: An unknown kind.

    Examples:
        >>> ramp("linear", 2.0, 6.0, 0.25)
        3.0
    """
    one_of("ramp", kind=(kind, _KINDS))
    share = min(max(share, 0.0), 1.0)
    if kind == "cosine":
        share = (1.0 - math.cos(math.pi * share)) / 2.0
    elif kind == "sigmoid":
        share = math.exp(-5.0 * (1.0 - share) ** 2)
    # written so that both ends are met exactly
    return (1.0 - share) * start + share * end
