"""Which checkpoint of a run's folder is the newest, and which is whole."""

import re
import zipfile
from collections.abc import Callable
from pathlib import Path

from pld_mmdet.engine.state.checkpoint import (
    Damaged,
    check_archive,
    load_plain_file,
    refusal,
)
from pld_mmdet.errors import UserError


def find_latest(work_dir: str | Path) -> str | None:
    """The newest checkpoint of a run, also after its folder was moved or copied.

    Args:
        work_dir: The run's folder.

    Returns:
        The file that ``last_checkpoint`` names, else the highest iter_N.pth or
        epoch_N.pth, else None.
    """
    work_dir = Path(work_dir)
    record = work_dir / "last_checkpoint"
    if record.is_file():
        named = Path(record.read_text().strip())
        for path in (work_dir / named.name, named):
            if named.name and path.is_file():
                return str(path)
    numbered = numbered_checkpoints(work_dir)
    return str(numbered[-1]) if numbered else None


def numbered_checkpoints(work_dir: str | Path) -> list[Path]:
    """``iter_N.pth`` and ``epoch_N.pth`` of a run's folder, the newest last."""
    found = []
    for path in Path(work_dir).glob("*.pth"):
        match = re.fullmatch(r"(?:iter|epoch)_(\d+)\.pth", path.name)
        if match is not None:
            found.append((int(match.group(1)), path))
    return [path for _, path in sorted(found)]


def whole_or_before(
    checkpoint: str | Path, work_dir: str | Path, say: Callable[[str], None]
) -> str:
    """The checkpoint itself, or the whole one before it where it is the torn newest.

    A disk or a copy that was cut off can leave half of it, although it is written in
    one step. What somebody chose among older ones stays, whole or not.

    Args:
        checkpoint: What a run is going to go on from.
        work_dir: The run's folder.
        say: Receives the sentence about a torn one.
    """
    newest = find_latest(work_dir)
    if newest is None or Path(newest).resolve() != Path(checkpoint).resolve():
        return str(checkpoint)
    problem = _torn(Path(newest))
    if problem is None:
        return str(checkpoint)
    numbered = numbered_checkpoints(work_dir)
    before = (
        numbered[: numbered.index(Path(newest))] if Path(newest) in numbered else []
    )
    for older in reversed(before):
        if _torn(older) is None:
            say(f"{problem} The run goes on from the one before, {older}.")
            return str(older)
    return str(checkpoint)  # the loader says what is wrong with it


def _torn(path: Path) -> str | None:
    """What is wrong with a file that no longer is what was written."""
    try:
        if zipfile.is_zipfile(path):  # a checksum costs less than a load
            check_archive(path)
        else:
            load_plain_file(path)
    except ValueError as error:
        return refusal(path, error).what
    except Damaged as error:
        return error.what
    except UserError:  # whole, and refused for what is in it
        return None
    return None
