"""A folder of a user's images in the place of a toy's data, by one word of its config.

``--cfg-options image_folder=photos`` makes every data set of the digits or the street
crops in a toy read ``photos/<class>/<name>.png`` (or the same below ``train/``,
``val/`` and ``test/``), at its own size, and gives the networks as many outputs as
there are classes.
"""

import inspect
from collections.abc import Iterator

from mmengine.config import Config
from mmengine.registry import MODELS

from pld_mmdet.errors import UserError
from pld_mmdet.shared.data.class_images import part_files

#: Data sets that read a folder with ``data_root`` -> classes of what they bring along.
READERS = {"Digits": 10, "StreetCrops": 8}


def use_image_folder(cfg: Config) -> None:
    """Put ``cfg.image_folder`` in the place of the config's data; None: nothing.

    Numbers that belong to the data (``num_samples``, ``labelled``) stay: methods say in
    a sentence which does not fit.

    Args:
        cfg: Resolved config; changed in place.

    Raises:
        UserError: The folder cannot be used, or the config reads no such data.
    """
    folder = cfg.get("image_folder")
    if folder is None:
        return
    classes = len(part_files(folder, "train"))
    found = [
        node
        for node in _dicts(cfg._cfg_dict)
        if str(node.get("type")).rpartition(".")[2] in READERS
    ]
    if not found:
        raise UserError(
            "image_folder: this config reads neither digits nor street crops.",
            "Set the data_root of its own data sets.",
        )
    known = {READERS[node["type"].rpartition(".")[2]] for node in found}
    for node in found:
        node["data_root"] = str(folder)
    for node in _dicts(cfg.model):
        if node.get("num_classes", _default(node)) in known:
            node["num_classes"] = classes
        if "sizes" in node and node["sizes"][-1] in known:
            node["sizes"] = [*node["sizes"][:-1], classes]


def _default(node: dict) -> int | None:
    """Outputs of a network whose config leaves them out."""
    built = MODELS.get(node["type"]) if isinstance(node.get("type"), str) else None
    taken = inspect.signature(built).parameters if built else {}
    return taken["num_classes"].default if "num_classes" in taken else None


def _dicts(node: object) -> Iterator[dict]:
    """All dicts of a config, from the outside in."""
    if isinstance(node, dict):
        yield node
        node = list(node.values())
    if isinstance(node, list | tuple):
        for part in node:
            yield from _dicts(part)
