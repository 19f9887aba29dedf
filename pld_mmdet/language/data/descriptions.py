"""Descriptions of Debian's packages with their sections: real English text, 20 classes.

6 MB from Debian 12's index. ROOT/{train,val,test}.jsonl, train_{100,400,4000}.jsonl (as
many of each class) and unlabelled.jsonl for EncodedText; pairs_*.jsonl (one line and
paragraph of the same package) for PairText.

Which texts, their class, split and hash are pinned; a later index gives the same ones,
or it is said how many have changed and are left out.
"""

import argparse
import bz2
import gzip
import hashlib
import json
import lzma
import os
import shutil
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pld_mmdet.cli import ToolParser
from pld_mmdet.engine.state.files import write_atomic
from pld_mmdet.errors import UserError
from pld_mmdet.shared.data.package_files import add_root, own_root
from pld_mmdet.shared.package_clients import index_by_apt
from pld_mmdet.shared.packages import Package, cache_folder, in_words

RELEASE = "bookworm"
INDEX = Package(
    name="Translation-en",
    kind="index",
    version=RELEASE,
    file="Translation-en.xz",
    bytes=6_107_304,
    sha256="",  # it changes with each point release: texts have a hash each
    licence="as the packages",
    url=f"https://deb.debian.org/debian/dists/{RELEASE}/main/i18n/",
)
PINNED = Path(__file__).with_name("descriptions.tsv.xz")
RECORD = "descriptions.json"
SPLITS = ("train", "val", "test")
LABELLED = (100, 400, 4000)
_LARGEST = 200_000_000  # bytes of an unpacked index
_AGAIN = "give the same command again"
_OPENERS = {b"\xfd7zXZ\0": lzma.open, b"\x1f\x8b": gzip.open, b"BZh": bz2.open}
_BROKEN = (OSError, EOFError, lzma.LZMAError, zlib.error, UnicodeDecodeError)


@dataclass(frozen=True)
class Pinned:
    """A description that belongs to the set.

    Args:
        name: The package's.
        section: Debian's: the class.
        split: ``train``, ``val`` or ``test``.
        digest: :func:`digest` of the text.
    """

    name: str
    section: str
    split: str
    digest: str


def read_pinned(path: Path = PINNED) -> list[Pinned]:
    """The list of the set, in its own mixed order."""
    text = lzma.decompress(path.read_bytes()).decode()
    return [Pinned(*line.split("\t")) for line in text.splitlines()]


def digest(text: tuple[str, str]) -> str:
    """Ten hexadecimal digits of the SHA-256 of a line and a paragraph."""
    return hashlib.sha256("\n".join(text).encode()).hexdigest()[:10]


def as_text(description: str) -> tuple[str, str]:
    """The line and the paragraph of a field of Debian's index, without its layout.

    Args:
        description: First line as it is; other lines begin with a blank, and a dot
            alone stands for an empty one.
    """
    first, *rest = description.split("\n")
    lines = [line.strip() for line in rest]
    return first.strip(), " ".join(line for line in lines if line not in ("", "."))


def stanzas(path: Path) -> Iterator[dict[str, str]]:
    """Paragraphs of a file of Debian's index: field -> value.

    Args:
        path: Plain, or packed by xz, gzip or bzip2.

    Raises:
        UserError: It is broken, cut, larger than 200 MB, or no such file.
    """
    try:
        with path.open("rb") as file:
            begin = file.read(6)
        opener = next((o for m, o in _OPENERS.items() if begin.startswith(m)), open)
        with opener(path, "rb") as file:
            content = file.read(_LARGEST + 1)
        if len(content) > _LARGEST:
            raise OSError(f"more than {in_words(_LARGEST)}")
        text = content.decode()
    except _BROKEN as error:
        raise UserError(
            f"{path} cannot be read ({type(error).__name__}: {error}).",
            f"Get {INDEX.file} again, from {INDEX.url}.",
        ) from error
    for block in text.split("\n\n"):
        fields, key = {}, ""
        for line in block.splitlines():
            if line.startswith(" ") and key:
                fields[key] += f"\n{line}"
            elif ":" in line:
                key, _, value = line.partition(":")
                fields[key] = value.strip()
        if fields:
            yield fields


def read_index(path: Path) -> dict[tuple[str, str], tuple[str, str]]:
    """Line and paragraph of each description, by package and digest.

    Args:
        path: Debian's ``Translation-en``; see :func:`stanzas`.

    Raises:
        UserError: There are no descriptions in it, or see there.
    """
    found = {}
    for fields in stanzas(path):
        if {"Package", "Description-en"} <= fields.keys():
            text = as_text(fields["Description-en"])
            found[fields["Package"], digest(text)] = text
    if not found:
        raise UserError(
            f"{path} holds no descriptions.",
            f"Get {INDEX.file} from {INDEX.url}.",
        )
    return found


def index_file(given: str | Path | None = None) -> Path:
    """The user's index, the one in the cache, or a fetched one.

    Raises:
        UserError: The user's folder has none, or see
            :func:`pld_mmdet.shared.package_clients.index_by_apt`.
    """
    if given is not None:
        found = sorted(Path(given).glob("*Translation-en*"))
        if not found:
            raise UserError(
                f"--from {given} does not hold {INDEX.file}.",
                f"{INDEX.by_hand}{given}.",
            )
        return found[0]
    kept = cache_folder() / f"Translation-en-{RELEASE}"
    if not kept.is_file():
        lists = index_by_apt(INDEX, RELEASE, print)
        found = sorted(lists.glob("*_Translation-en"))
        if not found:
            raise UserError(
                f"apt-get update left no {INDEX.name} of {RELEASE}.",
                f"{INDEX.by_hand}DIR.",
            )
        os.replace(found[0], kept)
        shutil.rmtree(lists.parent, ignore_errors=True)
    return kept


def arguments(parser: ToolParser) -> None:
    """Command line of ``tools/prepare.py descriptions``."""
    add_root(parser, "data/descriptions")


def prepare(args: argparse.Namespace) -> None:
    """Find the pinned texts in the index and write them by split.

    Raises:
        UserError: The root holds another data set, more than half of the texts are
            not there, or see :func:`index_file` and :func:`read_index`.
    """
    root: Path = args.root
    files = [f"{split}.jsonl" for split in SPLITS]
    own_root(root, RECORD, files, args.overwrite)
    rows, path = read_pinned(), index_file(args.given)
    texts = read_index(path)
    there = [row for row in rows if (row.name, row.digest) in texts]
    lost = len(rows) - len(there)
    if lost > len(rows) / 2:
        raise UserError(
            f"{path} has {len(there)} of the {len(rows)} texts as they were; it is "
            f"not the index of Debian's {RELEASE}.",
            f"{INDEX.by_hand}DIR.",
        )
    if lost:
        print(f"{lost} of {len(rows)} texts have changed or are gone: left out")
    names = sorted({row.section for row in rows})
    for name, content in _files(there, texts, names).items():
        written = "".join(f"{json.dumps(one)}\n" for one in content).encode()
        write_atomic(
            root / name, lambda file, text=written: file.write(text), again=_AGAIN
        )
    record = {"release": RELEASE, "classes": names, "texts": len(there), "lost": lost}
    text = json.dumps(record, indent=1).encode()
    write_atomic(root / RECORD, lambda file: file.write(text), again=_AGAIN)
    for split in SPLITS:
        counts = Counter(row.section for row in there if row.split == split)
        each = ", ".join(f"{name} {counts[name]}" for name in names)
        print(f"{split}: {sum(counts.values())} texts ({each})")


def _files(
    rows: list[Pinned], texts: dict, names: list[str]
) -> dict[str, list[dict[str, object]]]:
    """File name -> its lines."""
    files: dict[str, list] = {}
    train: dict[str, list] = {name: [] for name in names}
    for row in rows:
        line, paragraph = texts[row.name, row.digest]
        label = names.index(row.section)
        one = {"text": f"{line}\n{paragraph}".strip(), "label": label, "name": row.name}
        files.setdefault(f"{row.split}.jsonl", []).append(one)
        if row.split == "train":
            train[row.section].append(one)
            files.setdefault("unlabelled.jsonl", []).append({"text": one["text"]})
        if paragraph:
            pair = {"text": line, "pair": paragraph, "name": row.name}
            files.setdefault(f"pairs_{row.split}.jsonl", []).append(pair)
    for number in LABELLED:
        each = number // len(names)
        files[f"train_{number}.jsonl"] = [
            one for place in range(each) for own in train.values()
            for one in own[place : place + 1]
        ]  # fmt: skip
    return files
