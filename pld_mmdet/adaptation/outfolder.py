"""The output folder: one run in it, one process at a time."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pld_mmdet.engine.preflight import check_writable
from pld_mmdet.errors import UserError
from pld_mmdet.experiments.jobs import read_json

LOCK = ".lock"


@contextmanager
def claimed(out: Path, resume: bool) -> Iterator[bool]:
    """Hold the folder while a run works in it.

    Args:
        out: The folder; made if missing.
        resume: Whether a run that is already there shall go on.

    Yields:
        Whether there is a run to go on with.

    Raises:
        UserError: Another process works in it, it holds an earlier run, or the disk
            became full while the run worked in it.
    """
    check_writable(out)
    handle = os.open(out / LOCK, os.O_CREAT | os.O_RDWR, 0o644)
    try:
        if not _lock(handle):
            raise UserError(
                f"Another adaptation is running in {out}.",
                "Wait for it, or choose another folder with --out.",
            )
        there = (out / "config.py").is_file()
        if there and not resume:
            how = read_json(out / "run.json").get("exit", "not begun")
            raise UserError(
                f"{out} already holds a run ({how}); nothing was overwritten.",
                "Choose another folder with --out, or go on with it: add --resume.",
            )
        yield there
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise UserError(
            f"The disk is full ({error}); {out} keeps its newest whole checkpoint.",
            "Free space, then the same command with --resume.",
        ) from error
    finally:
        os.close(handle)  # this also gives the lock back


def _lock(handle: int) -> bool:
    """Take the lock without waiting; a killed process cannot leave it behind."""
    try:
        import fcntl
    except ImportError:  # Windows: there the check for an earlier run has to do
        return True
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
