"""Has the training data what it is to teach?"""

from collections.abc import Iterator
from typing import Any

from pld_mmdet.errors import UserError


def require_boxes(dataset: Any) -> None:
    """Refuse labelled training data in which no image has a box.

    A detector would learn that all is background, and nothing would say so. Data whose
    pipeline loads no boxes (unlabelled images, classes, maps) is not asked. Reading
    stops at the first box.

    Args:
        dataset: What a training loader draws from, wrapped and joined as it may be.

    Raises:
        UserError: Names the annotation files.
    """
    labelled = [part for part in _parts(dataset) if _loads_boxes(part)]
    if not labelled or any(_has_box(part) for part in labelled):
        return
    files = dict.fromkeys(str(getattr(p, "ann_file", "?")) for p in labelled)
    raise UserError(
        f"No image of the training data has a box ({', '.join(files)}; "
        f"{sum(map(len, labelled))} images): a detector would learn that everything is "
        "background.",
        "Correct ann_file, and metainfo.classes: boxes of other classes are passed "
        "over. python tools/check_data.py CONFIG shows what the files hold.",
    )


def _parts(dataset: Any) -> Iterator[Any]:
    """The data sets inside of wrappers."""
    inner = getattr(dataset, "datasets", None)
    if not isinstance(inner, list | tuple):
        inner = [getattr(dataset, "dataset", None)]
    if len(inner) == 1 and inner[0] is None:
        yield dataset
    else:
        for part in inner:
            yield from _parts(part)


def _loads_boxes(dataset: Any) -> bool:
    steps = getattr(getattr(dataset, "pipeline", None), "transforms", ())
    return hasattr(dataset, "get_data_info") and any(
        getattr(step, "with_bbox", False)
        and any(kind.__name__ == "LoadAnnotations" for kind in type(step).__mro__)
        for step in steps
    )


def _has_box(dataset: Any) -> bool:
    return any(
        not box.get("ignore_flag")
        for n in range(len(dataset))
        for box in dataset.get_data_info(n).get("instances", ())
    )
