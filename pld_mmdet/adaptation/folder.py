"""The folder of images: which files there are and which of them can be read."""

import glob
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path

from pld_mmdet.detection.data.image_folder import IMAGE_SUFFIXES
from pld_mmdet.engine.data.images import MAX_PIXELS, image_fault
from pld_mmdet.engine.state.files import each_once
from pld_mmdet.errors import UserError
from pld_mmdet.waiting import counted

MAX_BROKEN = 0.05
# Of phones and cameras; whoever has them wants to know that they are not read.
_OTHER_PICTURES = (".heic", ".heif", ".avif", ".dng", ".cr2", ".nef", ".arw", ".gif")
_OTHER_PICTURES += (".jp2", ".jxl", ".jfif", ".ppm", ".pgm", ".exr")
MAX_RATIO = 50  # a thinner image has no pixel left after resizing


@dataclass
class Images:
    """Images to adapt to.

    Attributes:
        root: Folder that ``files`` are relative to.
        files: Readable images, sorted.
        broken: (file, what is wrong) of those that are left out.
        sizes: Smallest and largest width and height in pixels, (w, h) each.
        each: Width and height of each of the files.
    """

    root: Path
    files: list[str]
    broken: list[tuple[str, str]] = field(default_factory=list)
    sizes: tuple[tuple[int, int], tuple[int, int]] | None = None
    each: list[tuple[int, int]] | None = None

    def sentence(self) -> str:
        """Count, place and sizes in one line."""
        text = f"{len(self.files)} images in {self.root}"
        if self.sizes is not None:
            low, high = self.sizes
            size = f"{low[0]} x {low[1]}"
            if low != high:
                size += f" to {high[0]} x {high[1]}"
            text += f", {size} px"
        return text + (f"; {len(self.broken)} skipped" if self.broken else "")

    def broken_sentence(self) -> str:
        """Names of the files that were left out, for the end of a run."""
        if not self.broken:
            return ""
        names = "; ".join(f"{name} ({what})" for name, what in self.broken)
        return f"Skipped {len(self.broken)} unreadable images: {names}"


def find_images(
    images: str | Path, say: Callable[[str], None] = print
) -> tuple[Path, list[str]]:
    """List the images of a folder (recursively) or of a glob.

    Hidden files are left out, such as the ``._photo.jpg`` that another system writes
    beside each photo.

    Args:
        images: A folder, one image, or a pattern such as ``'shots/**/*.png'``; the
            folders before the first part that is no folder's name are no pattern.
        say: Receives how many pictures in other formats are left out.

    Returns:
        The folder and the sorted paths relative to it.

    Raises:
        UserError: There is no such folder, or no image in it.
    """
    text = str(images)
    if not text.strip():
        raise UserError(
            "The image folder is an empty string.",
            "Name a folder; the current one is '.'.",
        )
    if Path(text).is_dir():
        root = Path(text)
        found = list(_walk(root))
    elif glob.has_magic(text) and not Path(text).is_file():
        parts = Path(text).parts
        at = next(
            i
            for i, part in enumerate(parts)
            if glob.has_magic(part) and not Path(*parts[: i + 1]).is_dir()
        )
        root = Path(*parts[:at]) if at else Path(".")
        if not root.is_dir():
            raise UserError(
                f"The folder {root} of the pattern {text} does not exist.",
                "Check the path (relative paths start at the current folder).",
            )
        if "**" in parts[at:]:
            found = [
                path
                for path in _walk(root)
                if _matches(path.relative_to(root).parts, parts[at:])
            ]
        else:
            escaped = Path(glob.escape(str(root)), *parts[at:])
            found = [Path(p) for p in glob.glob(str(escaped))]
    elif Path(text).is_file():
        root, found = Path(text).parent, [Path(text)]
    else:
        raise UserError(
            f"The image folder {text} does not exist.",
            "Name a folder, or a pattern in quotes such as 'shots/**/*.png'.",
        )
    named = [
        path
        for path in found
        if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")
    ]
    files = sorted(os.path.relpath(path, root) for path in each_once(named))
    other = Counter(p.suffix.lower() for p in found) & Counter(
        dict.fromkeys(_OTHER_PICTURES, len(found))
    )
    if files and other:
        kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(other.items()))
        say(f"Left out of {text}: {kinds}; read are {', '.join(IMAGE_SUFFIXES)}.")
    if not files:
        other = len([p for p in found if p.is_file()])
        raise UserError(
            f"No image found in {text}"
            + (f" ({other} other files are there)." if other else " (it is empty)."),
            f"Images end in {', '.join(IMAGE_SUFFIXES)}.",
        )
    return root, files


def _walk(folder: Path) -> Iterator[Path]:
    """Files below a folder; links are followed, but into no folder twice."""
    seen = set()
    for at, folders, names in os.walk(folder, followlinks=True):
        status = os.stat(at)
        if (status.st_dev, status.st_ino) in seen:
            folders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        # Own sub-folders before links, so that a file is named by its own path.
        folders.sort(key=lambda name: (os.path.islink(os.path.join(at, name)), name))
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in sorted(names):
            yield Path(at, name)


def _matches(path: Sequence[str], pattern: Sequence[str]) -> bool:
    """Glob with ``**`` on the parts of a path; glob's own search runs in circles."""
    if not pattern:
        return not path
    if pattern[0] == "**":
        rest = pattern[1:]
        return any(_matches(path[n:], rest) for n in range(len(path) + 1))
    return (
        bool(path)
        and fnmatchcase(path[0], pattern[0])
        and _matches(path[1:], pattern[1:])
    )


def _name_fault(name: str) -> str | None:
    """What keeps a path out of a list with a name a line."""
    if shown(name) == name:
        return None
    return (
        "its name has a line break" if {*"\r\n"} & {*name} else "its name is no UTF-8"
    )


def shown(name: str) -> str:
    """A path as text that can be printed and written."""
    name = name.replace("\n", "\\n").replace("\r", "\\r")
    return name.encode("utf-8", "backslashreplace").decode()


def look_at(
    paths: list[Path], max_pixels: int = MAX_PIXELS
) -> Iterator[tuple[str | None, tuple[int, int] | None]]:
    """:func:`image_fault` of each path, in order.

    Decoding releases the lock of the interpreter, so threads are enough.
    """
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        yield from pool.map(partial(image_fault, max_pixels=max_pixels), paths)


def check_images(
    root: Path,
    files: list[str],
    max_broken: float = MAX_BROKEN,
    max_pixels: int = MAX_PIXELS,
    say: Callable[[str], None] = print,
) -> Images:
    """Decode every image once and leave out those that cannot be read.

    Args:
        root: From :func:`find_images`.
        files: From :func:`find_images`.
        max_broken: Largest share of unreadable files.
        max_pixels: Images with more (width times height) count as unreadable; they are
            not decoded.
        say: Receives the time left, where it takes long.

    Raises:
        UserError: More files are broken than that.
    """
    paths = [root / name for name in files]
    good, broken, sizes = [], [], []
    looked = counted(look_at(paths, max_pixels), len(paths), "images checked", say)
    for n, (fault, size) in enumerate(looked):
        fault = fault or _name_fault(files[n])
        if fault is None and max(size) > MAX_RATIO * min(size):
            fault = f"too thin, {size[0]} x {size[1]} px"
        if fault is None:
            good.append(files[n])
            sizes.append(size)
        else:
            broken.append((shown(files[n]), fault))
    if not good or len(broken) > max_broken * len(files):
        share = f", more than {100 * max_broken:g} %" if good else ""
        first = "; ".join(f"{name} ({what})" for name, what in broken[:5])
        more = f" and {len(broken) - 5} more" if len(broken) > 5 else ""
        raise UserError(
            f"{len(broken)} of {len(files)} images in {root} cannot be read{share}: "
            f"{first}{more}.",
            "Copy the folder again, or move the broken files out of it.",
        )
    low = tuple(min(s[i] for s in sizes) for i in (0, 1))
    high = tuple(max(s[i] for s in sizes) for i in (0, 1))
    return Images(root, good, broken, (low, high), sizes)
