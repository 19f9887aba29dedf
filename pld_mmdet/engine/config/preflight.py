"""Looks at a config's files before anything is built: seconds instead of a trace."""

import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

from pld_mmdet.engine.config.arguments import check_arguments
from pld_mmdet.engine.config.class_order import check_class_order
from pld_mmdet.engine.config.configs import check_names, check_numbers
from pld_mmdet.engine.optim.precision import check_amp
from pld_mmdet.engine.state.checkpoint import local_file
from pld_mmdet.engine.state.provenance import data_sets, initial_checkpoints
from pld_mmdet.errors import UserError

_LOADERS = {
    "train": "train_dataloader",
    "val": "val_dataloader",
    "test": "test_dataloader",
}
# Steps that do not depend on the gradient's size: Adam's relatives (Adam, AdamW, NAdam,
# RAdam, Adamax, Adan, Adagrad, Adadelta), RMSprop, sign and layer-wise ones.
_NORMALISING = re.compile(r"(?i)ada|adam|rmsprop|lion|rprop|lamb|lars|prodigy")


def check_config(cfg, stages: tuple[str, ...] = ("train", "val")) -> None:
    """Check that data, checkpoints and work dir of a config can be used.

    Args:
        cfg: The resolved config; its ``how_to_get`` (``data``, ``checkpoint``) names
            the commands that make what is missing.
        stages: Which data loaders will be used; ``train`` includes those of
            ``train_cfg`` (of the online loop, for example).

    Raises:
        UserError: Says all that is missing in one line, and the commands in another;
            or names an argument that nothing takes, or a class that a COCO json has in
            another place.
    """
    check_parts(cfg, stages)
    if "train" in stages:
        check_amp(cfg)
        check_settings(cfg)
    how = cfg.get("how_to_get") or {}
    wrong: list[str] = []
    fixes: list[str] = []
    data = list(dict.fromkeys(p for s in stages for p in _data_problems(cfg, s)))
    if data:
        wrong += data
        fixes.append(how.get("data") or "correct data_root, ann_file and data_prefix")
    checkpoints = list(dict.fromkeys(_checkpoint_problems(cfg)))
    if checkpoints:
        wrong += checkpoints
        fixes.append(how.get("checkpoint") or "correct load_from in the config")
    if wrong:
        raise UserError(f"Missing: {'; '.join(wrong)}.", "  then  ".join(fixes))
    check_class_order(cfg, tuple(_LOADERS[stage] for stage in stages))
    check_writable(cfg.work_dir)


def check_parts(cfg, stages: tuple[str, ...]) -> None:
    """Check names, numbers and arguments of a config; reads no file.

    Args:
        cfg: The resolved config.
        stages: Which data loaders will be used.

    Raises:
        UserError: The first that nothing takes, or that means nothing.
    """
    check_names(cfg)
    check_numbers(cfg)
    check_arguments(cfg, _not_built(stages))


def _not_built(stages: tuple[str, ...]) -> list[str]:
    """Names at the top of a config that these stages do not build."""
    parts = ("{}_dataloader", "{}_evaluator", "{}_cfg")
    names = [part.format(s) for s in _LOADERS if s not in stages for part in parts]
    return names + ([] if "train" in stages else ["optim_wrapper", "param_scheduler"])


def check_settings(cfg) -> None:
    """Check what a config says of its training against itself; reads no file.

    Raises:
        UserError: The first pair of settings that cannot be together.
    """
    _check_accumulation(cfg)
    _check_gradient_scales(cfg)
    check_schedules(cfg)


def _check_accumulation(cfg) -> None:
    """Checkpoints and stages must not cut an optimizer step in two."""
    default = (cfg.get("optim_wrapper") or {}).get("accumulative_counts", 1)
    checkpoint = (cfg.get("default_hooks") or {}).get("checkpoint") or {}
    counted = []
    if not checkpoint.get("by_epoch", True):
        interval = checkpoint.get("interval", -1)
        counted.append(("default_hooks.checkpoint.interval", interval, default))
    for stage in (cfg.get("train_cfg") or {}).get("stages", []):
        own = (stage.get("optim_wrapper") or {}).get("accumulative_counts", default)
        where = f"max_iters of stage {stage.get('name')}"
        counted.append((where, stage.get("max_iters", 0), own))
    for where, iterations, size in counted:
        if iterations > 0 and iterations % size:
            raise UserError(
                f"{where} is {iterations}: in the middle of an optimizer step, which "
                f"is accumulated from {size} iterations.",
                f"Set it to {iterations // size * size + size}, a multiple of "
                "accumulative_counts.",
            )


def check_schedules(cfg) -> None:
    """Refuse schedules whose state is no plain data: no checkpoint could hold them.

    mmengine's one-cycle schedules keep a function in their state.

    Args:
        cfg: The resolved config.

    Raises:
        UserError: Names the place and what to use instead.
    """
    checkpoint = (cfg.get("default_hooks") or {}).get("checkpoint") or {}
    if not checkpoint.get("save_param_scheduler", True):
        return
    for place, kind in _schedules(dict(cfg.items()), ""):
        if "OneCycle" in kind:
            raise UserError(
                f"{place}.type='{kind}' keeps a function in its state: the run could "
                "not write its first checkpoint.",
                "Use CosineAnnealingLR after a warm-up with LinearLR instead.",
            )


def _schedules(node, key: str) -> Iterator[tuple[str, str]]:
    """Where each type below a ``param_scheduler`` stands, and the type's name."""
    if isinstance(node, dict):
        if "param_scheduler" in key and "type" in node:
            kind = node["type"]  # a class in mmengine's other config style
            yield key, kind if isinstance(kind, str) else kind.__name__
        children = node.items()
    elif isinstance(node, list | tuple):
        children = enumerate(node)
    else:
        return
    for name, value in children:
        yield from _schedules(value, f"{key}.{name}" if key else str(name))


def _check_gradient_scales(cfg) -> None:
    """An optimizer that divides by the gradient's size undoes a constant factor."""
    wrapper = cfg.get("optim_wrapper") or {}
    optimizer = str((wrapper.get("optimizer") or {}).get("type", ""))
    name = optimizer.rpartition(".")[2]
    if not _NORMALISING.search(name):
        return
    for key, scale in _gradient_scales(cfg.get("model"), "model"):
        if scale not in (0, 1):
            raise UserError(
                f"{key}={scale} has no effect under {name}, which divides each "
                "gradient by its own size: what lies behind trains at full rate.",
                "Write optim_wrapper.optimizer.type='SGD', or a scale of 1 (0 stops "
                "the gradient under any optimizer).",
            )


def _gradient_scales(node, key: str) -> Iterator[tuple[str, float]]:
    if isinstance(node, dict):
        for name, value in node.items():
            if name == "gradient_scale" and isinstance(value, int | float):
                yield f"{key}.{name}", value
            else:
                yield from _gradient_scales(value, f"{key}.{name}")
    elif isinstance(node, list | tuple):
        for number, value in enumerate(node):
            yield from _gradient_scales(value, f"{key}.{number}")


def check_writable(folder: str | Path, option: str = "--work-dir") -> None:
    """Make the folder and write a byte into it.

    Args:
        folder: Where something will be written.
        option: With which another one is chosen, for the sentence.

    Raises:
        UserError: If that fails.
    """
    try:
        os.makedirs(folder, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"0")
            file.flush()
    except OSError as error:
        raise UserError(
            f"The folder {folder} cannot be written ({error.strerror}).",
            f"Choose another one with {option}, or free space.",
        ) from error


def _data_problems(cfg, stage: str) -> Iterator[str]:
    loaders = [cfg.get(_LOADERS[stage])]
    if stage == "train":
        inner = cfg.get("train_cfg") or {}
        loaders += [inner[key] for key in inner if key.endswith("_dataloader")]
    for loader in filter(None, loaders):
        for dataset in data_sets(loader.get("dataset")):
            yield from _dataset_problems(dataset)


def _dataset_problems(dataset: dict) -> Iterator[str]:
    root = dataset.get("data_root") or ""
    if root and "://" not in root and not os.path.isdir(root):
        yield f"the data folder {root}"
        return  # all else lies in it
    prefixes = dataset.get("data_prefix") or {}
    if isinstance(prefixes, str):
        prefixes = {"img": prefixes}
    folders = {k: _join(root, v) for k, v in prefixes.items() if isinstance(v, str)}
    for folder in folders.values():
        if not folder or "://" in folder:
            continue
        if not os.path.isdir(folder):
            yield f"the folder {folder}"
        elif not any(os.scandir(folder)):
            yield f"files in {folder} (it is empty)"
    annotations = dataset.get("ann_file") or ""
    if not annotations or "://" in annotations:
        return
    path = _join(root, annotations)
    if not os.path.isfile(path):
        yield f"the annotation file {path}"
    elif os.path.getsize(path) == 0:
        yield f"annotations in {path} (it is empty)"
    else:
        image = _first_image(path)
        folder = folders.get("img", folders.get("img_path", root))
        if image is not None and folder and "://" not in folder:
            image = _join(folder, image)
            if not os.path.isfile(image):
                yield f"the images of {path} (for example {image})"


def _first_image(path: str) -> str | None:
    """First file_name of a COCO json, found without parsing all of it."""
    with open(path, encoding="utf-8", errors="replace") as file:
        match = re.search(r'"file_name"\s*:\s*"([^"\\]+)"', file.read(1 << 20))
    return match.group(1) if match else None


def _join(root: str, path: str) -> str:
    return path if os.path.isabs(path) or not root else os.path.join(root, path)


def _checkpoint_problems(cfg) -> Iterator[str]:
    load_from = cfg.get("load_from")
    if load_from and "://" not in load_from and not os.path.isfile(load_from):
        yield f"the checkpoint {load_from}"
    for path in initial_checkpoints(cfg):
        if "://" not in path and not local_file(path).is_file():
            yield f"the initial weights {path}"
