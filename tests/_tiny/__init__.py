"""A published config made small: its files and weights, two iterations of a stage.

``walk`` of a ``paper.py`` lists what is particular to it, as ``--cfg-options``;
``walk_data`` says what lies at which of the paths that the config names: ``{path:
kind}``, or ``{path: dict(kind=..., ...)}`` with arguments. Paths are relative, and so
are those of the config: the walk runs in a folder of its own.
"""

import uuid
from collections.abc import Iterator
from pathlib import Path

from mmengine.config import Config
from torch import Tensor

from pld_mmdet.catalogue import ROOT, Entry
from pld_mmdet.engine.config.configs import read_config
from pld_mmdet.experiments.options import parse_options
from tests._tiny import files, weights

KINDS = {**files.KINDS, **weights.KINDS}
#: Images of a batch at most; iterations of a stage, epochs of a run.
BATCH, STEPS = 4, 2


def has_walk(entry: Entry) -> bool:
    """Whether the published config of a method says how it becomes small."""
    return "walk_data" in Config.fromfile(ROOT / entry.files["paper config"])


def published(entry: Entry, folder: Path, *options: str) -> Config:
    """The published config of a method, small.

    Args:
        entry: The method.
        folder: Where the run writes.
        options: More ``--cfg-options``; they have the last word.
    """
    cfg = read_config(ROOT / entry.files["paper config"])
    cfg.merge_from_dict(parse_options(cfg.walk))
    shorten(cfg)
    cfg.merge_from_dict(parse_options(options))
    cfg.work_dir, cfg.experiment_name = str(folder), uuid.uuid4().hex
    cfg.log_level = "ERROR"
    return cfg


def make(cfg: Config) -> dict[str, dict[str, Tensor]]:
    """Write the files of ``walk_data`` below the working folder.

    Returns:
        The tensors of those paths that hold weights.
    """
    found = {}
    for path, kind in cfg.walk_data.items():
        said = dict(kind=kind) if isinstance(kind, str) else dict(kind)
        made = KINDS[said.pop("kind")](Path(path), cfg, **said)
        if made:
            found[path] = made
    return found


def loaders(cfg: Config) -> Iterator[dict]:
    """Every loader that a run builds."""
    loop = cfg.get("train_cfg") or {}
    parts = [cfg.get(f"{part}_dataloader") for part in ("train", "val", "test")]
    for holder in (loop, *(loop.get("stages") or ())):
        parts += [holder[key] for key in holder if key.endswith("dataloader")]
    yield from filter(None, parts)


def shorten(cfg: Config) -> None:
    """Small batches, no workers, two iterations a stage, schedules of that length."""
    for loader in loaders(cfg):
        resize(loader, BATCH)
        loader["num_workers"] = 0
        loader.pop("persistent_workers", None)
    loop = cfg.train_cfg
    keeps = cfg.default_hooks.checkpoint
    keeps.update(interval=1, max_keep_ckpts=-1)
    for holder in (loop, *(loop.get("stages") or ())):
        counts = 1
        for wrapper in (cfg.get("optim_wrapper"), holder.get("optim_wrapper")):
            if wrapper and wrapper.get("accumulative_counts", 1) > 1:
                counts = wrapper["accumulative_counts"] = 2
                keeps.interval = 2
        if "max_iters" in holder:
            holder["max_iters"] = min(holder["max_iters"], STEPS * counts)
        if "max_epochs" in holder:
            holder["max_epochs"] = STEPS
        if "val_interval" in holder:
            holder["val_interval"] = 1000
    for holder in (cfg, *(loop.get("stages") or ())):
        for one in _schedules(holder.get("param_scheduler")):
            if one.get("begin"):
                one["begin"] = 1
            if one.get("end", 0) > STEPS:
                one["end"] = STEPS
            if one.get("T_max", 0) > STEPS:
                one["T_max"] = STEPS


def resize(loader: dict, batch: int) -> None:
    """Batches of at most so many images; a sampler's shares are kept."""
    sampler = loader.get("sampler") or {}
    if "source_ratio" in sampler:
        whole = sum(sampler["source_ratio"])
        batch = max(batch // whole, 1) * whole
        sampler["batch_size"] = loader["batch_size"] = batch
    loader["batch_size"] = min(loader["batch_size"], batch)


def _schedules(node) -> Iterator[dict]:
    if isinstance(node, dict) and "type" in node:
        yield node
    elif node:
        for one in node.values() if isinstance(node, dict) else node:
            yield from _schedules(one)
