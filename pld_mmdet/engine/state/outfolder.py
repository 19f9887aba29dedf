"""The folder of a run: one run in it, one process at a time."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from pld_mmdet.engine.config.preflight import check_writable
from pld_mmdet.engine.state.files import is_full, sweep
from pld_mmdet.errors import UserError
from pld_mmdet.reading import read_state

LOCK = ".lock"
# A process that holds a folder and starts another one that writes into it names it here
INHERITED = "PLD_MMDET_CLAIMED"
# Locks of this process, or of the one that lets it in, as (device, inode): it is the
# open file that is locked, and its name may come to mean another one.
_held: dict[str, tuple[int, int] | None] = {}
_WEIGHTS = ("*.pth", "last_checkpoint")


@contextmanager
def locked(
    folder: str | Path, option: str = "--out", name: str = LOCK
) -> Iterator[None]:
    """Let no other process work in a folder while the body runs.

    The lock is a record lock of the operating system: it belongs to this process alone
    (a loader process that is left behind, or any other child, does not hold it) and
    ends with it, however it ends. Half files of writers that were killed are deleted.

    Args:
        folder: Made if missing.
        option: With which another folder is chosen, for the sentence.
        name: Of the lock's file; one of its own locks a part of the folder.

    Raises:
        UserError: Another process works in the folder.
    """
    check_writable(folder, option)
    key = os.path.realpath(folder)
    if name == LOCK and os.environ.get(INHERITED) == key:
        with _remembered(os.path.join(key, name), None):
            yield
        return
    busy = UserError(
        f"Another process is working in {folder}.",
        f"Wait for it, stop it, or choose another folder with {option}.",
    )
    key = os.path.join(key, name)
    if key in _held:  # opening and closing the file again would give the lock away
        raise busy
    handle = os.open(key, os.O_CREAT | os.O_RDWR, 0o644)
    try:
        if not _lock(handle):
            raise busy
        with _remembered(key, handle):
            if name == LOCK:  # not a folder of data, which may be large
                sweep(folder)
            yield
    finally:
        os.close(handle)  # this also gives the lock back


def is_ours(folder: str | Path) -> bool:
    """Whether the lock that this process took on a folder still lies in it.

    Whoever deletes ``.lock``, or the folder, lets another process lock a new file; the
    lock of the old one stops nobody any more. True for a folder without a lock of ours.
    """
    path = os.path.join(os.path.realpath(folder), LOCK)
    return path not in _held or _held[path] == _identity(path)


def require_ours(folder: str | Path) -> None:
    """Stop before another run's files are written over; called before each writing.

    Raises:
        UserError: The lock of this process is gone (:func:`is_ours`).
    """
    if not is_ours(folder):
        raise lost(folder)


def lost(folder: str | Path) -> UserError:
    """The sentence for a folder that was taken away while a run worked in it."""
    folder = Path(folder)
    if not folder.is_dir():
        return UserError(
            f"The folder {folder} was deleted or moved while this run worked in it; "
            "the run has stopped.",
            "Start again, or, where the folder is now, go on with --resume and "
            "--work-dir.",
        )
    return UserError(
        f"{folder / LOCK} was deleted or replaced while this run held it, so that "
        "another one may work there; this one has stopped and wrote nothing more.",
        "Leave .lock alone. When no other run works there, the same command with "
        "--resume goes on from the last checkpoint.",
    )


@contextmanager
def _remembered(path: str, handle: int | None) -> Iterator[None]:
    before = _held.get(path)
    _held[path] = _identity(path if handle is None else handle)
    try:
        yield
    finally:
        del _held[path]
        if before is not None:
            _held[path] = before


def _identity(file: str | int) -> tuple[int, int] | None:
    try:
        about = os.stat(file)
    except OSError:
        return None
    return about.st_dev, about.st_ino


@contextmanager
def claimed(
    folder: str | Path,
    resume: bool,
    signs: Sequence[str] = _WEIGHTS,
    option: str = "--work-dir",
) -> Iterator[bool]:
    """Hold the folder of a run while it works in it, and overwrite no other run.

    Args:
        folder: Made if missing.
        resume: Whether a run that is already there shall go on.
        signs: Files (patterns) by which one knows that there is a run. Weights, unless
            a run cannot begin anew without them.
        option: With which another folder is chosen, for the sentences.

    Yields:
        Whether there is a run to go on with.

    Raises:
        UserError: Another process works in it, it holds an earlier run, or the disk
            became full while the run worked in it.
    """
    folder = Path(folder)
    try:
        with locked(folder, option):
            record = read_state(folder / "run.json")
            there = any(any(folder.glob(sign)) for sign in signs)
            finished = record.get("exit") == "finished"
            inherited = os.environ.get(INHERITED) == os.path.realpath(folder)
            if (there or finished) and not resume and not inherited:
                raise UserError(
                    f"{folder} already holds a run ({record.get('exit', 'not begun')});"
                    " nothing was overwritten.",
                    f"Choose another folder with {option}, or go on with it: add "
                    "--resume.",
                )
            yield there
    except OSError as error:
        if not is_full(error):
            raise
        raise UserError(
            f"The disk is full ({error}); {folder} keeps its newest whole checkpoint.",
            "Free space, then the same command with --resume.",
        ) from error


def _lock(handle: int) -> bool:
    """Take the lock without waiting; a killed process cannot leave it behind."""
    try:
        import fcntl
    except ImportError:  # Windows: there the check for an earlier run has to do
        return True
    try:
        # not flock: a forked loader process would share that lock and outlive us
        fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
