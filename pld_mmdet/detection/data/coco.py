"""COCO jsons of people: read whole, and believed only after a look at the numbers."""

import json
import math
from collections import Counter
from pathlib import Path
from typing import Any

from pld_mmdet.errors import UserError
from pld_mmdet.reading import parse_json, users_text

_LISTS = ("images", "annotations", "categories")


# Kinds of faults that tools/check_data.py counts in words of its own.
STRAY = "annotations belong to no image of the file"
TWICE = "images are listed twice"
NEGATIVE = "annotations have a bbox of negative width or height"
# Of all annotations together; each by itself could be meant.
SHARES = "annotations have a bbox in shares of the image (0 to 1), not in pixels"
CORNERS = "annotations have a bbox of corners (x1, y1, x2, y2), not x, y, width, height"


def read_coco(
    path: str | Path,
    fix: str = "Correct the file, or make it again.",
    needs: tuple[str, ...] = ("images",),
    complete: bool = False,
) -> dict[str, Any]:
    """Read a COCO annotation file and check it; see :func:`check_coco`.

    Args:
        path: The json.
        fix: What to do when it is missing or no json.
        needs: Lists that have to be there.
        complete: See :func:`check_coco`.

    Raises:
        UserError: It cannot be read, is no COCO json, or has broken entries.
    """
    try:
        content = parse_json(users_text(path, "annotation file", fix))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is no json ({error}).", fix) from error
    for name in needs if isinstance(content, dict) else ():
        if name not in content:
            raise _no_coco(str(path), name)
    check_coco(content, str(path), complete)
    return content


def _no_coco(source: str, lacks: str) -> UserError:
    return UserError(
        f"{source} is no COCO annotation file (it has no list of {lacks}).",
        "Name a COCO json: images, annotations, categories.",
    )


def check_coco(content: Any, source: str, complete: bool = False) -> None:
    """Refuse a COCO json whose entries cannot be meant.

    Boxes without width or height pass, as COCO's own files have some; so do boxes that
    reach over the edge of their image.

    Args:
        content: The parsed file.
        source: Named in the error.
        complete: Also what mmdet's ``CocoDataset`` reads has to be there: sizes and
            file names of all images, ids and areas of all annotations.

    Raises:
        UserError: Says how many entries are wrong in which way, with an example each.
    """
    if not isinstance(content, dict):
        raise _no_coco(source, "images")
    for name in _LISTS:
        rows = content.get(name, None if complete else [])
        if not isinstance(rows, list) or not all(isinstance(r, dict) for r in rows):
            raise _no_coco(source, name)
    faults = coco_faults(content, complete)
    if faults:
        what = "; ".join(
            f"{number} {kind}, e.g. {example}"
            for kind, (number, example) in list(faults.items())[:4]
        )
        raise UserError(f"{source}: {what}.", "Correct or delete these entries.")


def coco_faults(content: dict, complete: bool = False) -> dict[str, tuple[int, str]]:
    """Kind of fault -> how many entries, and one of them; most frequent first.

    Args:
        content: COCO json content, whose parts are lists of dicts.
        complete: See :func:`check_coco`.
    """
    kinds: Counter = Counter()
    examples: dict[str, str] = {}

    def note(fault: str | None, row: dict) -> None:
        if fault is not None:
            kinds[fault] += 1
            examples.setdefault(fault, _short(row))

    categories: set = set()
    for row in content.get("categories", []):
        note(_category_fault(row, categories), row)
    sizes = None if "images" not in content else {}
    files: set = set()
    for row in content.get("images", []):
        note(_image_fault(row, sizes, files, complete), row)
    seen: set = set()
    sound = []
    for row in content.get("annotations", []):
        fault = _annotation_fault(row, sizes, categories, seen, complete)
        note(fault, row)
        if fault is None:
            sound.append(row)
    fault = _convention_fault(sound, sizes or {})
    for row in sound if fault else ():
        note(fault, row)
    return {kind: (number, examples[kind]) for kind, number in kinds.most_common()}


def _category_fault(row: dict, categories: set) -> str | None:
    if not _is_id(row.get("id")) or not isinstance(row.get("name"), str):
        return "categories have no id or name"
    if row["id"] in categories:
        return "categories have an id twice"
    categories.add(row["id"])
    return None


def _image_fault(row: dict, sizes: dict, files: set, complete: bool) -> str | None:
    if not _is_id(row.get("id")):
        return "images have no id"
    if row["id"] in sizes:
        return "images have an id twice"
    size = [row.get(key) for key in ("width", "height")]
    sizes[row["id"]] = None if None in size else size
    name = row.get("file_name")
    if name is not None and name in files:
        return TWICE
    if name is not None or complete:
        if not isinstance(name, str) or not name:
            return "images have no file_name"
        files.add(name)
    if (complete or sizes[row["id"]]) and not all(
        _is_number(side) and side > 0 for side in size
    ):
        sizes[row["id"]] = None
        return "images have no width and height above 0"
    return None


def _annotation_fault(
    row: dict, sizes: dict | None, categories: set, seen: set, complete: bool
) -> str | None:
    image, category = row.get("image_id"), row.get("category_id")
    if not _is_id(image) or (sizes is not None and image not in sizes):
        return STRAY
    named = "category_id" in row or complete
    if named and (not _is_id(category) or category not in categories):
        return "annotations have an unknown category"
    if "id" in row or complete:
        if not _is_id(row.get("id")) or row["id"] in seen:
            return "annotations have no id of their own"
        seen.add(row["id"])
    box = row.get("bbox")
    if not isinstance(box, list | tuple) or len(box) != 4:
        return "annotations have no bbox of four numbers"
    if not all(map(_is_number, box)):
        return "annotations have a bbox that is NaN, infinite or no number"
    left, top, wide, tall = box
    if min(wide, tall) < 0:
        return NEGATIVE
    if sizes and sizes[image]:
        width, height = sizes[image]
        if left > width or top > height or left + wide < 0 or top + tall < 0:
            return "annotations lie outside of their image"
        # Boxes end a few pixels past the edge; a scale that is wrong goes on.
        if wide > 2 * width or tall > 2 * height:
            return "annotations are more than twice as large as their image"
    area = row.get("area", None if complete else 0)
    if not _is_number(area) or area < 0:
        return "annotations have an area that is no number from 0 on"
    return None


def _convention_fault(rows: list[dict], sizes: dict) -> str | None:
    """Boxes of another file format, which all pass one by one.

    mmdet leaves shares of the image out without a word, and reads corners as boxes that
    reach over the edge.
    """
    boxes = [row["bbox"] for row in rows]
    if any(map(any, boxes)) and all(max(box) <= 1 for box in boxes):
        return SHARES
    if len(boxes) < 5 or not all(
        wide >= left and tall >= top for left, top, wide, tall in boxes
    ):
        return None
    over = 0
    for row in rows:
        left, top, wide, tall = row["bbox"]
        width, height = sizes.get(row["image_id"]) or (math.inf, math.inf)
        over += left + wide > 1.1 * width or top + tall > 1.1 * height
    return CORNERS if over > 0.2 * len(boxes) else None


def _is_id(value: Any) -> bool:
    return isinstance(value, int | str) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return (
        isinstance(value, int | float)
        and not isinstance(value, bool)
        and math.isfinite(value)
    )


def _short(row: dict) -> str:
    kept = {k: v for k, v in row.items() if k not in ("segmentation", "caption")}
    text = json.dumps(kept)
    return text if len(text) <= 160 else f"{text[:157]}..."
