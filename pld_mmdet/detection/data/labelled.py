"""From images with named boxes to a COCO json: what every converter ends with."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pld_mmdet.errors import UserError

from .cityscapes import statistics
from .files import write_bytes


@dataclass
class Box:
    """One object.

    Args:
        name: What the data set calls its class.
        corners: x1, y1, x2, y2 in pixels, exclusive right and lower edge.
        crowd: A region whose detections count neither as right nor as wrong.
        difficult: VOC's mark: used in training, left out of the metric.
    """

    name: str
    corners: tuple[float, float, float, float]
    crowd: bool = False
    difficult: bool = False


@dataclass
class LabelledImage:
    """An image file with its boxes.

    Args:
        file_name: Relative to the data root.
        width: Pixels.
        height: Pixels.
        boxes: Objects.
        source: File that the boxes come from, for messages.
    """

    file_name: str
    width: int
    height: int
    boxes: list[Box] = field(default_factory=list)
    source: str = ""


def coco_content(
    images: Iterable[LabelledImage],
    classes: Sequence[str],
    mapping: Mapping[str, str | None] | None = None,
) -> dict[str, Any]:
    """A COCO json's content; classes are matched by name, never by number.

    Boxes are clipped to their image; one that is outside altogether is dropped and
    counted under ``info.outside``. Images without boxes stay.

    Args:
        images: In the order of their ids 1, 2, ...
        classes: Categories, ids 1, 2, ... in this order.
        mapping: Names of the data set to ``classes``; None leaves a name out. Names
            that are in ``classes`` need no entry.

    Returns:
        ``images``, ``annotations``, ``categories``, ``info``.

    Raises:
        UserError: A name that neither ``classes`` nor ``mapping`` knows.
    """
    number = {name: i for i, name in enumerate(classes, start=1)}
    mapping = {**{name: name for name in classes}, **(mapping or {})}
    listed, annotations, outside = [], [], 0
    for image_id, image in enumerate(images, start=1):
        listed.append(
            {
                "id": image_id,
                "file_name": image.file_name,
                "width": image.width,
                "height": image.height,
            }
        )
        for box in image.boxes:
            if box.name not in mapping:
                raise UserError(
                    f"{image.source or image.file_name}: unknown class {box.name!r}.",
                    f"Known are {', '.join(mapping)}.",
                )
            name = mapping[box.name]
            if name is None:
                continue
            x1, y1, x2, y2 = box.corners
            x1, x2 = (min(max(x, 0.0), float(image.width)) for x in (x1, x2))
            y1, y2 = (min(max(y, 0.0), float(image.height)) for y in (y1, y2))
            if x2 <= x1 or y2 <= y1:
                outside += 1
                continue
            annotation = {
                "id": len(annotations) + 1,
                "image_id": image_id,
                "category_id": number[name],
                "bbox": [x1, y1, x2 - x1, y2 - y1],
                "area": (x2 - x1) * (y2 - y1),
                "iscrowd": int(box.crowd),
                "difficult": int(box.difficult),
            }
            annotations.append(annotation)
    categories = [{"id": i, "name": name} for name, i in number.items()]
    return {
        "info": {"outside": outside},
        "images": listed,
        "annotations": annotations,
        "categories": categories,
    }


def write_split(root: Path, name: str, content: dict[str, Any]) -> dict[str, Any]:
    """Write ``annotations/<name>.json`` and ``annotations/<name>_images.txt``.

    The text file lists the images and nothing else: it is what source-free training
    may see (``ImageFolder(files=...)``).

    Args:
        root: Data root.
        name: Of the split.
        content: See :func:`coco_content`.

    Returns:
        Statistics (``cityscapes.statistics``).
    """
    folder = root / "annotations"
    names = "".join(f"{image['file_name']}\n" for image in content["images"])
    write_bytes(folder / f"{name}.json", json.dumps(content).encode())
    write_bytes(folder / f"{name}_images.txt", names.encode())
    return statistics(content)


def report_split(name: str, counts: dict[str, Any], expected: int | None) -> None:
    """Print a split's counts, and whether it is the whole set."""
    from .cityscapes import summary

    print(summary(name, counts))
    if expected is not None and counts["images"] != expected:
        print(
            f"{name}: {counts['images']} images, the full set has {expected}. "
            "Results will not compare with published ones."
        )


def listed_stems(path: Path, how: str) -> list[str]:
    """Image names of an ``ImageSets`` list (lines may carry a second column).

    Raises:
        UserError: The file is missing or names an image twice.
    """
    if not path.is_file():
        raise UserError(f"There is no {path}.", how)
    stems = [line.split()[0] for line in path.read_text().splitlines() if line.strip()]
    if len(set(stems)) < len(stems):
        twice = sorted({stem for stem in stems if stems.count(stem) > 1})
        raise UserError(f"{path} lists {twice[0]} twice.", "Unpack the data again.")
    return stems


def image_of(root: Path, folder: str, stem: str, how: str) -> str:
    """The image of a stem, jpg or png, relative to the root.

    Raises:
        UserError: Neither exists.
    """
    for suffix in (".jpg", ".png", ".jpeg", ".JPEG", ".JPG", ".PNG"):
        if (root / folder / f"{stem}{suffix}").is_file():
            return f"{folder}/{stem}{suffix}"
    raise UserError(f"The image {root / folder / stem}.jpg (or .png) is missing.", how)
