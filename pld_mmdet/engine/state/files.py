"""Files: read with a schema, written whole or not at all, never over an input."""

import errno
import json
import math
import os
import re
import socket
import stat
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from pld_mmdet.errors import UserError

# .NAME.<host>-<pid>.<random>.tmp: who was writing it stands in the name
_TEMPORARY = re.compile(r"\..+\.(?P<host>[\w-]+)-(?P<pid>\d+)\.\w+\.tmp")
# Files by which a run goes on, or says what it was.
_OF_A_RUN = (
    *("config.py", "run.json", "progress.json", "data.json", "last_checkpoint"),
    *("iter_*.pth", "epoch_*.pth", "last.pth", "best_*.pth", ".lock", "online.json"),
    *("*.log", "stamp.json", "result.json"),
)
_LINE = 600  # characters of a line of json that holds dicts or lists
_SIGNS_OF_A_RUN = ("run.json", "last_checkpoint", "config.py")


def write_json(path: str | Path, content: object) -> None:
    """Write json so that a reader sees the old file or the new one, never a half.

    Numbers that are not finite become null, for which json has a word.
    """
    text = json_text(content) + "\n"
    write_atomic(path, lambda file: file.write(text.encode()))


def json_text(content: object) -> str:
    """Json with one small thing a line: short to read, and a change shows where it is.

    A dict or list of plain values is one line; so is one that holds such dicts or lists
    if it fits ``_LINE`` characters. All else has a line for each member.
    """
    plain = json.dumps(_finite(content), allow_nan=False, default=str)
    return _laid_out(json.loads(plain), "")


def _laid_out(value: object, indent: str) -> str:
    depth, line = _depth(value), json.dumps(value)
    if depth <= 1 or (depth == 2 and len(line) <= _LINE):
        return line
    inner = indent + " "
    if isinstance(value, dict):
        rows = [f"{json.dumps(k)}: {_laid_out(v, inner)}" for k, v in value.items()]
    else:
        rows = [_laid_out(v, inner) for v in value]
    body = ",\n".join(inner + row for row in rows)
    return f"{line[0]}\n{body}\n{indent}{line[-1]}"


def _depth(value: object) -> int:
    if not isinstance(value, dict | list):
        return 0
    members = value.values() if isinstance(value, dict) else value
    return 1 + max(map(_depth, members), default=0)


def write_atomic(
    path: str | Path,
    write: Callable[[object], object],
    sync: bool = False,
    again: str = "start again with --resume",
) -> None:
    """Call ``write`` with a binary file that becomes ``path`` only when complete.

    Args:
        path: The file to replace; its folder is made if missing.
        write: Writes into the open binary file it is given.
        sync: Wait until the disk has the bytes (checkpoints), or not (progress).
        again: How to go on once there is space, for the sentence.

    Raises:
        UserError: If the folder cannot be written or the disk is full.
    """
    path = Path(path)
    refuse_no_file(path)
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(
            dir=path.parent, prefix=f".{path.name}.{_writer()}.", suffix=".tmp"
        )
        with os.fdopen(handle, "wb") as file:
            write(file)
            if sync:
                file.flush()
                os.fsync(file.fileno())
        os.chmod(temporary, 0o644)  # mkstemp makes it private to its owner
        os.replace(temporary, path)
    except BaseException as error:
        if temporary is not None and os.path.exists(temporary):
            os.unlink(temporary)
        # torch turns a failed write of its zip file into a RuntimeError
        disk = isinstance(error, OSError) or (
            isinstance(error, RuntimeError)
            and re.search(r"PytorchStreamWriter|unexpected pos|write", str(error))
        )
        if disk:
            raise UserError(
                f"{path} could not be written ({error}); an earlier file of that name "
                "is untouched.",
                f"Free space or make {path.parent} writable, then {again}.",
            ) from error
        raise


def is_full(error: OSError) -> bool:
    """Whether there is no room for more: a full disk, a quota, the limit of a file."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def sweep(folder: str | Path) -> list[Path]:
    """Delete the half files that killed writers left in a folder and below it.

    Only files of :func:`write_atomic` whose process is gone from this machine; those of
    other machines stay, because nobody here knows whether they are still written.

    Returns:
        What was deleted.
    """
    gone = []
    for path in Path(folder).rglob(".*.tmp"):
        match = _TEMPORARY.fullmatch(path.name)
        if match is None or match["host"] != _host() or _alive(int(match["pid"])):
            continue
        if path.is_file() and not path.is_symlink():
            path.unlink(missing_ok=True)
            gone.append(path)
    return gone


def refuse_no_file(path: str | Path, option: str = "") -> None:
    """Refuse to put a file where something else is: a device, a pipe, a folder.

    Args:
        path: Where a file is going to be written.
        option: Where it was named, for the sentence.

    Raises:
        UserError: There is something that is no plain file.
    """
    kinds = {stat.S_IFDIR: "a folder", stat.S_IFREG: None, stat.S_IFIFO: "a pipe"}
    try:
        kind = kinds.get(stat.S_IFMT(os.stat(path).st_mode), "a device or a socket")
    except OSError:  # nothing there, or a link that leads nowhere
        return
    if kind is not None:
        raise UserError(
            f"{option} {path} is {kind}; a file would take its place.".lstrip(),
            "Name a plain file.",
        )


def may_write(
    output: str | Path,
    inputs: Iterable[str | Path | None] = (),
    overwrite: bool = False,
    option: str = "--out",
) -> None:
    """Refuse to write a file where something would be lost.

    Args:
        output: What is going to be written, whole or not at all.
        inputs: What is read; None and what does not exist is passed over.
        overwrite: Whether a file that exists may be replaced.
        option: Where the output was named, for the sentence.

    Raises:
        UserError: It is an input, a file of a run, no plain file, a link, or there
            already.
    """
    output = Path(output)
    keep_inputs(output, inputs, option)
    refuse_no_file(output, option)
    folder = output.parent
    named = any(output.match(name) for name in _OF_A_RUN)
    if named and any((folder / sign).exists() for sign in _SIGNS_OF_A_RUN):
        raise UserError(
            f"{option} {output} is a name that the run in {folder} keeps for itself; "
            "nothing was written.",
            f"Name another file with {option}.",
        )
    if output.is_symlink():
        raise UserError(
            f"{option} {output} is a link (to {os.readlink(output)}); nothing was "
            "written.",
            f"Name the file itself, or another one with {option}.",
        )
    if output.exists() and not overwrite:
        raise UserError(
            f"{option} {output} exists; nothing was written.",
            f"Add --overwrite to replace it, or name another file with {option}.",
        )


def keep_inputs(
    output: str | Path, inputs: Iterable[str | Path | None], option: str = "--out"
) -> None:
    """Refuse to write over what is read.

    Args:
        output: What is going to be written.
        inputs: What is read; None and what does not exist is passed over.
        option: Where the output was named, for the sentence.

    Raises:
        UserError: It is one of them, also by another name or through a link.
    """
    for one in inputs:
        if one is None:
            continue
        same = os.path.realpath(output) == os.path.realpath(one)
        if not same and os.path.exists(output) and os.path.exists(one):
            same = os.path.samefile(output, one)
        if same:
            raise UserError(
                f"{option} {output} is also read (as {one}); it would be destroyed.",
                f"Name another file with {option}.",
            )


def _writer() -> str:
    return f"{_host()}-{os.getpid()}"


def _host() -> str:
    return re.sub(r"[^\w-]", "_", socket.gethostname()) or "host"


def _alive(pid: int) -> bool:
    if pid == os.getpid():
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass
    return True


def _finite(value: object) -> object:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(one) for one in value]
    return value


def flattened(tree: object, where: str = "") -> Iterator[tuple[str, object]]:
    """Leaves of nested dicts and lists with their dotted places."""
    if isinstance(tree, dict) and tree:
        for key, value in tree.items():
            yield from flattened(value, f"{where}.{key}".lstrip("."))
    elif isinstance(tree, list | tuple) and tree:
        for number, value in enumerate(tree):
            yield from flattened(value, f"{where}.{number}".lstrip("."))
    else:
        yield where, tree


def differences(before: object, now: object) -> list[tuple[str, object, object]]:
    """(place, before, now) of all leaves that differ; None where there is none."""
    old, new = dict(flattened(before)), dict(flattened(now))
    return [
        (place, old.get(place), new.get(place))
        for place in dict.fromkeys([*old, *new])
        if old.get(place) != new.get(place)
    ]


def each_once(paths: Iterable[Path]) -> list[Path]:
    """Of several ways to one file the shortest, in the order of the paths.

    A copy of a file is another one. Links that lead nowhere or in a circle, and what is
    no plain file, are left out.
    """
    paths, chosen = list(paths), {}
    for path in sorted(paths, key=lambda p: (len(p.parts), p.is_symlink(), str(p))):
        try:
            status = path.stat()
        except OSError:
            continue
        if stat.S_ISREG(status.st_mode):
            chosen.setdefault((status.st_dev, status.st_ino), path)
    kept = {*chosen.values()}
    return [path for path in paths if path in kept]
