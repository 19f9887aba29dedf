"""The folder of images: which files there are and which of them can be read."""

import glob
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from pld_mmdet.detection.data.image_folder import IMAGE_SUFFIXES
from pld_mmdet.detection.data.images import image_fault
from pld_mmdet.errors import UserError

MAX_BROKEN = 0.05
MAX_RATIO = 50  # a thinner image has no pixel left after resizing


@dataclass
class Images:
    """Images to adapt to.

    Attributes:
        root: Folder that ``files`` are relative to.
        files: Readable images, sorted.
        broken: (file, what is wrong) of those that are left out.
        sizes: Smallest and largest width and height in pixels, (w, h) each.
    """

    root: Path
    files: list[str]
    broken: list[tuple[str, str]] = field(default_factory=list)
    sizes: tuple[tuple[int, int], tuple[int, int]] | None = None

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


def find_images(images: str | Path) -> tuple[Path, list[str]]:
    """List the images of a folder (recursively) or of a glob.

    Hidden files are left out, such as the ``._photo.jpg`` that another system writes
    beside each photo.

    Args:
        images: A folder, one image, or a pattern such as ``'shots/**/*.png'``.

    Returns:
        The folder and the sorted paths relative to it.

    Raises:
        UserError: There is no such folder, or no image in it.
    """
    text = str(images)
    if Path(text).is_dir():
        root = Path(text)
        found = [
            Path(p)
            for p in glob.glob(str(Path(glob.escape(text), "**", "*")), recursive=True)
        ]
    elif glob.has_magic(text) and not Path(text).is_file():
        parts = Path(text).parts
        at = next(i for i, part in enumerate(parts) if glob.has_magic(part))
        root = Path(*parts[:at]) if at else Path(".")
        if not root.is_dir():
            raise UserError(
                f"The folder {root} of the pattern {text} does not exist.",
                "Check the path (relative paths start at the current folder).",
            )
        found = [Path(p) for p in glob.glob(text, recursive=True)]
    elif Path(text).is_file():
        root, found = Path(text).parent, [Path(text)]
    else:
        raise UserError(
            f"The image folder {text} does not exist.",
            "Name a folder, or a pattern in quotes such as 'shots/**/*.png'.",
        )
    files = sorted(
        os.path.relpath(p, root)
        for p in found
        if p.suffix.lower() in IMAGE_SUFFIXES
        and not p.name.startswith(".")
        and p.is_file()
    )
    if not files:
        other = len([p for p in found if p.is_file()])
        raise UserError(
            f"No image found in {text}"
            + (f" ({other} other files are there)." if other else " (it is empty)."),
            f"Images end in {', '.join(IMAGE_SUFFIXES)}.",
        )
    return root, files


def check_images(
    root: Path,
    files: list[str],
    on_progress: Callable[[int, int], None] | None = None,
    max_broken: float = MAX_BROKEN,
) -> Images:
    """Decode every image once and leave out those that cannot be read.

    Args:
        root: From :func:`find_images`.
        files: From :func:`find_images`.
        on_progress: Called with (done, all) while it works.
        max_broken: Largest share of unreadable files.

    Raises:
        UserError: More files are broken than that.
    """
    paths = [root / name for name in files]
    good, broken, sizes = [], [], []
    # Decoding releases the lock of the interpreter, so threads are enough.
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        for n, (fault, size) in enumerate(pool.map(image_fault, paths)):
            if fault is None and max(size) > MAX_RATIO * min(size):
                fault = f"too thin, {size[0]} x {size[1]} px"
            if fault is None:
                good.append(files[n])
                sizes.append(size)
            else:
                broken.append((files[n], fault))
            if on_progress is not None:
                on_progress(n + 1, len(files))
    if len(broken) > max_broken * len(files):
        first = "; ".join(f"{name} ({what})" for name, what in broken[:5])
        more = f" and {len(broken) - 5} more" if len(broken) > 5 else ""
        raise UserError(
            f"{len(broken)} of {len(files)} images in {root} cannot be read, more than "
            f"{100 * max_broken:g} %: {first}{more}.",
            "Copy the folder again, or move the broken files out of it.",
        )
    low = tuple(min(s[i] for s in sizes) for i in (0, 1))
    high = tuple(max(s[i] for s in sizes) for i in (0, 1))
    return Images(root, good, broken, (low, high))
