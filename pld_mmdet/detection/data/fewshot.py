"""Few-shot benchmarks: class orders, novel sets, K shots drawn the same everywhere.

Label order is base classes first (in the data set's order), then the novel ones. The
published lists of shots are not bundled: these shots are drawn from a seed, so numbers
are comparable among themselves and not, shot by shot, with papers.
"""

import zlib
from collections import Counter
from collections.abc import Sequence

import numpy as np

from pld_mmdet.detection.data.ov_coco import keep_classes
from pld_mmdet.errors import UserError

VOC = [
    "aeroplane",
    "bicycle",
    "bird",
    "boat",
    "bottle",
    "bus",
    "car",
    "cat",
    "chair",
    "cow",
    "diningtable",
    "dog",
    "horse",
    "motorbike",
    "person",
    "pottedplant",
    "sheep",
    "sofa",
    "train",
    "tvmonitor",
]
VOC_NOVEL = {
    1: ["bird", "bus", "cow", "motorbike", "sofa"],
    2: ["aeroplane", "bottle", "cow", "horse", "sofa"],
    3: ["boat", "cat", "motorbike", "sheep", "sofa"],
}
# The VOC classes under COCO's names are COCO's novel ones.
COCO_NOVEL = [
    "person",
    "bicycle",
    "car",
    "motorcycle",
    "airplane",
    "bus",
    "train",
    "boat",
    "bird",
    "cat",
    "dog",
    "horse",
    "sheep",
    "cow",
    "bottle",
    "chair",
    "couch",
    "tv",
    "potted plant",
    "dining table",
]
STREETS = ["person", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle"]
STREETS_NOVEL = ["train", "motorcycle"]


def base_then_novel(
    classes: Sequence[str], novel: Sequence[str]
) -> tuple[list[str], list[str]]:
    """Base classes in their order, and the novel ones in the order of ``novel``.

    Examples:
        >>> base, novel = base_then_novel(VOC, VOC_NOVEL[1])
        >>> len(base), base[:3], novel[0]
        (15, ['aeroplane', 'bicycle', 'boat'], 'bird')
    """
    strange = [name for name in novel if name not in classes]
    if strange:
        raise UserError(
            f"The novel class {strange[0]!r} is not a class of the data set.",
            f"The classes are {', '.join(classes)}.",
        )
    return [name for name in classes if name not in novel], list(novel)


def select_shots(
    content: dict,
    classes: Sequence[str],
    shots: int,
    seed: int = 0,
    most_objects: int | None = None,
) -> dict:
    """Exactly K boxes of each class, and the images they lie in.

    A class's draw depends on the seed and its name alone: other classes change nothing,
    and K shots are among the K + 1 shots of the same seed. Crowds and difficult objects
    are not drawn. An image's boxes that were not drawn lose their annotation, as in the
    published protocol (there, though, an image with shots of two classes counts twice,
    with one class each; here it is one image).

    Args:
        content: COCO json content.
        classes: Class names in the order of the labels.
        shots: K.
        seed: Of the draw.
        most_objects: Draw from images with at most so many objects of any class (VOC's
            images hold two or three); what is not drawn is background to the training.

    Returns:
        COCO json content with K x C annotations.

    Raises:
        UserError: A class has fewer than K objects.
    """
    if shots < 1:
        raise UserError(f"{shots} shots cannot be drawn.", "Take at least one.")
    listed = keep_classes(content, classes)
    rows_of: dict[int, list[dict]] = {c["id"]: [] for c in listed["categories"]}
    objects = Counter(row["image_id"] for row in listed["annotations"])
    for row in listed["annotations"]:
        if most_objects is not None and objects[row["image_id"]] > most_objects:
            continue
        if not (row.get("iscrowd") or row.get("difficult") or row.get("ignore")):
            rows_of[row["category_id"]].append(row)
    drawn = []
    for category in listed["categories"]:
        rows = sorted(rows_of[category["id"]], key=lambda row: row["id"])
        if len(rows) < shots:
            raise UserError(
                f"{shots} shots of {category['name']!r} are wanted, the data set has "
                f"{len(rows)}.",
                f"Take at most {len(rows)} shots.",
            )
        key = (seed, zlib.crc32(category["name"].encode()))
        order = np.random.default_rng(key).permutation(len(rows))
        drawn += [rows[i] for i in order[:shots]]
    used = {row["image_id"] for row in drawn}
    return {
        **listed,
        "images": [image for image in listed["images"] if image["id"] in used],
        "annotations": sorted(drawn, key=lambda row: row["id"]),
    }


def few_shot_files(
    train: dict,
    test: dict,
    base: Sequence[str],
    novel: Sequence[str],
    shots: Sequence[int],
    seed: int = 0,
    most_objects: int | None = None,
) -> dict[str, dict]:
    """All annotation files of a few-shot benchmark.

    Args:
        train: COCO json content of the training images.
        test: Of the test images.
        base: Base class names.
        novel: Novel class names.
        shots: The Ks.
        seed: Of the draw.
        most_objects: See :func:`select_shots`.

    Returns:
        File stem -> content: ``base`` (training images with base boxes), ``test_base``,
        ``test`` (all classes) and ``<K>shot_seed<seed>`` for each K.
    """
    classes = [*base, *novel]
    files = {
        "base": keep_classes(train, base),
        "test_base": keep_classes(test, base),
        "test": keep_classes(test, classes),
    }
    for count in shots:
        files[f"{count}shot_seed{seed}"] = select_shots(
            train, classes, count, seed, most_objects
        )
    return files
