"""Arguments that a config gives, compared with the signatures that take them."""

import ast
import contextlib
import inspect
import sys
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from importlib import import_module
from importlib.util import find_spec

from mmengine import registry as registries
from mmengine.config import Config
from mmengine.registry import Registry
from torch import nn
from torch.utils.data import DataLoader

from pld_mmdet.engine.config.reads import check_keys, keys_read, module, spoken_of
from pld_mmdet.errors import UserError


@dataclass(frozen=True)
class Place:
    """What is built at a place of a config.

    Args:
        registry: Name of mmengine's root registry that is asked.
        given: Arguments that whoever builds it adds.
        read: Keys that whoever builds it takes away.
        kind: Type where the config names none.
        parts: Whether a dict without a type holds several of them by name.
    """

    registry: str = ""
    given: tuple[str, ...] = ()
    read: tuple[str, ...] = ()
    kind: str | None = None
    parts: bool = False


_RUN, _STEP = ("runner", "dataloader"), ("runner", "dataloader", "evaluator")
_METRIC, ANY = Place("METRICS", parts=True), Place()
_EVALUATOR = Place("EVALUATOR", kind="Evaluator")  # of several metrics
_HOOK = Place("HOOKS", read=("priority",), parts=True)
# Keys that mean the same wherever they stand.
KEYS = {
    "dataset": Place("DATASETS"),
    "datasets": Place("DATASETS", parts=True),
    "pipeline": Place("TRANSFORMS"),
    "transforms": Place("TRANSFORMS"),
    "optimizer": Place("OPTIMIZERS", given=("params",)),
    "optim_wrapper": Place(
        "OPTIM_WRAPPERS",
        given=("optimizer",),
        read=("constructor", "paramwise_cfg"),
        kind="OptimWrapper",
        parts=True,
    ),
    "param_scheduler": Place(
        "PARAM_SCHEDULERS",
        given=("optimizer",),
        read=("convert_to_iter_based",),
        parts=True,
    ),
    "init_cfg": Place("WEIGHT_INITIALIZERS", read=("override", "name")),
    "override": Place("WEIGHT_INITIALIZERS", read=("override", "name")),
    "metrics": _METRIC,
    "norm_cfg": Place(read=("requires_grad",)),
    "vis_backends": Place("VISBACKENDS", given=("save_dir",)),
}
# What the Runner builds from the top of a config.
TOP = {
    "model": Place("MODELS"),
    "train_cfg": Place("LOOPS", _RUN),
    "val_cfg": Place("LOOPS", _STEP, kind="ValLoop"),
    "test_cfg": Place("LOOPS", _STEP, kind="TestLoop"),
    "val_evaluator": _METRIC,
    "test_evaluator": _METRIC,
    "visualizer": Place("VISUALIZERS", ("name",), ("name", "save_dir")),
    "vis_backends": KEYS["vis_backends"],
    "log_processor": Place("LOG_PROCESSORS", kind="LogProcessor"),
    "custom_hooks": _HOOK,
    "default_hooks": _HOOK,
    "train_dataloader": ANY,
    "val_dataloader": ANY,
    "test_dataloader": ANY,
    "optim_wrapper": KEYS["optim_wrapper"],
    "param_scheduler": KEYS["param_scheduler"],
}
# Below a data loader.
LOADER = {
    "sampler": Place("DATA_SAMPLERS", given=("dataset", "seed")),
    "batch_sampler": Place("DATA_SAMPLERS", given=("sampler", "batch_size")),
    "collate_fn": Place("FUNCTIONS", given=("data_batch",)),
    "worker_init_fn": Place("FUNCTIONS", given=("worker_id",)),
}
# Arguments whose types another library knows, with the class that takes them.
FOREIGN = {"transforms": "Albu"}
_NESTED = ("MODELS", "TASK_UTILS", "WEIGHT_INITIALIZERS", "TRANSFORMS", "DATASETS")
_NESTED += ("OPTIMIZERS", "METRICS", "HOOKS", "FUNCTIONS", "LOOPS", "EVALUATOR")
# Whose classes get what they need by name, from the config or from the class above.
_SIDE = ("pld_mmdet.", "mmdet.models.backbones.", "mmdet.models.necks.")
_SIDE += ("mmdet.models.dense_heads.", "mmdet.models.roi_heads.")
_EVERYWHERE = ("type", "_scope_", "_delete_")
# Dicts that a class is handed whole, with keys that stock configs carry for nobody.
WHOLE = {
    "train_cfg": ("debug", "mask_size", "pos_weight"),
    "test_cfg": (),
    "semi_train_cfg": (),
    "semi_test_cfg": (),
    "filter_cfg": ("filter_empty_gt", "min_size", "bbox_min_size"),
}
_META = ("classes", "palette")  # names in metainfo that others ask for
_LOADER = ("num_batch_per_epoch", "disable_subprocess_warning")


@dataclass(frozen=True)
class Signature:
    """What can be given by name.

    Args:
        names: Arguments.
        required: Those without a default.
        complete: Whether there are no others.
    """

    names: tuple[str, ...] = ()
    required: frozenset[str] = frozenset()
    complete: bool = False


def check_arguments(cfg: Config, leave: Sequence[str] = ()) -> None:
    """Compare the arguments of a config with the signatures that will take them.

    Nothing is built. What the Runner builds (:data:`TOP`) is walked through, and not
    the helper variables beside it.

    Args:
        cfg: The resolved config.
        leave: Names at its top that will not be built.

    Raises:
        UserError: An argument that nothing takes, or a needed one that is missing; with
            its place and the nearest name.
    """
    scope = cfg.get("default_scope")
    content = cfg.to_dict()
    for name, place in TOP.items():
        if name not in leave and content.get(name) is not None:
            _check(content[name], name, place, scope, name)


def _check(
    node: object,
    where: str,
    place: Place | None,
    scope: str | None,
    key: str,
    above: tuple[object, ...] = (),
) -> None:
    """Check a value of a config and all below it.

    Args:
        node: The value.
        where: Its dotted place.
        place: What is built here; None: whatever its type is.
        scope: Where bare names are looked for.
        key: The last name on the way (lists have none).
        above: Classes whose arguments it is part of.
    """
    if isinstance(node, list | tuple):
        for number, value in enumerate(node):
            _check(value, f"{where}.{number}", place, scope, key, above)
        return
    if not isinstance(node, dict):
        return
    scope = node.get("_scope_", scope)
    place = place or ANY
    if place is _METRIC and "metrics" in node:
        place = _EVALUATOR
    parts = (place.parts and "type" not in node) or "constructor" in node
    parts = parts and "optimizer" not in node
    kind, owner = node.get("type", place.kind), None
    if key.endswith("dataloader"):
        _compare(node, where, DataLoader, Place(read=_LOADER))
    elif where == "train_cfg" and "type" not in node:
        loop = "EpochBasedTrainLoop" if node.get("by_epoch") else "IterBasedTrainLoop"
        read = Place("LOOPS", _RUN, ("by_epoch",))
        _compare(node, where, registries.LOOPS.get(loop), read)
    elif not parts and kind is not None:
        owner = find(kind, scope, place)
        if owner is None:
            _refuse_type(kind, where, scope, place)
        else:
            _compare(node, where, owner, place, above)
            above = (*above, owner)
    for name, value in node.items():
        inner = LOADER.get(name) if key.endswith("dataloader") else None
        inner = inner or (place if parts else KEYS.get(name))
        if name in FOREIGN and str(kind).endswith(FOREIGN[name]):
            continue
        below = f"{where}.{name}"
        if name in WHOLE and owner is not None:
            free = (*_EVERYWHERE, *WHOLE[name])
            built = () if name == "filter_cfg" else _built(node, scope)
            check_keys(value, below, (owner, *above[:-1]), built, free)
        elif name == "paramwise_cfg" and value is not None:
            _check_paramwise(value, below, node, scope)
        elif name == "metainfo" and isinstance(value, dict):
            _check_metainfo(value, below)
        _check(value, below, inner, scope, name, above)


def _built(node: object, scope: str | None) -> tuple[object, ...]:
    """Classes that a dict and all below it name."""
    found = []
    if isinstance(node, dict):
        scope = node.get("_scope_", scope)
        kind = node.get("type")
        found = [] if kind is None else [find(kind, scope, ANY)]
        node = node.values()
    for value in node if not isinstance(node, str) else ():
        if isinstance(value, dict | list | tuple):
            found += _built(value, scope)
    return tuple(dict.fromkeys(one for one in found if one is not None))


def _check_paramwise(value: dict, where: str, wrapper: dict, scope: str | None) -> None:
    """Compare options by parameter with what the constructor reads.

    Raises:
        UserError: Nothing reads a key, or an optimizer takes no such option.
    """
    place = Place("OPTIM_WRAPPER_CONSTRUCTORS")
    stock = find("DefaultOptimWrapperConstructor", None, place)
    named = wrapper.get("constructor")
    owner = find(named, scope, place) if named else stock
    if owner is None:
        return
    own = owner if "custom_keys" in keys_read(owner) else stock
    check_keys(value, where, (own, owner), free=_EVERYWHERE)
    kind = (wrapper.get("optimizer") or {}).get("type")
    taken = kind and signature(find(kind, scope, KEYS["optimizer"]))
    known = ("lr_mult", "decay_mult", *(taken.names if taken else ()))
    for name, options in (value.get("custom_keys") or {}).items():
        for key in options if taken and taken.complete else ():
            if key not in known:
                near = get_close_matches(str(key), known, n=1, cutoff=0.5)
                fix = f"Did you mean {near[0]}?" if near else "Use lr_mult, decay_mult."
                raise UserError(
                    f"{where}.custom_keys.{name}.{key}: nothing reads {key!r}.", fix
                )


def _check_metainfo(value: dict, where: str) -> None:
    """Refuse what looks like ``classes``: a data set would go on with its own.

    Raises:
        UserError: With the right name.
    """
    for key in value:
        near = get_close_matches(str(key).lower(), _META, n=1, cutoff=0.8)
        if near and key not in _META:
            raise UserError(
                f"{where}.{key}: nothing reads this name.",
                f"Did you mean {where}.{near[0]}?",
            )


def _refuse_type(kind: str, where: str, scope: str | None, place: Place) -> None:
    """Refuse a type that no registry knows where one is asked, or that looks misspelt.

    Elsewhere it may be a word that its owner reads (``nms``, ``RoIAlign``).

    Raises:
        UserError: With the nearest name.
    """
    known = {
        one.rpartition(".")[2]: one
        for registry in ([place.registry] if place.registry else _NESTED[:2])
        for one in _names(scope, registry)
    }
    name, cutoff = kind.rpartition(".")[2], 0.5 if place.registry else 0.85
    near = [known[one] for one in get_close_matches(name, known, n=1, cutoff=cutoff)]
    if near or place.registry:
        raise UserError(
            f"{where}.type: there is no {kind!r}.",
            f"Did you mean {near[0]!r}?"
            if near
            else "Correct the name, or name the module that registers it in "
            "custom_imports of the config.",
        )


def _names(scope: str | None, name: str) -> set[str]:
    """Names in a registry and in those it asks when it does not know one."""
    root: Registry = getattr(registries, name)
    child = root._search_child(scope) if scope else None
    found = {*root.module_dict, *(() if child is None else child.module_dict)}
    ours = root.children.get("pld_mmdet")
    return found | {f"pld_mmdet.{one}" for one in (ours.module_dict if ours else ())}


def _compare(
    node: dict, where: str, owner: object, place: Place, above: tuple[object, ...] = ()
) -> None:
    """Compare one dict with what it is handed to.

    What the classes above it speak of in their source is theirs: they take it out
    before they build this one, or put it in.

    Raises:
        UserError: It names something else, or lacks something.
    """
    taken = signature(owner)
    name = getattr(owner, "__name__", str(owner))
    for key in node if taken.complete else ():
        if key in (*_EVERYWHERE, *place.read, *taken.names) or spoken_of(key, above):
            continue
        near = get_close_matches(str(key), taken.names, n=1, cutoff=0.5)
        free = [one for one in taken.names if one not in node]
        fix = f"It takes: {', '.join(free[:30]) or 'nothing'}."
        if near:
            fix = f"Did you mean {where}.{near[0]}?"
        raise UserError(f"{where}.{key}: {name} takes no argument {key!r}.", fix)
    if not place.registry and not module(owner).startswith(_SIDE):
        return  # a layer: how it is built does not stand in the class above
    missing = taken.required - node.keys() - {*place.given}
    missing = sorted(one for one in missing if not spoken_of(one, above))
    if missing:
        raise UserError(
            f"{where}: {name} needs {' and '.join(missing)}, which is not given.",
            f"Add {', '.join(f'{where}.{one}=...' for one in missing)}.",
        )


def find(kind: object, scope: str | None, place: Place) -> object | None:
    """The class or function that a ``type`` names.

    Args:
        kind: Its name, or itself as in mmengine's other config style.
        scope: Where a bare name is looked for first, then in mmengine's own.
        place: What is built there.

    Returns:
        None if there is none, or if a library is missing without which nobody knows.
    """
    if not isinstance(kind, str):
        return kind if callable(kind) else None
    wanted = (place.registry,) if place.registry else _NESTED
    return next(filter(None, (_find(kind, scope, name) for name in wanted)), None)


@cache
def _find(kind: str, scope: str | None, name: str) -> object | None:
    root: Registry = getattr(registries, name)
    with contextlib.suppress(ImportError):
        import_module(f"{scope}.registry")
    registry = root._search_child(scope) if scope else None
    try:
        found = (root if registry is None else registry).get(kind)
    except ImportError:  # a library that is missing is said when it is built
        return _anything
    except Exception:  # mmengine's for a name that it does not know
        found = None
    package = kind.rpartition(".")[0].partition(".")[0]
    if found is not None or not package or package in sys.modules:
        return found
    return None if find_spec(package) else _anything


def _anything(**rest) -> None:
    """Stands for what cannot be imported here."""


@cache
def signature(owner: object) -> Signature:
    """What can be given by name, also what ``**kwargs`` hand on to a base class."""
    function = owner
    if inspect.isclass(owner):
        for number, base in enumerate(owner.__mro__):
            if base is nn.Module or base is object:
                return Signature(complete=True)
            if "__init__" in vars(base):
                return _of_class(owner, number)
    return _of(function)[0]


def _of_class(owner: type, number: int) -> Signature:
    """Signature of the first constructor in a class's order of bases."""
    bases = owner.__mro__[number:]
    at = next((i for i, base in enumerate(bases) if "__init__" in vars(base)), None)
    if at is None or bases[at] in (object, nn.Module):
        return Signature(complete=True)
    own, rest = _of(vars(bases[at])["__init__"])
    if own.complete or rest is None:
        return own
    base = _of_class(owner, number + at + 1)
    placed, named = rest
    handed = {*base.names[:placed], *named}
    return Signature(
        (*own.names, *(n for n in base.names if n not in {*handed, *own.names})),
        own.required | (base.required - handed),
        base.complete,
    )


def _of(function: object) -> tuple[Signature, tuple[int, set] | None]:
    """A function's own signature, and how its ``**kwargs`` go to ``super().__init__``.

    Returns:
        The signature; the numbers of arguments that the call hands over by place, and
        the names of the others. None if they go elsewhere or nowhere.
    """
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):  # written in C
        return Signature(), None
    if parameters and parameters[0].name in ("self", "cls"):
        parameters = parameters[1:]
    by_name = [
        p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)
    ]
    rest = next((p.name for p in parameters if p.kind is p.VAR_KEYWORD), None)
    found = Signature(
        (*(p.name for p in by_name), *_old_names(function)),
        frozenset(p.name for p in by_name if p.default is p.empty),
        rest is None,
    )
    return found, (_handed_on(function, rest) if rest is not None else None)


def _old_names(function: object) -> list[str]:
    """Names that mmengine's ``deprecated_api_warning`` around a function translates."""
    names = []
    for cell in getattr(function, "__closure__", None) or ():
        with contextlib.suppress(ValueError):  # an empty cell
            if isinstance(cell.cell_contents, dict):
                names += [name for name in cell.cell_contents if isinstance(name, str)]
    return names


def _handed_on(function: object, rest: str) -> tuple[int, set] | None:
    """Read in a constructor's source where its ``**rest`` go."""
    try:
        source = textwrap.dedent(inspect.getsource(inspect.unwrap(function)))
        tree = ast.parse(source)
    except (OSError, TypeError, SyntaxError):
        return None
    uses = [n for n in ast.walk(tree) if isinstance(n, ast.Name) and n.id == rest]
    owner = function.__qualname__.split(".")[-2:][0]
    handing = ("super().__init__", f"super({owner}, self).__init__")
    calls = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and ast.unparse(node.func) in handing
    ]
    if len(uses) != 1 or len(calls) != 1:
        return None
    call = calls[0]
    if not any(word.arg is None and word.value is uses[0] for word in call.keywords):
        return None
    placed = [value for value in call.args if not isinstance(value, ast.Starred)]
    return len(placed), {word.arg for word in call.keywords if word.arg}
