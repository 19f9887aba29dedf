"""MMEngine's new-style configs, whose types are imported classes, with names instead.

``type=FasterRCNN`` after ``from mmdet.models import FasterRCNN`` is a class while the
file runs, and ``mmdet.models.FasterRCNN`` in a dumped config, which no registry finds.
What reads a config here, and what a run writes, is a config of registry names.
"""

from collections.abc import Iterator
from pkgutil import resolve_name

import mmengine.registry
from mmengine.config import Config
from mmengine.registry import Registry
from mmengine.utils import get_object_from_string


def with_names(cfg: Config) -> Config:
    """A config whose types are names of the registries.

    Args:
        cfg: As ``Config.fromfile`` read it. One of the old style is returned as it is.

    Returns:
        Without a ``default_scope`` of its own, a new-style config gets the package
        whose registry has most of its types. A type that is in no registry keeps its
        import path; an operation of mmcv is called as mmcv calls it (``nms``).
    """
    if not getattr(cfg, "_imported_names", None):
        return cfg
    plain = cfg.to_dict()
    types = {path: _imported(path) for path in _types(plain)}
    names = _registered()
    found = {path: _twin(kind, names) for path, kind in types.items()}
    known = {path: names[twin] for path, twin in found.items() if twin in names}
    scope = plain.get("default_scope")
    if scope is None:
        scopes = [scope for scope, _ in known.values() if scope != "mmengine"]
        scope = max(sorted({*scopes}), key=scopes.count, default=None)
        plain["default_scope"] = scope
    short = {
        path: name if owner in (scope, "mmengine") else f"{owner}.{name}"
        for path, (owner, name) in known.items()
    }
    for path, kind in types.items():
        if path not in short and getattr(kind, "__module__", "").startswith("mmcv.ops"):
            short[path] = kind.__name__
    return Config(_renamed(plain, short), cfg_text=cfg.text, filename=cfg.filename)


def _imported(path: str) -> object | None:
    """What an import path names; None for a word that is none."""
    found = get_object_from_string(path)  # mmcv.ops.nms: the function, not its file
    if found is None:  # or the path leads through a file that a function hides
        try:
            found = resolve_name(path)
        except (ImportError, AttributeError, ValueError):
            return None
    return found


def _is_type(key: object) -> bool:
    """``type``, or such as ``resize_type`` and ``ema_type``."""
    return isinstance(key, str) and (key == "type" or key.endswith("_type"))


def _twin(kind: object, names: dict) -> object:
    """What is registered in place of a class: OpenMMLab's own ``SyncBatchNorm``."""
    if kind in names or not isinstance(kind, type):
        return kind
    twins = (
        other
        for other in names
        if isinstance(other, type) and issubclass(other, kind)
        if other.__name__ == kind.__name__
    )
    return next(twins, kind)


def _types(node: object) -> Iterator[str]:
    """Types with a dot in them."""
    if isinstance(node, dict):
        for key, value in node.items():
            if _is_type(key) and isinstance(value, str) and "." in value:
                yield value
            yield from _types(value)
    elif isinstance(node, list | tuple):
        for value in node:
            yield from _types(value)


def _renamed(node, names: dict[str, str]):
    if isinstance(node, dict):
        return {
            key: names.get(value, value)
            if _is_type(key) and isinstance(value, str)
            else _renamed(value, names)
            for key, value in node.items()
        }
    if isinstance(node, list | tuple):
        return type(node)(_renamed(value, names) for value in node)
    return node


def _registered() -> dict[object, tuple[str, str]]:
    """Every registered class or function -> its scope and (first) name."""
    found: dict[object, tuple[str, str]] = {}
    waiting = [r for r in vars(mmengine.registry).values() if isinstance(r, Registry)]
    while waiting:
        registry = waiting.pop()
        waiting += registry.children.values()
        for name, kind in registry.module_dict.items():
            found.setdefault(kind, (registry.scope, name))
    return found
