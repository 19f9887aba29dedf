"""The ``--cfg-options`` of an experiment: read, and made for the quick data."""

from collections.abc import Sequence

from mmengine.config import DictAction


def parse_options(options: Sequence[str]) -> dict:
    """``['a.b=1']`` as mmengine's ``--cfg-options`` reads it: ``{'a.b': 1}``."""
    pairs = (option.partition("=") for option in options)
    return {key: DictAction._parse_iterable(value) for key, _, value in pairs}


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
