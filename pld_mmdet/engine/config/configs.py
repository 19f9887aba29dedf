"""Configs: read, or refused in a sentence; keys and numbers that mean something."""

import contextlib
import importlib
import inspect
import logging
import math
import re
import sys
from collections.abc import Collection, Iterator
from difflib import get_close_matches
from fnmatch import fnmatch
from pathlib import Path

from mmengine import registry as registries
from mmengine.config import Config, ConfigDict
from mmengine.logging import print_log
from torch.utils.data import DataLoader

from pld_mmdet import interrupts, values
from pld_mmdet.engine.config.arguments import ANY, find, signature
from pld_mmdet.engine.config.data_files import DATA, read_data
from pld_mmdet.engine.config.lazy_configs import with_names
from pld_mmdet.engine.state.files import flattened
from pld_mmdet.errors import UserError
from pld_mmdet.places import shipped_config

_YAPF = "yapf.yapflib.yapf_api"  # what mmengine lays out configs with
_WEIGHTS = (".pth", ".pt", ".pkl", ".ckpt", ".safetensors")
# What Runner.from_cfg and our runner read at the top of a config.
_TOP = {
    *inspect.signature(registries.RUNNERS.get("Runner").__init__).parameters,
    *("fine_tune", "runner_type", "find_unused_parameters", "model_wrapper_cfg"),
    *("randomness", "activation_checkpointing", "efficient_conv_bn_eval", "compile"),
    *("custom_imports", "auto_scale_lr", "how_to_get", "expected_counts", "sync_bn"),
    "image_folder",
} - {"self", "cfg"}
# What is read of dicts without a type.
_PLAIN = {
    "env_cfg": ("cudnn_benchmark", "mp_cfg", "dist_cfg", "resource_limit"),
    "auto_scale_lr": ("enable", "base_batch_size", "lr_rule"),
    "randomness": ("seed", "deterministic", "diff_rank_seed"),
}
_SWITCHES = ("fine_tune", "find_unused_parameters")
_DEFAULT_HOOKS = ("runtime_info", "timer", "sampler_seed", "logger", "param_scheduler")
_DEFAULT_HOOKS += ("checkpoint", "visualization", "progress")
# Names of mmdet 2 that could be nothing else, and what took their place.
_RETIRED = {
    "lr_config": "param_scheduler",
    "optimizer_config": "optim_wrapper.clip_grad",
    "checkpoint_config": "default_hooks.checkpoint",
    "log_config": "default_hooks.logger",
    "total_epochs": "train_cfg.max_epochs",
}
COUNTS = (  # arguments of models that count things of which there must be one
    *("num_classes", "num_samples", "samples", "num_clusters", "num_topics", "classes"),
    *("ipc", "epochs", "rounds", "batch", "batch_size", "inner_steps", "pairs", "weak"),
    *("committee", "group", "top_k", "capacity", "queue_length", "subsets", "parts"),
    *("new_tokens", "length", "image_size", "sample_size", "teacher_steps", "vectors"),
)
# Place (pattern) -> the numbers that mean something there; the first pattern counts.
NUMBERS = {
    "train_cfg.max_iters": values.POSITIVE_INT,
    "train_cfg.max_epochs": values.POSITIVE_INT,
    "train_cfg.val_interval": values.POSITIVE_INT,
    "train_cfg.num_images": values.COUNT,
    "train_cfg.stages.*.max_iters": values.COUNT,
    "train_cfg.clients_per_round": values.POSITIVE_INT,
    "*_dataloader.batch_size": values.BATCH,
    "*_dataloader.num_workers": values.WORKERS,
    "*optim_wrapper.accumulative_counts": values.POSITIVE_INT,
    "*optim_wrapper.*optimizer.lr": values.NOT_NEGATIVE,
    "*optim_wrapper.optimizer.lr": values.NOT_NEGATIVE,
    "*optim_wrapper.optimizer.weight_decay": values.NOT_NEGATIVE,
    "*optim_wrapper.optimizer.momentum": values.SHARE,
    "*optim_wrapper.clip_grad.max_norm": values.POSITIVE,
    "randomness.seed": values.SEED,
    "custom_hooks.*.keep": values.SHARE,
    "custom_hooks.*.interval": values.POSITIVE_INT,
    "default_hooks.logger.interval": values.POSITIVE_INT,
    "model.*nms*iou_threshold": values.NOT_NEGATIVE,  # above 1 nothing is suppressed
    "model.*threshold": values.SHARE,
    "model.*score_thr": values.SHARE,
    # Arguments of the methods; a name means the same in all of them.
    **dict.fromkeys(
        (f"model.{name}" for name in COUNTS),
        values.POSITIVE_INT,
    ),
    "model.*temperature": values.POSITIVE,
    "model.*keep": values.SHARE,
    "model.*mask_ratio": values.SHARE,
    "model.*label_smoothing": values.SHARE,
    "model.*dropout": values.SHARE,
    "model.*pos_weight": values.Number(-1.0, 1e9),  # mmdet's -1: all alike
    "model.*_weight": values.NOT_NEGATIVE,
}


def read_config(path: str | Path, model: bool = False, what: str = "config") -> Config:
    """Read a config file, in MMEngine's old or new style.

    A ``.py`` config is code, and reading it runs it. yaml and json are data, and run
    nothing (:mod:`pld_mmdet.engine.config.data_files`).

    Args:
        path: The file; ``configs/...`` is one of this package where none lies here.
        model: Whether it has to have one.
        what: What it is meant to be, for the sentence.

    Raises:
        UserError: It is missing, no config at all, or fails while it runs; the line
            is named.
    """
    path = shipped_config(path)
    if not path.is_file():
        kind = "is a folder" if path.is_dir() else "does not exist"
        raise UserError(
            f"The {what} {path} {kind}.",
            "Name a file in configs/ (relative paths start at the current folder).",
        )
    if path.suffix.lower() in _WEIGHTS:
        raise UserError(
            f"The {what} {path} is a file of weights.",
            "Name the config (a .py file) first and the checkpoint after it.",
        )
    try:
        if path.suffix.lower() in DATA:
            cfg = read_data(path)
        else:
            cfg = with_names(Config.fromfile(str(path)))
    except UserError:
        raise
    except (Exception, SystemExit) as error:
        if interrupts.received():
            raise
        raise UserError(
            f"{path} cannot be read as a {what} ({_cause(error)}).",
            "Mend it, or name another file; a config is Python that assigns names.",
        ) from error
    if model and not (isinstance(cfg.get("model"), dict) and "type" in cfg.model):
        raise UserError(
            f"{path} has no `model` with a type.",
            "Name a whole config, not a _base_ part of one.",
        )
    return cfg


def _cause(error: Exception) -> str:
    """Kind, line and reason of whatever went wrong while a config was run."""
    text = (str(error).strip() or "no reason given").splitlines()
    reason = text[-1] if isinstance(error, SyntaxError) else text[0]
    line = error.lineno if isinstance(error, SyntaxError) else None
    trace = error.__traceback__
    while trace is not None:  # the innermost line of a file that is no library
        name = trace.tb_frame.f_code.co_filename
        if name == "<string>" or "tmp" in Path(name).parts[:2]:
            line = trace.tb_lineno
        trace = trace.tb_next
    match = re.search(r"line (\d+)", str(error))
    line = line or (match and match.group(1))
    where = f", line {line}" if line else ""
    return f"{type(error).__name__}{where}: {reason[:150]}"


def check_option(cfg: Config, key: str) -> None:
    """Refuse a ``--cfg-options`` key that nothing reads.

    An entry that the config has is right. A new one is right where its owner takes it:
    the class that ``type`` names, a data loader, the runner. Owners that say nothing
    about what they take refuse what looks like a misspelling of an entry they have.

    Args:
        cfg: The config before the option.
        key: Dotted, as on the command line.

    Raises:
        UserError: With the nearest valid key.
    """
    node, done = cfg, []
    parts = key.split(".")
    for part in parts:
        if isinstance(node, list | tuple):
            if not part.isdigit() or int(part) >= len(node):
                _refuse(key, done, part, [str(n) for n in range(len(node))])
            node = node[int(part)]
        elif isinstance(node, dict | Config):
            if part in node:
                node = node[part]
            else:
                known, complete = _accepted(cfg, node, done)
                close = get_close_matches(part, known, n=1, cutoff=0.75)
                if part not in known and (complete or close):
                    _refuse(key, done, part, known)
                return  # what is below is new too
        elif node is None:
            return
        else:
            raise UserError(
                f"--cfg-options {key}: {'.'.join(done)} is {node!r}, which has no "
                f"entry {part!r}.",
                f"Set {'.'.join(done)} itself, or another key.",
            )
        done.append(part)


def _refuse(key: str, done: list[str], part: str, known: list[str]) -> None:
    near = get_close_matches(part, known, n=1, cutoff=0.5)
    rest = key.split(".")[len(done) + 1 :]
    fix = f"There are: {', '.join(sorted(known)[:30]) or 'none'}."
    if near:
        fix = f"Did you mean {'.'.join([*done, near[0], *rest])}?"
    where = f"{'.'.join(done)} has" if done else "a config has"
    raise UserError(f"--cfg-options {key}: {where} no entry {part!r}.", fix)


def _accepted(cfg: Config, node, done: list[str]) -> tuple[list[str], bool]:
    """Keys that an owner takes, and whether there are no others."""
    present = [str(name) for name in node]
    if not done:
        return [*present, *_TOP], True
    if done[-1].endswith("_dataloader"):
        names = inspect.signature(DataLoader.__init__).parameters
        return [*present, *names, "indices"], True
    kind = node.get("type")
    if kind is None and done[-1] in _PLAIN:
        return [*present, *_PLAIN[done[-1]]], True
    owner = None if kind is None else find(kind, cfg.get("default_scope"), ANY)
    if owner is None:
        return present, False
    taken = signature(owner)
    # the last three are read by whoever builds it
    others = ("priority", "_scope_", "_delete_")
    return list(dict.fromkeys([*present, *taken.names, *others])), taken.complete


def check_names(cfg: Config) -> None:
    """Refuse names that are nearly those that the Runner reads at the top of a config.

    Another name is a variable of the config's own, and so is one like it whose value is
    used below another name. Names of mmdet 2, which stock configs still carry, are only
    said.

    Raises:
        UserError: With the right name.
    """
    content = cfg.to_dict()
    for name in content.keys() & _RETIRED.keys():
        print_log(
            f"{name}: a name of mmdet 2, which nothing reads any more. It changes "
            f"nothing here; write {_RETIRED[name]}.",
            "current",
            logging.WARNING,
        )
    for name, value in content.items():
        near = _misspelt(name, _TOP)
        own = near and name.startswith(("_", f"{near}_"))
        own = own or (near in _SWITCHES and not isinstance(value, bool))
        if near and not own and not _used(value, content, name):
            raise UserError(
                f"{name}: nothing reads this name at the top of a config.",
                f"Did you mean {near}? (A variable of your own begins with _.)",
            )
    for place, known in (("default_hooks", _DEFAULT_HOOKS), *_PLAIN.items()):
        for name in content.get(place) or ():
            near = _misspelt(name, known)
            if near or (name not in known and place in _PLAIN):
                fix = f"It reads: {', '.join(known)}."
                raise UserError(
                    f"{place}.{name}: nothing reads this name.",
                    f"Did you mean {place}.{near}?" if near else fix,
                )


def _misspelt(name: str, known: Collection[str]) -> str | None:
    """The known name that this one nearly is; None also for a known one."""
    if name in known:
        return None
    near = get_close_matches(name, known, n=1, cutoff=0.86)
    near += [one for one in known if sorted(one) == sorted(name)]
    return near[0] if near else None


def _used(value: object, content: dict, name: str) -> bool:
    """Whether a value (more than a number) stands below another name too."""

    def found(node: object) -> bool:
        inner = node.values() if isinstance(node, dict) else node
        return node == value or (
            isinstance(node, dict | list | tuple) and any(map(found, inner))
        )

    others = [part for other, part in content.items() if other != name]
    return (
        isinstance(value, dict | list | tuple | str) and bool(value) and found(others)
    )


def check_numbers(cfg: Config) -> None:
    """Refuse numbers of a config that mean nothing (:data:`NUMBERS`, NaN anywhere).

    Raises:
        UserError: Names the place, the value and the range.
    """
    for place, value in _leaves(cfg):
        if isinstance(value, float) and math.isnan(value):
            raise UserError(f"{place} is NaN.", "Give a number.")
        if isinstance(value, bool) or not isinstance(value, int | float):
            continue
        kinds = (kind for pattern, kind in NUMBERS.items() if fnmatch(place, pattern))
        kind = next(kinds, None)
        problem = kind.problem(value) if kind is not None else None
        if problem is not None:
            raise UserError(f"{place}: {problem}.", f"Give {kind}.")


def _leaves(cfg: Config | ConfigDict) -> Iterator[tuple[str, object]]:
    content = cfg.to_dict() if isinstance(cfg, Config) else cfg
    return flattened(content)


@contextlib.contextmanager
def unformatted() -> Iterator[None]:
    """Configs are written as they are: to lay them out takes longer than a step."""
    places = [sys.modules[Config.__module__], importlib.import_module(_YAPF)]
    places = [place for place in places if hasattr(place, "FormatCode")]
    before = [place.FormatCode for place in places]
    for place in places:
        place.FormatCode = lambda text, *args, **kwargs: (text, True)
    try:
        yield
    finally:
        for place, formatter in zip(places, before, strict=True):
            place.FormatCode = formatter
