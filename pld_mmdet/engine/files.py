"""Files: read with a schema, written whole or not at all, never over an input."""

import json
import math
import os
import re
import socket
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from pld_mmdet.errors import UserError

# .NAME.<host>-<pid>.<random>.tmp: who was writing it stands in the name
_TEMPORARY = re.compile(r"\..+\.(?P<host>[\w-]+)-(?P<pid>\d+)\.\w+\.tmp")
_NUMBER, _TEXT = (float, type(None)), (str, type(None))
# result.json and docs/results/*.json, as far as something reads them.
RESULT = {
    "name?": _TEXT,
    "seeds?": [int],
    "minutes?": _NUMBER,
    "missing?": [str],
    "rows?": [
        {
            "name": str,
            "title?": _TEXT,
            "minutes?": _NUMBER,
            "runs?": {"#": {"command?": _TEXT, "minutes?": _NUMBER}},
            "evaluate?": {
                "*": {
                    "seeds?": {"#": {"*": _NUMBER}},
                    "mean?": {"*": _NUMBER},
                    "std?": {"*": _NUMBER},
                    "commands?": {"#": _TEXT},
                }
            },
        }
    ],
}
_SCHEMA_WORDS = {
    dict: "an object",
    list: "a list",
    str: "a text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
}


def read_json(path: str | Path, schema: object = None, what: str = "json file"):
    """Read a json file that a user or another tool made.

    Args:
        path: The file.
        schema: What it must look like: a type (``float`` takes whole numbers too),
            a tuple of alternatives, ``[entry]`` for a list, ``{key: ...}`` for an
            object with at least these keys (``"key?"``: may be missing, ``"*"``: all
            others, ``"#"``: all others, which are whole numbers), None for anything.
        what: What it is meant to be, for the sentence (``"COCO annotations"``).

    Raises:
        UserError: It is missing, a folder, no json, or does not fit the schema. Names
            the place. NaN and Infinity are no json.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
        content = json.loads(text, parse_constant=_no_number)
    except FileNotFoundError:
        raise UserError(
            f"The {what} {path} does not exist.",
            "Check the path (relative paths start at the current folder).",
        ) from None
    except (OSError, UnicodeDecodeError, ValueError, RecursionError) as error:
        raise UserError(
            f"{path} cannot be read as a {what} ({_reason(error)}).",
            "Name another file, or make this one again.",
        ) from None
    problem = misfit(content, schema)
    if problem is not None:
        raise UserError(
            f"{path} is no {what}: {problem}.",
            "Name another file, or make this one again.",
        )
    return content


def read_json_lines(path: str | Path, schema: object = None) -> list:
    """Read one json value a line, without lines that a kill or a writer cut short."""
    path = Path(path)
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
    rows = []
    for line in lines:
        try:
            row = json.loads(line, parse_constant=_no_number)
        except (ValueError, RecursionError):
            continue
        if misfit(row, schema) is None:
            rows.append(row)
    return rows


def read_state(path: str | Path) -> dict:
    """Read what a run wrote about itself; whatever is wrong with it reads as ``{}``."""
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def write_json(path: str | Path, content: object) -> None:
    """Write json so that a reader sees the old file or the new one, never a half.

    Numbers that are not finite become null, for which json has a word.
    """
    text = json.dumps(_finite(content), indent=1, allow_nan=False, default=str) + "\n"
    write_atomic(path, lambda file: file.write(text.encode()))


def misfit(value: object, schema: object, where: str = "") -> str | None:
    """Where a value does not fit a schema (see :func:`read_json`), in words."""
    here = where or "it"
    if schema is None:
        return None
    if isinstance(schema, tuple):
        if any(misfit(value, one, where) is None for one in schema):
            return None
        return f"{here} is {_shown(value)}"
    if isinstance(schema, list):
        if not isinstance(value, list):
            return f"{here} is {_shown(value)}, not a list"
        for number, entry in enumerate(value):
            problem = misfit(entry, schema[0], f"{where}[{number}]")
            if problem is not None:
                return problem
        return None
    if isinstance(schema, dict):
        if not isinstance(value, dict):
            return f"{here} is {_shown(value)}, not an object"
        for name in value if {"*", "#"} & schema.keys() else ():
            if name in schema or f"{name}?" in schema:
                continue
            if "#" in schema and not name.isdecimal():
                return f"{where}.{name}".lstrip(".") + " is no whole number"
            inner = schema.get("#", schema.get("*"))
            problem = misfit(value[name], inner, f"{where}.{name}".lstrip("."))
            if problem is not None:
                return problem
        for key, inner in schema.items():
            if key in ("*", "#"):
                continue
            name = key.rstrip("?")
            if name not in value:
                if name != key:
                    continue
                return f"{where + ' has' if where else 'it has'} no {name!r}"
            problem = misfit(value[name], inner, f"{where}.{name}".lstrip("."))
            if problem is not None:
                return problem
        return None
    fits = isinstance(value, schema) or (schema is float and isinstance(value, int))
    if not fits or (isinstance(value, bool) and schema is not bool):
        return f"{here} is {_shown(value)}, not {_SCHEMA_WORDS.get(schema, schema)}"
    return None


def write_atomic(
    path: str | Path, write: Callable[[object], object], sync: bool = False
) -> None:
    """Call ``write`` with a binary file that becomes ``path`` only when complete.

    Args:
        path: The file to replace; its folder is made if missing.
        write: Writes into the open binary file it is given.
        sync: Wait until the disk has the bytes (checkpoints), or not (progress).

    Raises:
        UserError: If the folder cannot be written or the disk is full.
    """
    path = Path(path)
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
                f"Free space or make {path.parent} writable, then start again with "
                "--resume.",
            ) from error
        raise


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


def _no_number(name: str) -> None:
    raise ValueError(f"{name} is no number of json")


def _finite(value: object) -> object:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(one) for one in value]
    return value


def _reason(error: Exception) -> str:
    if isinstance(error, OSError):
        return error.strerror or str(error)
    if isinstance(error, UnicodeDecodeError):
        return "it is no text"
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    return str(error).splitlines()[0]


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


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
