"""``--val``: labels that measure. Believed only after a look, before anything runs."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path

from pld_mmdet.adaptation.folder import look_at
from pld_mmdet.detection.data.coco import read_coco
from pld_mmdet.detection.evaluation.ap50 import match_classes
from pld_mmdet.engine.data.images import MAX_PIXELS, image_size
from pld_mmdet.engine.state.files import each_once
from pld_mmdet.errors import UserError
from pld_mmdet.waiting import counted

SLACK = 2  # pixels that a box may reach over the edge


def find_labels(
    val: str | Path | None,
    val_images: str | Path | None,
    root: Path,
    classes: Sequence[str],
    max_pixels: int = MAX_PIXELS,
    say: Callable[[str], None] = print,
) -> dict:
    """Check the annotation file and find the folder of its images.

    Args:
        val: COCO json, or None.
        val_images: Folder that its file names are relative to; None: it is searched.
        root: Folder of the unlabelled images, which is searched too.
        classes: Of the detector.
        max_pixels: See :func:`pld_mmdet.engine.data.images.image_fault`.
        say: Receives the folder, and the time left where it takes long.

    Returns:
        ``val`` and ``val_root``; nothing without ``val``.

    Raises:
        UserError: The file or an entry of it is broken, its classes are others, two
            folders could be meant, or one of its images is missing, cannot be read or
            has another size.
    """
    if val is None:
        return {}
    path = Path(val).resolve()
    if not path.is_file():
        raise UserError(
            f"The annotation file {val} does not exist.",
            "Name a COCO json, or leave --val out: labels are only used to measure.",
        )
    content = read_coco(
        path,
        "Name a COCO json, or leave --val out.",
        needs=("images", "annotations", "categories"),
        complete=True,
    )
    match_classes(classes, content, str(val))
    images, annotations = content["images"], content["annotations"]
    if not images or not annotations:
        what = "annotation" if images else "image"
        raise UserError(
            f"{val} lists no {what}, so there is nothing to measure.",
            "Name a COCO json with labelled images, or leave --val out.",
        )
    place = _place(path, Path(val_images) if val_images else None, root, images)
    say(f"Labels:   {len(images)} images of {path.name} in {place}")
    _check_images(str(val), place, images, annotations, max_pixels, say)
    return dict(val=path, val_root=place.resolve())


def _place(path: Path, named: Path | None, root: Path, images: list[dict]) -> Path:
    """The one folder that has the first image."""
    first = images[0]["file_name"]
    places = [named] if named else [root, path.parent, path.parent.parent]
    there = {place / first: place for place in places}
    found = [there[file] for file in each_once(there)]
    if not found:
        raise UserError(
            f"The images of {path} (for example {first}) were not found in "
            f"{', '.join(map(str, places))}.",
            "Name their folder with --val-images.",
        )
    if len(found) > 1:
        raise UserError(
            f"{first} of {path} is in {' and in '.join(map(str, found))}, and these "
            "are different files.",
            "Name the folder that the labels belong to with --val-images.",
        )
    return found[0]


def _check_images(
    val: str,
    place: Path,
    images: list[dict],
    annotations: list[dict],
    max_pixels: int,
    say: Callable[[str], None],
) -> None:
    boxes = defaultdict(list)
    for annotation in annotations:
        boxes[annotation["image_id"]].append(annotation["bbox"])
    paths = [place / image["file_name"] for image in images]
    wrong = []
    looked = counted(look_at(paths, max_pixels), len(paths), "images of --val", say)
    for image, path, (fault, size) in zip(images, paths, looked, strict=True):
        stated = (image["width"], image["height"])
        if fault is None and stated != size:
            fault = _other_size(path, size, stated, boxes[image["id"]])
        if fault is not None:
            wrong.append(f"{image['file_name']} ({fault})")
    if wrong:
        more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise UserError(
            f"{val}: {len(wrong)} of its {len(images)} images in {place} cannot be "
            f"measured on: {'; '.join(wrong[:3])}{more}.",
            "Copy them again, correct their sizes and boxes in the json, or take them "
            "out of it.",
        )


def _other_size(path: Path, size: tuple, stated: tuple, boxes: list) -> str | None:
    """What is wrong, unless boxes of the turned photo stand beside its old sides."""
    if stated == size[::-1]:
        width, height = size
        if all(
            min(x, y) >= -SLACK and x + w <= width + SLACK and y + h <= height + SLACK
            for x, y, w, h in boxes
        ):
            return None
        if image_size(path) == stated:
            return "turned by EXIF; the boxes are those of the unturned photo"
    return f"{size[0]} x {size[1]} px, the file says {stated[0]} x {stated[1]}"
