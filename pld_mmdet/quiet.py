"""What libraries say of themselves stays in the log file; ``--verbose`` shows it."""

import io
import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout

VERBOSE = "PLD_MMDET_VERBOSE"  # in the environment, so that child processes see it
_PRINTED = ("Could not import OneDL",)
_LOGGED = (
    "\n------------------------------------------------------------\nSystem env",
    "Config:\n",
    "Hooks will be executed in the following order",
    "Distributed training is not used, all SyncBatchNorm",
    '"FileClient" will be deprecated',
    '"HardDiskBackend" is the alias',
    "Checkpoints will be saved to",
    "The prefix is not set in metric class",
)


def is_verbose() -> bool:
    """Whether ``--verbose`` was given to this process or to the one that started it."""
    return bool(os.environ.get(VERBOSE))


@contextmanager
def quiet_imports() -> Iterator[None]:
    """Leave out what packages of the stack print about parts that nobody installs."""
    if is_verbose():
        yield
        return
    said = io.StringIO()
    try:
        with redirect_stdout(said):
            yield
    finally:
        for line in said.getvalue().splitlines():
            if not line.startswith(_PRINTED):
                print(line)


class OnScreen(logging.Filter):
    """Lets through what is about the run: no walls of versions, hooks and config."""

    def __init__(self) -> None:
        super().__init__()
        self.last = time.monotonic()

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether a record is shown on the terminal."""
        shown = is_verbose() or not str(record.msg).startswith(_LOGGED)
        if shown:
            self.last = time.monotonic()
        return shown


def show_less(logger: logging.Logger) -> None:
    """Put the filter on what a logger shows; its file keeps everything."""
    for handler in logger.handlers:
        to_file = isinstance(handler, logging.FileHandler)
        if isinstance(handler, logging.StreamHandler) and not to_file:
            handler.addFilter(OnScreen())


def silent_for(logger: logging.Logger) -> float:
    """Seconds since a logger last showed something; 0 if nobody watches it."""
    filters = (f for handler in logger.handlers for f in handler.filters)
    last = [one.last for one in filters if isinstance(one, OnScreen)]
    return time.monotonic() - max(last) if last else 0.0
