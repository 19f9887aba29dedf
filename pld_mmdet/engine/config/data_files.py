"""Configs that are data (yaml, json, a run's dumped config): read, and nothing is run.

A ``.py`` config is code and runs when its own path is named. Any other file must not
reach code: not by a yaml tag, a ``.py`` base, a type given by its import path, an
imported module or a command.
"""

import ast
import json
import pickle
import sys
from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import yaml
from mmengine import registry as registries
from mmengine.config import Config
from mmengine.fileio import BaseFileHandler, register_handler
from mmengine.registry import Registry
from mmengine.utils import get_object_from_string
from torch import nn, optim

from pld_mmdet.engine.state.files import flattened
from pld_mmdet.errors import UserError

DATA = (".yaml", ".yml", ".json")
# Keys that name modules to import or commands to start.
_ARRAYS = ("_reconstruct", "ndarray", "dtype", "scalar", "_frombuffer")
_PLAIN = {
    ("collections", "OrderedDict"),
    ("_codecs", "encode"),  # bytes, in old protocols
    *(("builtins", kind) for kind in ("set", "frozenset", "bytearray", "complex")),
    *(("__builtin__", kind) for kind in ("set", "frozenset", "bytearray", "complex")),
}
_CODE = ("custom_imports", "experiment", "walk_data")


class _Loader(yaml.SafeLoader):
    """Plain data, and the tuples that mmengine writes."""


_Loader.add_constructor(
    "tag:yaml.org,2002:python/tuple",
    lambda loader, node: tuple(loader.construct_sequence(node, deep=True)),
)


class _Yaml(BaseFileHandler):
    def load_from_fileobj(self, file, **kwargs):
        try:
            return yaml.load(file, Loader=_Loader)
        except yaml.constructor.ConstructorError as error:
            mark = error.problem_mark
            where = f", line {mark.line + 1}" if mark else ""
            raise UserError(
                f"A yaml file{where} asks for code ({error.problem}); nothing was run.",
                "Take the tag out; write what needs code as a .py config.",
            ) from None

    def dump_to_fileobj(self, obj, file, **kwargs):
        yaml.dump(obj, file, **kwargs)

    def dump_to_str(self, obj, **kwargs):
        return yaml.dump(obj, **kwargs)


class _Unpickler(pickle.Unpickler):
    """Plain data and arrays, as lists of annotations hold them."""

    def find_class(self, module: str, name: str):
        parts = module.split(".")
        array = parts[0] == "numpy" and parts[-1] in ("numpy", "multiarray", "numeric")
        if (array and name in _ARRAYS) or (module, name) in _PLAIN:
            return super().find_class(module, name)
        raise UserError(
            f"A pickle asks for {module}.{name}, which is code; nothing was run.",
            "Convert the file to json where you trust it.",
        )


class _Pickle(BaseFileHandler):
    str_like = False

    def load_from_fileobj(self, file, **kwargs):
        return _Unpickler(file, **kwargs).load()

    def dump_to_fileobj(self, obj, file, **kwargs):
        pickle.dump(obj, file, **{"protocol": 2} | kwargs)

    def dump_to_str(self, obj, **kwargs):
        return pickle.dumps(obj, **{"protocol": 2} | kwargs)


def refuse_code() -> None:
    """From now on ``mmengine.load`` runs nothing in this process.

    yaml is read as plain data, pickles as plain data and arrays. Tools call it; a
    foreign project that imports the package keeps its own readers.
    """
    register_handler(["yaml", "yml"])(_Yaml)
    register_handler(["pickle", "pkl"])(_Pickle)


def read_data(path: Path) -> Config:
    """A yaml or json config with its bases.

    Args:
        path: The file.

    Raises:
        UserError: It or a base reaches code; the place is named.
    """
    refuse_code()
    _check_bases(path, [])
    cfg = Config.fromfile(str(path), import_custom_modules=False)
    check_data(cfg.to_dict(), path)
    return cfg


def _check_bases(path: Path, above: list[Path]) -> None:
    if path.resolve() in above:
        raise UserError(
            f"{path} is a _base_ of itself, by way of others.",
            "Take one of the _base_ lines out.",
        )
    content = _content(path)
    bases = content.get("_base_") or [] if isinstance(content, dict) else []
    for base in [bases] if isinstance(bases, str) else bases:
        if not isinstance(base, str) or "::" in base or "://" in base:
            _refuse(path, f"its _base_ {base!r} is no file beside it")
        base = path.parent / base
        if base.suffix.lower() not in DATA:
            _refuse(path, f"its _base_ {base} is code, which it would run")
        if base.is_file():  # mmengine says what is missing
            _check_bases(base, [*above, path.resolve()])


def _content(path: Path) -> object:
    with path.open(encoding="utf-8") as file:
        if path.suffix.lower() == ".json":
            return json.load(file)
        return _Yaml().load_from_fileobj(file)


def check_data(content: dict, path: str | Path) -> None:
    """Refuse what makes data run code once something is built from it.

    Args:
        content: Of a config.
        path: Where it is from, for the sentence.

    Raises:
        UserError: A type is an import path of anything but a registered class or one of
            ``torch.nn`` and ``torch.optim``; or a key names modules or commands.
    """
    for key in _CODE:
        if content.get(key):
            _refuse(path, f"{key} names modules or commands")
    for place, value in flattened(content):
        name = place.rpartition(".")[2]
        typed = name == "type" or name.endswith("_type")
        if typed and isinstance(value, str) and "." in value and not _harmless(value):
            _refuse(path, f"{place} is {value!r}, code by its import path")


def _harmless(name: str) -> bool:
    """Whether a type with a dot is one of a registry, a network or an optimizer."""
    scope, _, rest = name.partition(".")
    scopes, kinds = _registered()
    if scope in scopes and "." not in rest:
        return True
    found = get_object_from_string(name) if scope in {*scopes, "torch"} else None
    return isinstance(found, type) and (
        found in kinds or issubclass(found, nn.Module | optim.Optimizer)
    )


def _registered() -> tuple[set[str], set[type]]:
    """Scopes and classes of all registries; scopes of packages not yet imported too."""
    scopes = {"mmengine", "mmcv", "mmdet", "mmseg", "mmpretrain", "pld_mmdet"}
    kinds: set[type] = set()
    waiting = [one for one in vars(registries).values() if isinstance(one, Registry)]
    while waiting:
        registry = waiting.pop()
        waiting += registry.children.values()
        scopes.add(registry.scope)
        kinds |= {*registry.module_dict.values()}
    return scopes, kinds


def _refuse(path: str | Path, why: str) -> None:
    raise UserError(
        f"{path} is read as data, and {why}; nothing was run.",
        "Write it as a .py config, which runs when its path is named.",
    )


def read_dump(path: str | Path, build: bool = False) -> Config:
    """The ``config.py`` that a run wrote, without running it.

    Args:
        path: Assignments of literals and ``dict(...)``, as ``Config.dump`` writes.
        build: Whether something is going to be built from it.

    Raises:
        UserError: It is missing, or holds anything else (the line is named); it is to
            be built and imports what is not installed.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
        content = dict(_assignments(ast.parse(text)))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(
            f"{path} cannot be read ({error}).", "Name the folder of a run."
        ) from None
    except SyntaxError as error:
        raise UserError(
            f"{path} is no config that a run wrote (line {error.lineno}: "
            f"{error.msg}); nothing was run.",
            "Name a run's own folder; a config of your own is named by its path.",
        ) from None
    check_data({k: v for k, v in content.items() if k not in _CODE}, path)
    for module in (content.get("custom_imports") or {}).get("imports", ()):
        if build and not _installed(module):
            raise UserError(
                f"{path} imports {module}, which is no installed package; nothing was "
                "run.",
                "Install it if you trust it, or name the config: tools/test.py "
                f"{path} CHECKPOINT.",
            )
        if build:
            import_module(module)
    return Config(content, cfg_text=text, filename=str(path))


def _installed(module: str) -> bool:
    root = module.partition(".")[0]
    spec = find_spec(root) if root.isidentifier() else None
    prefixes = {sys.prefix, sys.base_prefix}
    return root == "pld_mmdet" or bool(
        spec
        and spec.origin
        and any(Path(one) in Path(spec.origin).parents for one in prefixes)
    )


def _assignments(tree: ast.Module) -> Iterator[tuple[str, object]]:
    for line in tree.body:
        if isinstance(line, ast.Assign) and len(line.targets) == 1:
            target = line.targets[0]
            if isinstance(target, ast.Name):
                yield target.id, _literal(line.value)
                continue
        raise SyntaxError("no assignment of a value", ("", line.lineno, 0, ""))


def _literal(node: ast.expr) -> object:
    """A literal with ``dict(a=1)``, ``set()`` and the numbers that have no literal."""
    match node:
        case ast.Call(func=ast.Name(id="dict"), args=args, keywords=named) if len(
            args
        ) <= 1 and all(one.arg for one in named):
            content = dict(_literal(args[0])) if args else {}
            return content | {one.arg: _literal(one.value) for one in named}
        case ast.Dict(keys=keys, values=values) if None not in keys:
            pairs = zip(keys, values, strict=True)
            return {_literal(k): _literal(v) for k, v in pairs}
        case ast.List(elts=parts):
            return [_literal(part) for part in parts]
        case ast.Tuple(elts=parts):
            return tuple(_literal(part) for part in parts)
        case ast.Set(elts=parts):
            return {_literal(part) for part in parts}
        case ast.Name(id="inf" | "nan" as word):
            return float(word)
        case ast.UnaryOp(op=ast.USub(), operand=ast.Name(id="inf")):
            return float("-inf")
    try:
        return ast.literal_eval(node)
    except ValueError:
        raise SyntaxError("code, not a value", ("", node.lineno, 0, "")) from None
