"""Spoken digits, letters and signs of Asterisk in five languages, one speaker each.

830 recordings of 8 kHz, 98 MB from Debian. ROOT/language/<split>/<language>/*.wav for
WaveFolder, ROOT/language/<split>.txt for WaveFiles: which language it is, in words that
no other split has. ROOT/word/<language>/<word>/*.wav: which word it is; every speaker
says it once, so learn it from some languages and test it on another one.
"""

import argparse
import hashlib
import json
from collections import Counter
from pathlib import Path, PurePosixPath

from pld_mmdet.cli import ToolParser
from pld_mmdet.engine.state.files import write_atomic
from pld_mmdet.shared.data.package_files import add_root, own_root
from pld_mmdet.shared.packages import Member, packages, read_members, sha256_of
from pld_mmdet.shared.unpacking import unpack

MEMBERS = Path(__file__).with_name("prompts.csv")
RECORD = "prompts.json"
SPLITS = ("train", "val", "test")
NUMBERS = tuple(str(n) for n in (*range(21), *range(30, 100, 10)))
LETTERS = tuple("abcdefghijklmnopqrstuvwxyz")
_AGAIN = "give the same command again"


def language_of(package: str) -> str:
    """``en`` of ``asterisk-core-sounds-en-wav``."""
    return package.split("-")[-2]


def split_of(word: str) -> str:
    """Where a word is: test has a quarter of them, val an eighth, in every language.

    Args:
        word: A file's name without its suffix. Of the same name in two folders, both
            are on one side.
    """
    share = hashlib.sha256(word.encode()).digest()[0] / 256
    return "test" if share < 0.25 else "val" if share < 0.375 else "train"


def places(language: str, path: str) -> list[str]:
    """Where a recording goes, below the root.

    Args:
        language: Two letters.
        path: Its place in the package, ``.../<locale>/<digits or letters>/7.wav``.
    """
    kind, word = PurePosixPath(path).parts[-2], PurePosixPath(path).stem
    name = f"{kind}-{word}.wav"
    found = [f"language/{split_of(word)}/{language}/{name}"]
    # a file of Russian is named after a Latin letter and says a Russian one
    letter = kind == "letters" and word in LETTERS and language != "ru"
    if letter or (kind == "digits" and word in NUMBERS):
        found.append(f"word/{language}/{word}/{name}")
    return found


def arguments(parser: ToolParser) -> None:
    """Command line of ``tools/prepare.py prompts``."""
    add_root(parser, "data/prompts")


def prepare(args: argparse.Namespace) -> None:
    """Unpack the recordings and put them in folders by what they say.

    Raises:
        UserError: The root holds another data set, or see
            :func:`pld_mmdet.shared.unpacking.unpack`.
    """
    root: Path = args.root
    by_package: dict[str, list[Member]] = {}
    for row, member in read_members(MEMBERS):
        by_package.setdefault(row["package"], []).append(member)
    own_root(root, RECORD, ("language", "word"), args.overwrite)
    versions = {name: packages()[name].version for name in by_package}
    record = json.dumps({"packages": versions}).encode()
    write_atomic(root / RECORD, lambda file: file.write(record), again=_AGAIN)
    names = []
    for package, members in by_package.items():
        folder = unpack(packages()[package], members, given=args.given)
        for member in members:
            for place in places(language_of(package), member.path):
                _copy(folder / member.path, root / place, member)
                names.append(place)
    for split in SPLITS:
        begin = f"language/{split}/"
        listed = sorted(n.removeprefix("language/") for n in names if begin in n)
        text = "".join(f"{name}\n" for name in listed).encode()
        path = root / f"language/{split}.txt"
        write_atomic(path, lambda file, text=text: file.write(text), again=_AGAIN)
        print(f"language/{split}: {_summary(listed, 1)}")
    words = [name.removeprefix("word/") for name in names if name.startswith("word/")]
    print(f"word: {_summary(words, 0)}")


def _copy(source: Path, path: Path, member: Member) -> None:
    same = path.is_file() and path.stat().st_size == member.bytes
    if not same or sha256_of(path) != member.sha256:
        content = source.read_bytes()
        write_atomic(path, lambda file: file.write(content), again=_AGAIN)


def _summary(names: list[str], place: int) -> str:
    counts = Counter(PurePosixPath(name).parts[place] for name in names)
    each = ", ".join(f"{language} {n}" for language, n in sorted(counts.items()))
    return f"{len(names)} recordings ({each})"
