"""From images with named boxes to a COCO json: what every converter ends with."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pld_mmdet.detection.data.cityscapes import statistics
from pld_mmdet.detection.data.files import write_bytes, write_json
from pld_mmdet.engine.data.images import image_size
from pld_mmdet.errors import UserError
from pld_mmdet.reading import users_text


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
        remarks: What is strange about it; counted and printed, so plural words.
    """

    file_name: str
    width: int
    height: int
    boxes: list[Box] = field(default_factory=list)
    source: str = ""
    remarks: list[str] = field(default_factory=list)


def coco_content(
    images: Iterable[LabelledImage],
    classes: Sequence[str],
    mapping: Mapping[str, str | None] | None = None,
) -> dict[str, Any]:
    """A COCO json's content; classes are matched by name, never by number.

    Boxes are clipped to their image. Those that are outside altogether, that have no
    width or height, or whose corners are exchanged are left out and counted under
    ``info.left_out``, which :func:`report_split` prints. Images without boxes stay.

    Args:
        images: In the order of their ids 1, 2, ...
        classes: Categories, ids 1, 2, ... in this order.
        mapping: Names of the data set to ``classes``; None leaves a name out. Names
            that are in ``classes`` need no entry.

    Returns:
        ``images``, ``annotations``, ``categories``, ``info``.

    Raises:
        UserError: A name that neither ``classes`` nor ``mapping`` knows, a corner that
            is NaN or infinite, or an image that is listed twice.
    """
    number = {name: i for i, name in enumerate(classes, start=1)}
    mapping = {**{name: name for name in classes}, **(mapping or {})}
    listed, annotations, left_out = [], [], Counter()
    sources: dict[str, str] = {}
    for image_id, image in enumerate(images, start=1):
        first = sources.setdefault(image.file_name, image.source)
        if len(sources) < image_id:
            raise UserError(
                f"The image {image.file_name} is listed twice"
                + (f" ({first} and {image.source})." if first else "."),
                "Take one of them out, or unpack the data again.",
            )
        left_out.update(image.remarks)
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
            fault, corners = _clipped(box, image)
            if fault is not None:
                left_out[fault] += 1
                continue
            x1, y1, x2, y2 = corners
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
        "info": {"left_out": dict(sorted(left_out.items()))},
        "images": listed,
        "annotations": annotations,
        "categories": categories,
    }


def _clipped(
    box: Box, image: LabelledImage
) -> tuple[str | None, tuple[float, float, float, float]]:
    """Why a box is left out (None: it stays), and its part inside the image."""
    if not all(map(math.isfinite, box.corners)):
        raise UserError(
            f"{image.source or image.file_name}: a box of class {box.name!r} has the "
            f"corners {box.corners}.",
            "Correct the file, or unpack the data again.",
        )
    x1, y1, x2, y2 = box.corners
    if x2 < x1 or y2 < y1:
        return "boxes with exchanged corners left out", box.corners
    if x2 == x1 or y2 == y1:
        return "boxes without width or height left out", box.corners
    x1, x2 = (min(max(x, 0.0), float(image.width)) for x in (x1, x2))
    y1, y2 = (min(max(y, 0.0), float(image.height)) for y in (y1, y2))
    fault = "boxes outside of their image left out"
    return (fault if x2 <= x1 or y2 <= y1 else None), (x1, y1, x2, y2)


def sized_image(
    root: Path,
    file_name: str,
    boxes: list[Box],
    source: str,
    stated: tuple[int, int] | None = None,
) -> LabelledImage:
    """An image with the size that its file has; only the header is read.

    Args:
        root: Data root.
        file_name: Below it.
        boxes: Objects.
        source: File that they come from.
        stated: Width and height that ``source`` states; remarked on when the file has
            others, and taken when the file cannot be read.

    Raises:
        UserError: The file is no image and no size is stated.
    """
    try:
        size = image_size(root / file_name)
    except OSError:
        size = None
    if size is None and stated is None:
        raise UserError(f"{root / file_name} is no image.", "Unpack the data again.")
    image = LabelledImage(file_name, *(size or stated), boxes, source)
    if size is None:
        image.remarks.append("images that cannot be read")
    elif stated not in (None, size):
        image.remarks.append(
            "images of another size than their annotation states (boxes may not fit)"
        )
    return image


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
    write_json(folder / f"{name}.json", content)
    write_bytes(folder / f"{name}_images.txt", names.encode())
    return statistics(content)


def report_split(name: str, counts: dict[str, Any], expected: int | None) -> None:
    """Print a split's counts, and whether it is the whole set."""
    from pld_mmdet.detection.data.cityscapes import summary

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
    lines = users_text(path, "list of images", how).splitlines()
    stems = [line.split()[0] for line in lines if line.strip()]
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
