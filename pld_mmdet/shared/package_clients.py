"""Packages fetched by their ordinary clients: apt and pip. No root, no installation."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from pld_mmdet.errors import UserError
from pld_mmdet.shared.packages import Package, cache_folder, in_words
from pld_mmdet.waiting import duration

_EVERY = 5.0  # seconds between two lines about a download
_APT = ["apt-get", "-q", "-o", "APT::Sandbox::User=root"]
_KEYS = Path("/usr/share/keyrings/debian-archive-keyring.gpg")


def by_apt(package: Package, place: Path, say: Callable[[str], None]) -> None:
    """The pinned version if the archive still has it, else the one that it has.

    A machine whose package lists were never fetched gets lists of its own in the cache.
    """
    command = [*_APT, "download"]
    own = _own_lists(cache_folder() / "apt")
    refresh = [*command[:-1], *own, "update"]
    pinned = f"{package.name}={package.version}"
    tries = [
        [*command, pinned],
        [*command, package.name],
        refresh,
        [*command, *own, pinned],
        [*command, *own, package.name],
    ]
    for step in tries:
        code, words = _client(step, package, place, say)
        if code == 0 and step is not refresh:
            return
        if "Unable to fetch" in words or "Failed to fetch" in words:
            break  # the lists know it; it is the network
    _no_download(package, words)


def by_pip(package: Package, place: Path, say: Callable[[str], None]) -> None:
    """A wheel and nothing else: the source of a package would be run."""
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--quiet"]
    command += ["--disable-pip-version-check", "--only-binary", ":all:", "--dest", "."]
    for name in (f"{package.name}=={package.version}", package.name):
        code, words = _client([*command, name], package, place, say)
        if code == 0:
            return
        if "No matching distribution" not in words or "Connection" in words:
            break
    _no_download(package, words)


def index_by_apt(index: Package, release: str, say: Callable[[str], None]) -> Path:
    """Debian's package lists with their descriptions, whatever this machine runs.

    Args:
        index: What to get by hand if there is no apt or no network.
        release: ``bookworm``.
        say: Receives what goes on.

    Returns:
        The folder of the lists, as text; apt has checked their signatures.

    Raises:
        UserError: No apt, no network, no key of Debian.
    """
    folder = cache_folder() / f"apt-{release}"
    own = _own_lists(folder)
    key = f"[signed-by={_KEYS}] " if _KEYS.is_file() else ""
    source = f"deb {key}http://deb.debian.org/debian {release} main\n"
    (folder / "sources.list").write_text(source, encoding="utf-8")
    pairs = {
        "Dir::Etc::SourceList": folder / "sources.list",
        "Dir::Etc::SourceParts": "/dev/null",
        "Acquire::Languages": "en",
        "Acquire::GzipIndexes": "false",
        "APT::Update::Error-Mode": "any",
    }
    more = [word for key, to in pairs.items() for word in ("-o", f"{key}={to}")]
    say(f"fetching the package lists of {release} (15 MB)")
    code, words = _client([*_APT, *own, *more, "update"], index, folder, say)
    if code:
        _no_download(index, words)
    return folder / "lists"


def _own_lists(folder: Path) -> list[str]:
    """Options of apt for package lists that need no root."""
    for name in ("lists/partial", "cache/archives/partial"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    places = {"State::Lists": "lists", "Cache": "cache"}
    pairs = [f"Dir::{key}={folder / name}" for key, name in places.items()]
    return [word for pair in pairs for word in ("-o", pair)]


def _client(
    command: list[str], package: Package, place: Path, say: Callable[[str], None]
) -> tuple[int, str]:
    """Run a client in a folder; its exit code and its complaint."""
    if shutil.which(command[0]) is None:
        raise UserError(
            f"{package.name} comes from Debian, and there is no {command[0]} here.",
            f"{package.by_hand}DIR.",
        )
    began = last = time.monotonic()
    log = place / ".log"
    with log.open("w+", encoding="utf-8", errors="replace") as words:
        environment = {**os.environ, "LC_ALL": "C"}
        with subprocess.Popen(
            command, cwd=place, env=environment, stdin=subprocess.DEVNULL,
            stdout=words, stderr=words,
        ) as running:  # fmt: skip
            try:
                while running.poll() is None:
                    time.sleep(0.05)
                    now = time.monotonic()
                    if now - last >= _EVERY:
                        last = now
                        say(_progress(package, place, now - began))
            except BaseException:
                running.kill()
                raise
        words.seek(0)
        return running.returncode, words.read()


def _progress(package: Package, place: Path, seconds: float) -> str:
    done = sum(path.stat().st_size for path in place.rglob("*") if path.is_file())
    text = f"{package.name}: {in_words(done)}"
    if not 0 < done < package.bytes:
        return text
    left = duration(seconds / done * (package.bytes - done))
    return f"{text} of {in_words(package.bytes)}, about {left} left"


def _no_download(package: Package, words: str) -> None:
    marks = ("E:", "ERROR", "WARNING", "Err:")
    lines = [line for line in words.splitlines() if line.startswith(marks)]
    said = (lines or words.splitlines() or ["no word"])[-1].strip().rstrip(".")
    raise UserError(
        f"{package.name} {package.version} could not be fetched ({said[:200]}).",
        f"{package.by_hand}DIR.",
    )
