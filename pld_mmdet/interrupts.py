"""Ctrl-C, SIGTERM and a closed terminal: libraries turn them into other exceptions.

mmengine formats a config inside a bare ``except``; a KeyboardInterrupt that arrives
there comes out as a SyntaxError. Whoever ends a run asks :func:`received`.
"""

import os
import signal
import threading
import time

AGAIN = 1.0  # seconds after which a second Ctrl-C is meant as one
_state: dict = {"number": None, "at": 0.0}


def install() -> None:
    """Remember SIGINT, SIGTERM and SIGHUP; raise KeyboardInterrupt or SystemExit.

    The first one ends the program in order. Later ones do not disturb that; a second
    Ctrl-C after a second ends it at once. Under nohup a closed terminal ends nothing.
    """
    _state["number"] = None
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, _arrived)
        signal.signal(signal.SIGTERM, _arrived)
        hangup = getattr(signal, "SIGHUP", None)  # Windows has none
        if hangup is not None and signal.getsignal(hangup) is not signal.SIG_IGN:
            signal.signal(hangup, _arrived)


def _arrived(number: int, frame: object) -> None:
    if _state["number"] is None:
        _state.update(number=number, at=time.monotonic())
        if number == signal.SIGINT:
            raise KeyboardInterrupt
        raise SystemExit(128 + number)
    if number == signal.SIGINT and time.monotonic() - _state["at"] > AGAIN:
        os._exit(128 + number)


def raise_lost() -> None:
    """Raise once more what some library has swallowed; asked before each step.

    Python itself drops exceptions of destructors and callbacks, and with them a Ctrl-C
    that arrives there.
    """
    number = _state["number"]
    if number is not None and signal.getsignal(number) is _arrived:
        raise KeyboardInterrupt if number == signal.SIGINT else SystemExit(128 + number)


def received() -> int | None:
    """The signal that ends this program, or None."""
    return _state["number"]
