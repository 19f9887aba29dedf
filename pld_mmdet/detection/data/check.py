"""Does the data of a config hold what the config says? Counts, files, class names."""

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

from pld_mmdet.detection.data.cityscapes import statistics
from pld_mmdet.detection.data.coco import (
    CORNERS,
    NEGATIVE,
    SHARES,
    STRAY,
    TWICE,
    coco_faults,
)
from pld_mmdet.detection.data.pool import run_jobs
from pld_mmdet.engine.data.images import image_fault
from pld_mmdet.engine.state.checkpoint import load_checkpoint_file
from pld_mmdet.engine.state.provenance import data_sets
from pld_mmdet.errors import UserError
from pld_mmdet.reading import parse_json, read_text

SPLITS = ("train", "val", "test")
# What mends a problem.
CLASSES_AGREE = (
    "Make metainfo.classes of the config, the annotations and the checkpoint the same, "
    "in names and order"
)
OBTAIN = "Make or download the data again"
WRITE = "Write each bbox as x, y, width, height in pixels, and an area above 0"
DELETE = "Delete the broken files"
COUNT = "Complete the data, or change expected_counts if a part is wanted"


class Problem(NamedTuple):
    """What is wrong (a sentence without full stop) and the remedy."""

    what: str
    fix: str


@dataclass
class Part:
    """What one data set of one split holds.

    Args:
        split: ``train``, ``val`` or ``test``.
        source: Annotation file, or what stands in its place.
        classes: Class names of the config, in order.
        paths: Image files.
        counts: See :func:`pld_mmdet.detection.data.cityscapes.statistics`; None for
            images without annotations.
        sizes: How many images have which (width, height).
        faults: What is wrong with which image file.
        problems: What else is wrong.
    """

    split: str
    source: str
    classes: tuple[str, ...] = ()
    paths: list[str] = field(default_factory=list)
    counts: dict[str, Any] | None = None
    sizes: Counter = field(default_factory=Counter)
    faults: dict[str, str] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def complain(self, what: str, fix: str) -> None:
        """Note a problem."""
        self.problems.append(Problem(what, fix))

    @property
    def missing(self) -> int:
        """Images that do not exist."""
        return sum(fault == "missing" for fault in self.faults.values())


def check_data(
    cfg, checkpoint: str | None = None, fast: bool = False, workers: int = 1
) -> list[Part]:
    """Look at the data of a config.

    Args:
        cfg: The resolved config.
        checkpoint: Compare the class names in this file as well.
        fast: Do not decode the images, only look whether they exist and end properly.
        workers: Processes that decode.

    Returns:
        One part per data set, with its problems. A split whose loader is absent has
        none.

    Raises:
        UserError: The config has no data loader, or the checkpoint cannot be read.
    """
    parts = []
    scope = cfg.get("default_scope")
    for split in SPLITS:
        loader = cfg.get(f"{split}_dataloader")
        if loader:
            leaves = data_sets(loader["dataset"])
            parts += [_read(split, leaf, scope) for leaf in leaves]
    if not parts:
        raise UserError(
            "The config has none of train_dataloader, val_dataloader, test_dataloader.",
            "Name a config that trains or tests, e.g. configs/lpld/foggy_streets.py.",
        )
    for part in parts:
        if part.classes != parts[0].classes:
            part.complain(
                f"{part.split} has the classes {_list(part.classes)}, "
                f"{parts[0].split} has {_list(parts[0].classes)}",
                CLASSES_AGREE,
            )
    _check_files(parts, fast, workers)
    _check_counts(parts, cfg.get("expected_counts") or {})
    if checkpoint is not None:
        _check_checkpoint(parts[0], checkpoint)
    return parts


def problems(parts: Sequence[Part]) -> list[Problem]:
    """All problems of all parts, each once."""
    found = []
    for part in parts:
        found += part.problems
        kinds = Counter(part.faults.values())
        for kind, number in kinds.most_common():
            example = next(path for path, fault in part.faults.items() if fault == kind)
            plural = "s are" if number > 1 else " is"
            found.append(
                Problem(
                    f"{number} {part.split} image{plural} {kind}, e.g. {example}",
                    OBTAIN if kind == "missing" else DELETE,
                )
            )
    return list(dict.fromkeys(found))


def raise_problems(found: Sequence[Problem], how_to_get: str | None) -> None:
    """Raise one ``UserError`` about all problems; nothing if there are none.

    Args:
        found: The problems.
        how_to_get: The command that makes the data.
    """
    if not found:
        return
    fixes = list(dict.fromkeys(problem.fix for problem in found))
    if how_to_get and (OBTAIN in fixes or DELETE in fixes):
        fixes = (
            [DELETE] * (DELETE in fixes)
            + [how_to_get]
            + [fix for fix in fixes if fix not in (OBTAIN, DELETE)]
        )
    raise UserError(
        f"{'; '.join(problem.what for problem in found)}.", "; then: ".join(fixes)
    )


def _read(split: str, dataset: dict, scope: str | None) -> Part:
    annotations = str(dataset.get("ann_file") or "")
    if annotations.endswith(".json"):
        return _read_coco(split, dataset, annotations, scope)
    # Any other data set lists its images itself.
    from mmengine.registry import DATASETS

    from pld_mmdet.engine.run.stack import import_mmdet

    import_mmdet()
    source = str(dataset.get("pattern") or annotations or dataset.get("type"))
    part = Part(split, source, _classes(dataset, scope))
    try:
        built = DATASETS.build({**dataset, "pipeline": [], "_scope_": scope})
    except (UserError, OSError) as error:
        what = error.what if isinstance(error, UserError) else str(error)
        part.complain(f"{split}: {what.rstrip('.')}", OBTAIN)
        return part
    boxes = dict.fromkeys(part.classes, 0)
    empty, labelled = 0, False
    for index in range(len(built)):
        item = built.get_data_info(index)
        part.paths.append(item["img_path"])
        labelled |= "instances" in item
        real = [one for one in item.get("instances", []) if not one.get("ignore_flag")]
        empty += not real
        for one in real:
            boxes[part.classes[one["bbox_label"]]] += 1
    if labelled:
        images = len(part.paths)
        part.counts = dict(images=images, empty=empty, crowds=0, boxes=boxes)
    return part


def _read_coco(split: str, dataset: dict, annotations: str, scope: str | None) -> Part:
    root = str(dataset.get("data_root") or "")
    path = os.path.join(root, annotations)
    part = Part(split, path, _classes(dataset, scope))
    try:
        content = parse_json(read_text(path, 2**40))
        part.counts = statistics(content)
        images = content["images"]
        # mmdet numbers the classes in the order of the file and ignores the others.
        names = [category["name"] for category in content["categories"]]
        known = {image["id"] for image in images}
        strays = sum(item["image_id"] not in known for item in content["annotations"])
        flat = sum(min(item["bbox"][2:]) <= 0 for item in content["annotations"])
        passed_over = sum(map(_passed_over, content["annotations"]))
        folder = (dataset.get("data_prefix") or {}).get("img", "")
        part.paths = [
            os.path.join(root, folder, image["file_name"]) for image in images
        ]
        faults = coco_faults(content, complete=True)
        part.sizes = Counter((image["width"], image["height"]) for image in images)
    except FileNotFoundError:
        part.complain(f"the annotation file {path} is missing", OBTAIN)
        return part
    except (OSError, ValueError, KeyError, TypeError) as error:
        part.complain(
            f"{path} is no COCO file ({type(error).__name__}: {error})", OBTAIN
        )
        return part
    absent = [name for name in part.classes if name not in names]
    order = tuple(name for name in names if name in part.classes)
    if absent:
        part.complain(
            f"{path} lacks the class{'es' * (len(absent) > 1)} {_list(absent)} of the "
            f"config (it has {_list(names)})",
            CLASSES_AGREE,
        )
    elif order != part.classes:
        part.complain(
            f"{path} has the classes in the order {_list(order)}, the config in the "
            f"order {_list(part.classes)}: labels would be exchanged",
            CLASSES_AGREE,
        )
    if strays:
        part.complain(f"{path}: {strays} boxes belong to no image", OBTAIN)
    if flat:
        part.complain(f"{path}: {flat} boxes have no width or height", OBTAIN)
    if passed_over and SHARES not in faults:
        part.complain(
            f"{path}: {passed_over} boxes have an area of 0 or a side below one pixel, "
            "and mmdet passes over them",
            WRITE,
        )
    for kind, (number, example) in faults.items():
        if kind not in (STRAY, TWICE, NEGATIVE):  # those are counted here
            fix = WRITE if kind in (SHARES, CORNERS) else OBTAIN
            part.complain(f"{path}: {number} {kind}, e.g. {example}", fix)
    if len(set(part.paths)) < len(part.paths):
        twice = len(part.paths) - len(set(part.paths))
        part.complain(f"{path} lists {twice} images twice", OBTAIN)
    return part


def _passed_over(annotation: dict) -> bool:
    """Whether mmdet's ``CocoDataset`` leaves out what is a box."""
    side = min(annotation["bbox"][2:])
    return 0 < side < 1 or (side > 0 and annotation.get("area", side) <= 0)


def _classes(dataset: dict, scope: str | None) -> tuple[str, ...]:
    classes = (dataset.get("metainfo") or {}).get("classes")
    if classes is None:
        from mmengine.registry import DATASETS

        from pld_mmdet.engine.run.stack import import_mmdet

        import_mmdet()
        with DATASETS.switch_scope_and_registry(scope) as registry:
            kind = registry.get(dataset["type"])
        classes = getattr(kind, "METAINFO", {}).get("classes", ())
    return (classes,) if isinstance(classes, str) else tuple(classes)


def _check_files(parts: Sequence[Part], fast: bool, workers: int) -> None:
    # Validation and test are often the same files: look at each once.
    paths = list(dict.fromkeys(path for part in parts for path in part.paths))
    title = "looking at files" if fast else "decoding images"
    found = dict(
        zip(
            paths,
            run_jobs(partial(image_fault, fast=fast), paths, workers, title),
            strict=True,
        )
    )
    for part in parts:
        stated = part.sizes
        decoded = Counter(found[path][1] for path in part.paths if found[path][1])
        part.faults = {
            path: found[path][0] for path in part.paths if found[path][0] is not None
        }
        if decoded and not part.faults and stated and decoded != stated:
            part.complain(
                f"{part.source} states the sizes {_sizes(stated)}, "
                f"the images have {_sizes(decoded)}",
                OBTAIN,
            )
        part.sizes = stated or decoded


def _check_counts(parts: Sequence[Part], expected: dict[str, int]) -> None:
    for split, number in expected.items():
        of_split = [part for part in parts if part.split == split]
        images = sum(len(part.paths) for part in of_split)
        # A file that cannot be read has been reported already.
        if of_split and images and images != number:
            of_split[0].complain(
                f"{split} has {images} images, expected are {number}", COUNT
            )


def _check_checkpoint(part: Part, path: str) -> None:
    meta = load_checkpoint_file(path).get("meta") or {}
    info = meta.get("dataset_meta") or {}
    classes = info.get("classes", info.get("CLASSES", meta.get("CLASSES")))  # mmdet 2
    classes = (classes,) if isinstance(classes, str) else classes
    if classes is None:
        print(f"{path} does not say its classes: they cannot be compared.")
    elif tuple(classes) != part.classes:
        part.complain(
            f"{path} was trained on the classes {_list(classes)}, "
            f"the config has {_list(part.classes)}",
            CLASSES_AGREE,
        )


def _list(names: Sequence[str]) -> str:
    return ", ".join(names) if names else "none"


def _sizes(sizes: Counter) -> str:
    shown = [
        f"{number} x {wide}x{tall}" for (wide, tall), number in sizes.most_common(3)
    ]
    return ", ".join(shown) + (", ..." if len(sizes) > 3 else "")


def tables(parts: Sequence[Part], expected: dict[str, int]) -> list:
    """The findings as two rich tables: files, and boxes per class."""
    from rich.table import Table

    files = Table(title="Images")
    for name in ("split", "images", "expected", "empty", "groups", "missing"):
        files.add_column(name, justify="left" if name == "split" else "right")
    files.add_column("corrupt", justify="right")
    files.add_column("sizes")
    for part in parts:
        counts = part.counts or {"empty": "-", "crowds": "-"}
        files.add_row(
            part.split,
            str(len(part.paths)),
            str(expected.get(part.split, "-")),
            str(counts["empty"]),
            str(counts["crowds"]),
            str(part.missing),
            str(len(part.faults) - part.missing),
            _sizes(part.sizes) or "-",
        )
    boxes = Table(title="Boxes per class")
    boxes.add_column("class")
    labelled = [part for part in parts if part.counts is not None]
    for part in labelled:
        boxes.add_column(part.split, justify="right")
    names = dict.fromkeys(name for part in labelled for name in part.counts["boxes"])
    for name in names:
        row = (str(part.counts["boxes"].get(name, "-")) for part in labelled)
        boxes.add_row(name, *row)
    return [files, boxes] if labelled else [files]
