"""Dicts that a class is handed whole: which keys its source reads by name."""

import contextlib
import inspect
import re
import sys
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from functools import cache

from torch import nn

from pld_mmdet.errors import UserError

# `cfg.nms_pre`, `self.train_cfg.get("sampler")`, `cfg["nms"]`, and chains of them
_CHAIN = re.compile(
    r"""\w*cfg\w*((?:\.\w+(?:\(\s*['"]\w+)?|\[\s*['"]?\w+['"]?\s*\])+)"""
)
# `"sampler" in self.train_cfg`, `hasattr(self.train_cfg, "sampler")`
_ASKED = re.compile(
    r"""['"](\w+)['"]\s+(?:not\s+)?in\s+[\w.]*cfg|attr\(\s*[\w.]*cfg\w*,\s*['"](\w+)"""
)
PARTS = ("rpn", "rpn_proposal", "rcnn")  # of the train_cfg and test_cfg of two stages
# Whose classes read all keys themselves; others may hand a dict to anybody.
_KNOWN = ("pld_mmdet.", "mmdet.", "mmseg.", "mmengine.", "mmcv.", "torch.")


def module(owner: object) -> str:
    """Name of the module that defines a class or function."""
    return getattr(owner, "__module__", None) or ""


@cache
def source(owner: object) -> str:
    """Text of the modules that define a class and its bases."""
    bases = owner.__mro__ if inspect.isclass(owner) else ()
    modules = {module(base) for base in bases} - {"builtins", nn.Module.__module__}
    texts = []
    for name in modules:
        with contextlib.suppress(OSError, TypeError, KeyError):
            texts.append(inspect.getsource(sys.modules[name]))
    return "\n".join(texts)


def spoken_of(name: object, owners: Iterable[object]) -> bool:
    """Whether a name stands in the source of one of these classes or their bases."""
    return any(re.search(rf"\b{re.escape(str(name))}\b", source(one)) for one in owners)


@cache
def keys_read(owner: object) -> frozenset[str]:
    """Keys that a class or its bases read from variables whose name has ``cfg``."""
    text = source(owner)
    chains = (re.findall(r"\w+", chain) for chain in _CHAIN.findall(text))
    asked = (name for pair in _ASKED.findall(text) for name in pair if name)
    return frozenset({*asked, *(name for chain in chains for name in chain)})


def check_keys(
    value: object,
    where: str,
    owners: Sequence[object],
    below: Sequence[object] = (),
    free: Sequence[str] = (),
) -> None:
    """Refuse keys of a dict that nothing reads.

    Args:
        value: The dict, or a list of them.
        where: Its dotted place.
        owners: The class that is handed it, and those above that may change it.
        below: Classes that the owner builds and hands parts of it, or all.
        free: Keys that are right in any case.

    Raises:
        UserError: Names the place and the nearest key. Where a class of another
            project is among them, only what looks misspelt is refused.
    """
    own = {name for one in owners for name in keys_read(one)}
    inner = {name for one in below for name in keys_read(one)}
    sure = all(module(one).startswith(_KNOWN) for one in (*owners, *below))
    _check(value, where, own, inner, {*free}, owners[0], sure)


def _check(value, where, own, inner, free, owner, sure) -> None:
    if isinstance(value, list | tuple):
        for number, one in enumerate(value):
            _check(one, f"{where}.{number}", own, inner, free, owner, sure)
        return
    if not isinstance(value, dict):
        return
    parts = own.intersection(PARTS) and where.rpartition(".")[2] not in PARTS
    known = (own if parts else own | inner) | free
    for key, part in value.items():
        if key in known:
            if key in PARTS:
                _check(part, f"{where}.{key}", own | inner, set(), free, owner, sure)
            continue
        name = str(key)
        near = get_close_matches(name, known, n=1, cutoff=0.75)
        if key in inner:
            near = [f"{part}.{name}" for part in ("rcnn", "rpn") if part in value]
        elif not near and not sure:
            continue
        raise UserError(
            f"{where}.{name}: {getattr(owner, '__name__', owner)} reads no {name!r} "
            "there.",
            f"Did you mean {where}.{near[0]}?" if near else "Leave it out.",
        )
