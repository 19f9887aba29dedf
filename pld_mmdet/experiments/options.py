"""Commands and ``--cfg-options`` of an experiment, as text."""

import json
import shlex
import sys
from collections.abc import Sequence

from mmengine.config import Config, DictAction


def parse_options(options: Sequence[str]) -> dict:
    """``['a.b=1']`` as mmengine's ``--cfg-options`` reads it: ``{'a.b': 1}``."""
    pairs = (option.partition("=") for option in options)
    return {key: DictAction._parse_iterable(value) for key, _, value in pairs}


def has_place(config: dict, option: str, new: bool = False) -> bool:
    """Whether a config has what ``a.b.0.c=1`` changes.

    Args:
        config: As plain data.
        option: The text.
        new: It may add ``c`` to an ``a.b.0`` that is there.

    Examples:
        >>> stages = dict(train_cfg=dict(stages=[dict(max_iters=9)]))
        >>> has_place(stages, "train_cfg.stages.0.max_iters=1")
        True
        >>> has_place(stages, "train_cfg.stages.0.val_interval=1")
        False
        >>> has_place(stages, "train_cfg.stages.0.val_interval=1", new=True)
        True
        >>> has_place(stages, "train_cfg.stages.1.max_iters=1", new=True)
        False
    """
    keys = option.partition("=")[0].split(".")
    part = config
    for key in keys[:-1] if new else keys:
        inside = range(len(part)) if isinstance(part, list) else part
        key = int(key) if isinstance(part, list) and key.isdigit() else key
        if not isinstance(inside, dict | range) or key not in inside:
            return False
        part = part[key]
    return not new or isinstance(part, dict | list)


def moved(value: object, old: str, new: str, key: str = "") -> list[str]:
    """Options that put ``new`` for ``old`` where a path in a config begins with it."""
    if isinstance(value, str) and value.startswith(old):
        return [f"{key}={new}{value[len(old) :]}"]
    if isinstance(value, dict):
        parts = value.items()
    elif isinstance(value, list | tuple):
        parts = enumerate(value)
    else:
        return []
    return [
        option
        for name, part in parts
        for option in moved(part, old, new, f"{key}.{name}" if key else str(name))
    ]


def text_of(cfg: Config) -> str:
    """All of a config, in one order."""
    return json.dumps(cfg.to_dict(), sort_keys=True, default=str)


def command_of(text: str, *arguments: str) -> tuple[str, ...]:
    """The words of a command; ``python`` is this one."""
    program, *rest = shlex.split(text)
    return (sys.executable if program == "python" else program, *rest, *arguments)


def cfg_options(options: Sequence[str]) -> tuple[str, ...]:
    """The words that give a tool these options, if there are any."""
    return ("--cfg-options", *options) if options else ()
