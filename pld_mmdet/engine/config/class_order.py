"""Class names of a config against those of its COCO jsons, before anything is built.

mmdet numbers labels by the order of the categories in the file and passes over names
that it does not find: a detector would learn, and be measured, under other names.
"""

import json
import mmap
import os
import re

from mmengine.config import Config

from pld_mmdet.engine.config.arguments import KEYS, find
from pld_mmdet.engine.state.provenance import data_sets
from pld_mmdet.errors import UserError

_MOST = 1 << 24  # bytes of a list of categories


def check_class_order(cfg: Config, loaders: tuple[str, ...]) -> None:
    """Refuse a COCO json in which a label would mean another class than in the config.

    A file that lacks the last classes only is right: no label moves.

    Args:
        cfg: The resolved config.
        loaders: Names of the data loaders that will be used.

    Raises:
        UserError: Names the file, and the first class that differs.
    """
    for loader in loaders:
        for dataset in data_sets((cfg.get(loader) or {}).get("dataset")):
            classes = _classes(dataset, cfg.get("default_scope"))
            path = os.path.join(
                dataset.get("data_root") or "", dataset.get("ann_file") or ""
            )
            if classes and os.path.isfile(path):
                _compare(f"{loader}: {path}", classes, categories(path))


def _compare(where: str, classes: tuple[str, ...], listed: list[str] | None) -> None:
    if not listed:
        return
    order = tuple(name for name in listed if name in classes)
    if order and order == classes[: len(order)]:
        return
    pairs = enumerate(zip(classes, order, strict=False))
    at = next((i for i, (ours, theirs) in pairs if ours != theirs), 0)
    if len({*order}) < len(order):
        found = "lists a class twice"
    elif classes[at] not in order:
        found = "lacks it"
    else:
        found = f"has {order[at]!r} in its place"
    names = ", ".join(listed[:20]) + (", ..." if len(listed) > 20 else "")
    raise UserError(
        f"{where}: class {at} of the config is {classes[at]!r}, and the file {found}. "
        f"It lists {names}; mmdet numbers labels in this order, so they would be "
        "exchanged or lost.",
        "Set metainfo=dict(classes=(...)) of the data set to names of the file in its "
        "order, or sort the file's categories; a trained detector keeps its own order.",
    )


def _classes(dataset: dict, scope: str | None) -> tuple[str, ...]:
    """Names that mmdet's ``CocoDataset`` would look for; none for other readers."""
    kind = find(dataset.get("type"), dataset.get("_scope_", scope), KEYS["dataset"])
    reader = next(
        (c for c in getattr(kind, "__mro__", ()) if "load_data_list" in vars(c)), None
    )
    if reader is None or reader.__module__ != "mmdet.datasets.coco":
        return ()
    names = (dataset.get("metainfo") or {}).get("classes")
    names = kind.METAINFO.get("classes", ()) if names is None else names
    if isinstance(names, str):  # one name, or mmengine's file of names
        return () if os.path.isfile(names) else (names,)
    return tuple(names)


def categories(path: str) -> list[str] | None:
    """Names of a COCO json's categories, found without parsing all of it.

    Returns:
        None if there is no such list.
    """
    if os.path.getsize(path) == 0:
        return None
    with (
        open(path, "rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content,
    ):
        for match in re.finditer(rb'"categories"\s*:\s*', content):
            text = content[match.end() : match.end() + _MOST]
            try:
                rows, _ = json.JSONDecoder().raw_decode(text.decode(errors="ignore"))
                return [row["name"] for row in rows]
            except (ValueError, TypeError, KeyError, RecursionError):
                continue  # the word inside of something else
    return None
