"""OV-COCO: which of COCO's classes are base (48) and which novel (17).

The split of Bansal et al. (2018) that open-vocabulary papers use: training sees boxes
of the base classes only; evaluation is on the 65 classes.
"""

from collections.abc import Sequence

from pld_mmdet.errors import UserError

NOVEL = [
    "airplane",
    "bus",
    "cat",
    "dog",
    "cow",
    "elephant",
    "umbrella",
    "tie",
    "snowboard",
    "skateboard",
    "cup",
    "knife",
    "cake",
    "couch",
    "keyboard",
    "sink",
    "scissors",
]
BASE = [
    "person",
    "bicycle",
    "car",
    "motorcycle",
    "train",
    "truck",
    "boat",
    "bench",
    "bird",
    "horse",
    "sheep",
    "bear",
    "zebra",
    "giraffe",
    "backpack",
    "handbag",
    "suitcase",
    "frisbee",
    "skis",
    "kite",
    "surfboard",
    "bottle",
    "fork",
    "spoon",
    "bowl",
    "banana",
    "apple",
    "sandwich",
    "orange",
    "broccoli",
    "carrot",
    "pizza",
    "donut",
    "chair",
    "bed",
    "toilet",
    "tv",
    "laptop",
    "mouse",
    "remote",
    "microwave",
    "oven",
    "toaster",
    "refrigerator",
    "book",
    "clock",
    "vase",
    "toothbrush",
]

# The same idea on FoggyStreets, for a run without COCO and without CLIP.
STREETS_BASE = ["person", "rider", "car", "truck", "bicycle"]
STREETS_NOVEL = ["bus", "train", "motorcycle"]


def keep_classes(
    content: dict, classes: Sequence[str], annotated: Sequence[str] | None = None
) -> dict:
    """A COCO file that lists ``classes`` in this order.

    mmdet numbers labels by the order of the categories in the file; here it is the
    order of ``classes``. All images stay; ids stay.

    Args:
        content: COCO json content.
        classes: Category names to list.
        annotated: Those whose annotations stay; None: all of ``classes``.

    Returns:
        New content; the annotations are not copied.

    Raises:
        UserError: A class is not in the file.
    """
    by_name = {category["name"]: category for category in content["categories"]}
    missing = [name for name in classes if name not in by_name]
    if missing:
        raise UserError(
            f"The annotation file has no category {missing[0]!r}.",
            f"It lists {', '.join(by_name)}.",
        )
    wanted = {by_name[name]["id"] for name in (annotated or classes)}
    return {
        **content,
        "categories": [by_name[name] for name in classes],
        "annotations": [
            row for row in content["annotations"] if row["category_id"] in wanted
        ],
    }


def ov_coco_classes(content: dict) -> list[str]:
    """The 65 names in the order of COCO's file."""
    chosen = set(BASE) | set(NOVEL)
    return [c["name"] for c in content["categories"] if c["name"] in chosen]
