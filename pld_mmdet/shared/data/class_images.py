"""Images in one folder a class: which there are, and what is wrong with them."""

import os
from pathlib import Path

import numpy as np

from pld_mmdet.engine.data.images import read_image
from pld_mmdet.engine.state.files import each_once
from pld_mmdet.errors import UserError

SUFFIXES = (".jpg", ".jpeg", ".png")
_LAYOUT = "Each class has a folder of its own, with .png or .jpg files in it."
# Where a folder has no parts of its own: train, then val, then test.
_SHARES = {"train": (0.0, 0.6), "val": (0.6, 0.75), "test": (0.75, 1.0)}
_ORDER_SEED = 20240607  # fixed for good: all runs are tested on the same images


def class_files(root: Path | str, fewest: int = 2) -> dict[str, list[Path]]:
    """The image files below ``root/<class>/``, classes and files by name.

    A file that links lead to twice counts once: else it could be in two parts.

    Args:
        root: Folder of the classes' folders.
        fewest: Classes that there must be [2: something to tell apart].

    Raises:
        UserError: No such folder, fewer classes, or a class without images.
    """
    root = Path(root)
    if not root.is_dir():
        raise UserError(f"There is no folder {root}.", _LAYOUT)
    names = sorted(entry.name for entry in os.scandir(root) if entry.is_dir())
    if not names:
        raise UserError(f"{root} has no class folder with images.", _LAYOUT)
    if len(names) < fewest:
        raise UserError(
            f"{root} has the one class {names[0]}: there is nothing to tell apart.",
            _LAYOUT,
        )
    files = {
        name: each_once(
            sorted(
                path
                for path in (root / name).iterdir()
                if path.suffix.lower() in SUFFIXES and not path.name.startswith("._")
            )
        )
        for name in names
    }
    for name, found in files.items():
        if not found:
            raise UserError(
                f"The class {name} of {root} has no images.",
                f"Put some into {root / name}, or remove that folder.",
            )
    return files


def part_files(root: Path | str, part: str) -> dict[str, list[Path]]:
    """The files of one part: ``root/<part>/<class>/``, or a share of each class.

    Without these three folders, 60, 15 and 25 % of each class are dealt
    out by a fixed order; each part gets at least one image of it.

    Args:
        root: Folder of the parts, or of the classes.
        part: ``train``, ``val`` or ``test``.

    Raises:
        UserError: As :func:`class_files`, parts of other classes, or a class of fewer
            than three images that would have to be dealt out.
    """
    root = Path(root)
    if all((root / name).is_dir() for name in _SHARES):
        found = class_files(root / part)
        train = class_files(root / "train")
        if found.keys() != train.keys():
            odd = sorted(found.keys() ^ train.keys())
            raise UserError(
                f"The parts train and {part} of {root} differ in their classes: "
                f"{', '.join(odd)}.",
                "Give all parts the same class folders.",
            )
        return found
    files = class_files(root)
    for name, found in files.items():
        if len(found) < 3:
            raise UserError(
                f"The class {name} of {root} has {len(found)} images, too few for "
                "train, val and test.",
                "Add images, or make the folders train, val and test yourself.",
            )
        order = np.random.default_rng(_ORDER_SEED).permutation(len(found))
        start, stop = (_cut(len(found), share) for share in _SHARES[part])
        files[name] = sorted(found[i] for i in order[start:stop])
    return files


def _cut(count: int, share: float) -> int:
    """Where a part begins: 0, at least 1 before and after the middle one, or all."""
    places = {0.0: 0, 0.6: min(max(1, round(0.6 * count)), count - 2), 1.0: count}
    if share in places:
        return places[share]
    return min(max(places[0.6] + 1, round(share * count)), count - 1)


def read_square(path: Path, size: int) -> np.ndarray:
    """The middle square of an image file, resized.

    Args:
        path: File.
        size: Side of the result in pixels.

    Returns:
        3 x size x size uint8, RGB.

    Raises:
        UserError: The file is no readable image.
    """
    import cv2  # heavy: configs without image files do not wait for it

    image = read_image(path)
    height, width = image.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    image = image[top : top + side, left : left + side]
    kind = cv2.INTER_AREA if side > size else cv2.INTER_LINEAR
    image = cv2.resize(image, (size, size), interpolation=kind)
    return np.ascontiguousarray(image.transpose(2, 0, 1))
