"""Reading files that a user, a run or another tool made; imports nothing heavy."""

import csv
import io
import json
import math
import os
import stat
from collections.abc import Iterable, Iterator
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

from pld_mmdet.errors import UserError

_NUMBER, _TEXT = (float, type(None)), (str, type(None))


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


# What gains are computed from, and a table that is compared with, added to or shown.
_SEEDS = {"seeds": {"#": {"*": _NUMBER}}}
_MEANS = _SEEDS | {"mean": {"*": _NUMBER}, "std": {"*": _NUMBER}}
GAINS = {"metric": str, "seeds": [int]}
RECORD = GAINS | {"name": str, "rows": [{"name": str, "evaluate": {"*": _MEANS}}]}
GAINS["rows"] = [{"name": str, "evaluate": {"*": _SEEDS}}]

_SCHEMA_WORDS = {
    dict: "an object",
    list: "a list",
    str: "a text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
}


LARGEST = 512 * 2**20  # bytes of a text file that is read whole


def read_text(path: str | Path, largest: int = LARGEST, errors: str = "strict") -> str:
    """The text of a plain file that somebody else may have put there.

    Args:
        path: The file.
        largest: Bytes that it may have.
        errors: As in :func:`open`.

    Raises:
        OSError: See :func:`read_bytes`.
        UnicodeDecodeError: It is no UTF-8.
    """
    return read_bytes(path, largest).decode("utf-8", errors)


def read_bytes(path: str | Path, largest: int = 2**40) -> bytes:
    """The bytes of a plain file that somebody else may have put there.

    A pipe, a device or a folder does not block, a file of gigabytes fills no memory.

    Args:
        path: The file.
        largest: Bytes that it may have.

    Raises:
        OSError: It cannot be read, is no plain file, or is larger.
    """
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    with open(handle, "rb") as file:
        about = os.fstat(handle)
        if not stat.S_ISREG(about.st_mode):
            raise OSError(f"{path} is no plain file")
        if about.st_size > largest:
            raise OSError(f"{path} has {about.st_size / 2**20:.0f} MiB")
        return file.read()


def users_text(path: str | Path, what: str, fix: str) -> str:
    """The text of a file that a user named.

    Args:
        path: The file.
        what: What it is meant to be, for the sentence (``"list of images"``).
        fix: What to do when it is none.

    Raises:
        UserError: It is missing, no plain file, or no UTF-8.
    """
    try:
        return read_text(path, 2**40).removeprefix("\ufeff")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"The {what} {path} cannot be read ({_reason(error)}).", fix
        ) from None


def page_around(path: str | Path, begin: str, end: str) -> tuple[str, str]:
    """What stands in a page up to one marker, and from another one, both included.

    Args:
        path: The page.
        begin: First marker.
        end: Second marker.

    Raises:
        UserError: The page cannot be read, or the markers are not there exactly once.
    """
    text = users_text(path, "page", "Name a page that holds the markers.")
    before, _, rest = text.partition(begin)
    if begin in rest or text.count(end) != 1 or end not in rest:
        raise UserError(
            f"{path} does not hold the pair {begin} ... {end} exactly once.",
            "Put both lines where the table belongs, then run the same command again.",
        )
    return before + begin, end + rest.partition(end)[2]


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
            the place. NaN and Infinity are no json, nor is a key that stands twice.
    """
    path = Path(path)
    try:
        content = parse_json(read_text(path, 2**40))
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


def read_json_lines(path: str | Path, schema: object = None, nan: bool = False) -> list:
    """Read one json value a line, without lines that a kill or a writer cut short.

    Args:
        path: The file; what is no plain file reads as empty.
        schema: See :func:`read_json`; other lines are left out.
        nan: Take lines with NaN or Infinity too, as mmengine writes them.
    """
    kind = {} if nan else {"parse_constant": _no_number, "parse_float": _finite}
    path = Path(path)
    try:
        lines = read_text(path, errors="replace").split("\n")
    except OSError:
        return []
    rows = []
    for line in lines:
        try:
            row = json.loads(line, **kind)
        except (ValueError, RecursionError):
            continue
        if misfit(row, schema) is None:
            rows.append(row)
    return rows


def read_records(path: str | Path, what: str, example: str) -> Iterator[tuple]:
    """Objects of a file that a user made: every line or row has to be one.

    Args:
        path: JSON lines; ``.csv`` or ``.tsv`` whose first line names the columns (all
            values are texts; in a ``.tsv`` nothing is quoted); or ``.parquet``, for
            which pyarrow or pandas has to be there (an empty cell is a key that is
            missing).
        what: What a line is (``"text"``), for the sentence.
        example: A right line, as what to do.

    Yields:
        Where it stands (``"Line 3 of data.jsonl"``) and the object.

    Raises:
        UserError: The file cannot be read, is empty, or a line is no such object.
    """
    path = Path(path)
    readers = {".csv": _csv, ".tsv": _tsv, ".parquet": _parquet}
    reader = readers.get(path.suffix.lower(), _json_lines)
    count, where = 0, str(path)
    try:
        for where, found in reader(path):
            if not isinstance(found, dict):
                raise UserError(f"{where} is no {what} ({_shown(found)}).", example)
            count += 1
            yield where, found
    except FileNotFoundError:
        fix = "Check the path (relative paths start at the current folder)."
        raise UserError(f"The file {path} does not exist.", fix) from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read ({_reason(error)}).", example) from None
    except _BadLine as error:
        raise UserError(f"{error.where} is no {what} ({error}).", example) from None
    if not count:
        raise UserError(f"{path} holds no {what}: it is empty.", example)


class _BadLine(ValueError):
    def __init__(self, where: str, reason: str) -> None:
        super().__init__(reason)
        self.where = where


def _numbered(path: Path) -> Iterator[tuple[str, str]]:
    """Lines and where they stand. Only a line feed ends one: texts hold all others."""
    text = read_text(path, 2**40).removeprefix("\ufeff").removesuffix("\n")
    for number, line in enumerate(text.split("\n") if text else (), 1):
        yield f"Line {number} of {path}", line.removesuffix("\r")


def _json_lines(path: Path) -> Iterator[tuple[str, object]]:
    for where, line in _numbered(path):
        if line.strip():
            try:
                yield where, parse_json(line)
            except (ValueError, RecursionError) as error:
                raise _BadLine(where, _reason(error)) from None


def _csv(path: Path) -> Iterator[tuple[str, dict]]:
    yield from _table(_csv_lines(path))


def _csv_lines(path: Path) -> Iterator[tuple[str, list[str]]]:
    lines = csv.reader(io.StringIO(read_text(path, 2**40).removeprefix("\ufeff")))
    found = iter(lines)
    while True:
        try:
            values = next(found, None)
        except csv.Error as error:
            place = f"Line {lines.line_num} of {path}"
            raise _BadLine(place, str(error)) from None
        if values is None:
            return
        if values:  # not an empty line
            yield f"Line {lines.line_num} of {path}", values


def _tsv(path: Path) -> Iterator[tuple[str, dict]]:
    yield from _table((where, line.split("\t")) for where, line in _numbered(path))


def _table(lines: Iterable[tuple[str, list[str]]]) -> Iterator[tuple[str, dict]]:
    """Rows by the names of the columns, which the first line holds."""
    names: list[str] = []
    for where, values in lines:
        if not names:
            names = values
            if len({*names}) < len(names) or not all(name.strip() for name in names):
                raise _BadLine(where, "its columns need a name each, and no two alike")
        elif len(values) != len(names):
            columns = f"{len(values)} columns, the first line names {len(names)}"
            raise _BadLine(where, columns)
        else:
            yield where, dict(zip(names, values, strict=True))


def _parquet(path: Path) -> Iterator[tuple[str, dict]]:
    if not stat.S_ISREG(os.stat(path).st_mode):  # a pipe would block
        raise OSError("it is no plain file")
    if find_spec("pyarrow") is not None:
        library = import_module("pyarrow.parquet")
    elif find_spec("pandas") is not None:
        library = import_module("pandas")
    else:
        raise UserError(
            f"{path} is a parquet file, and neither pyarrow nor pandas is installed.",
            "pip install pyarrow   or write the same rows as JSON lines (.jsonl).",
        )
    number = 0
    try:
        for row in _parquet_rows(library, path):
            number += 1
            given = {key: value for key, value in row.items() if value is not None}
            yield f"Row {number} of {path}", given
    except (GeneratorExit, UserError, KeyboardInterrupt):
        raise
    except Exception as error:  # of the library: all kinds
        raise OSError(f"after row {number}: {_reason(error)}") from None


def _parquet_rows(library: ModuleType, path: Path) -> Iterator[dict]:
    if hasattr(library, "ParquetFile"):
        for batch in library.ParquetFile(path).iter_batches():
            yield from batch.to_pylist()
        return
    frame = library.read_parquet(path)
    yield from frame.astype(object).where(frame.notna(), None).to_dict("records")


def read_state(path: str | Path) -> dict:
    """Read what a run wrote about itself; whatever is wrong with it reads as ``{}``."""
    try:
        content = json.loads(read_text(path))
    except (OSError, UnicodeDecodeError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


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


def parse_json(text: str) -> object:
    """Parse json strictly: numbers are finite, no key stands twice in an object.

    Raises:
        ValueError: It is no json; the reason in words.
    """
    try:
        return json.loads(
            text,
            parse_constant=_no_number,
            parse_float=_finite,
            object_pairs_hook=_object,
        )
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        _no_number(text)
    return number


def _object(pairs: list[tuple[str, object]]) -> dict:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {twice!r} stands twice in one object")
    return found


def _no_number(name: str) -> None:
    raise ValueError(f"{name} is no number of json")


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
