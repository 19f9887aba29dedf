"""Weights into a model: what fits, what does not, in one sentence."""

import contextlib
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field

import mmengine.runner.checkpoint
import torch
from mmengine.model import BaseModule
from mmengine.runner.checkpoint import CheckpointLoader
from torch import Tensor, nn

from pld_mmdet.errors import UserError


@dataclass
class Mismatch:
    """What did not fit when weights were loaded.

    Args:
        total: Entries of the model.
        missing: Model entries that the checkpoint lacks.
        unexpected: Checkpoint entries that the model lacks.
        shapes: One line for each entry of another shape.
    """

    total: int
    missing: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    shapes: list[str] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.missing or self.unexpected or self.shapes)

    @property
    def fitting(self) -> int:
        """Number of model entries that were filled."""
        return self.total - len(self.missing) - len(self.shapes)

    def __str__(self) -> str:
        parts = [
            f"{len(names)} {what} ({', '.join(names[:3] + ['...'] * (len(names) > 3))})"
            for names, what in (
                (self.missing, "missing"),
                (self.unexpected, "unexpected"),
                (self.shapes, "of another shape"),
            )
            if names
        ]
        return f"{self.fitting} of {self.total} entries fit; " + "; ".join(parts)


def load_weights(model: nn.Module, state_dict: dict) -> Mismatch:
    """Load what fits, running the modules' own load hooks, and say what did not.

    Unlike ``load_state_dict`` it collects all three kinds of differences before
    anybody decides whether they are an error. A missing ``num_batches_tracked`` is no
    difference: files older than that buffer lack it.

    Args:
        model: Receives the weights; its ``load_state_dict`` pre-hooks run.
        state_dict: Names to tensors.
    """
    missing: list[str] = []
    unexpected: list[str] = []
    errors: list[str] = []
    metadata = getattr(state_dict, "_metadata", None) or {}
    weights = OrderedDict(state_dict)

    def visit(module: nn.Module, prefix: str, local: dict) -> None:
        version = metadata.get(prefix[:-1], {})
        module._load_from_state_dict(
            local, prefix, version, True, missing, unexpected, errors
        )
        for name, child in module._modules.items():
            if child is not None:
                start = f"{prefix}{name}."
                part = {k: v for k, v in local.items() if k.startswith(start)}
                visit(child, start, part)
        for hook in module._load_state_dict_post_hooks.values():
            hook(module, torch.nn.modules.module._IncompatibleKeys(missing, unexpected))

    with torch.no_grad():
        visit(model, "", weights)

    def counted(names) -> list[str]:
        return [k for k in names if not k.endswith("num_batches_tracked")]

    return Mismatch(
        total=len(counted(model.state_dict())),
        missing=counted(missing),
        unexpected=sorted(set(unexpected)),
        shapes=[_short(e) for e in errors],
    )


def _short(error: str) -> str:
    """``name: file (2, 3), model (4, 3)`` from torch's long sentence."""
    name = error.replace("size mismatch for ", "").split(":")[0].strip()
    sizes = [part.split("]")[0] for part in error.split("torch.Size([")[1:]]
    if len(sizes) != 2:
        return error.strip()
    return f"{name}: file [{sizes[0]}], model [{sizes[1]}]"


def report_mismatch(
    model: nn.Module, state_dict: dict, source: str, partial: bool = False
) -> str | None:
    """Load weights and refuse a checkpoint of another architecture.

    Args:
        model: Receives the weights.
        state_dict: Names to tensors.
        source: Where they come from, for the sentence.
        partial: Accept a partial fit (fine-tuning with another head); even then
            something must fit.

    Returns:
        The sentence about what did not fit, or None if everything did.

    Raises:
        UserError: If nothing fits, if anything differs and ``partial`` is False, or if
            a weight is not finite.
    """
    require_finite(state_dict, source, model)
    mismatch = load_weights(model, state_dict)
    if not mismatch:
        return None
    if mismatch.fitting <= 0 or not partial:
        raise UserError(
            f"{source} is a checkpoint of another architecture than "
            f"{type(model).__name__} of this config: {mismatch}.",
            "Use the config that trained it (config.py in its work dir) or another "
            "checkpoint; to load what fits (fine-tuning with another head), set "
            "fine_tune=True in the config.",
        )
    return f"{source}: {mismatch}"


@contextlib.contextmanager
def initial_weights(model: nn.Module) -> Iterator[None]:
    """Watch over ``init_weights``: what it reads has to be in the model afterwards.

    mmengine and the backbones only warn of names that do not fit. Looked for are the
    numbers, because a backbone may rename or reshape what it reads.

    Args:
        model: Whose ``init_weights`` runs meanwhile.

    Raises:
        UserError: A checkpoint of which not one tensor is in the model (tensors of one
            value, as biases of zero, tell nothing), or that a backbone could not load.
    """
    read: dict[str, list[Tensor]] = {}
    stock = vars(CheckpointLoader)["load_checkpoint"]

    def remember(filename: str, *args, **kwargs) -> dict:
        content = stock.__get__(None, CheckpointLoader)(filename, *args, **kwargs)
        read[str(filename)] = [t for t in _tensors(content) if _tells(t)]
        return content

    CheckpointLoader.load_checkpoint = remember
    try:
        yield
    except RuntimeError as error:  # torch's, where a backbone loads by itself
        if not read or "state_dict" not in str(error):
            raise
        raise _unfit([*read][-1], model, _short(str(error).splitlines()[-1])) from error
    finally:
        CheckpointLoader.load_checkpoint = stock
    held: dict[torch.Size, list[Tensor]] = {}
    for tensor in (*model.parameters(), *model.buffers()) if read else ():
        held.setdefault(tensor.shape, []).append(tensor.detach())
    for filename, tensors in read.items():
        if tensors and not any(
            torch.equal(one, tensor.to(one))
            for tensor in tensors
            for one in held.get(tensor.shape, ())
        ):
            reason = f"none of its {len(tensors)} tensors is in the model"
            raise _unfit(filename, model, reason)


@contextlib.contextmanager
def whole_files() -> Iterator[None]:
    """What ``init_cfg`` names has to fill its network, not some of it.

    A file may bring more than a network takes (a classifier's head for a backbone).
    For networks that are built here; a stock detector may add layers to a backbone, and
    mmengine then only warns.

    Raises:
        UserError: An entry of the network is missing in the file or of another shape,
            or the file has one too many inside a part of the network.
    """
    stock = mmengine.runner.checkpoint.load_state_dict

    def load(module: nn.Module, state_dict: dict, *_, **__) -> None:
        found = load_weights(module, state_dict)
        parts = {name for name, _ in module.named_children()}
        odd = [name for name in found.unexpected if name.partition(".")[0] in parts]
        if found.missing or found.shapes or odd:
            found.unexpected = odd
            configs = getattr(module, "init_cfg", None) or []
            configs = [configs] if isinstance(configs, dict) else configs
            files = [one["checkpoint"] for one in configs if "checkpoint" in one]
            raise _unfit((files or ["A checkpoint"])[-1], module, str(found))

    mmengine.runner.checkpoint.load_state_dict = load
    try:
        yield
    finally:
        mmengine.runner.checkpoint.load_state_dict = stock


def start_networks(model: nn.Module) -> None:
    """``init_weights`` of what plain modules in a model hold, as of its own children.

    mmengine asks only children that have the method: it never comes to a network in a
    ``ModuleList``, a teacher or a wrapper that is no ``BaseModule``. What a network has
    inside is its own affair.

    Args:
        model: Its own ``init_weights`` has run.
    """
    for network in _networks(model):
        if not network.is_init:
            network.init_weights()


@contextlib.contextmanager
def copies_kept(model: nn.Module) -> Iterator[None]:
    """A network that is a copy of another one when the block begins is one at its end.

    Args:
        model: Holds both; the first of equal networks is followed.
    """
    firsts: list[nn.Module] = []
    pairs: list[tuple[nn.Module, nn.Module]] = []
    for network in _networks(model):
        source = next((one for one in firsts if _equal(one, network)), None)
        if source is None:
            firsts.append(network)
        else:
            pairs.append((source, network))
    yield
    for source, network in pairs:
        network.load_state_dict(source.state_dict())


def _networks(module: nn.Module) -> Iterator[BaseModule]:
    """The outermost modules that mmengine would start."""
    for child in module.children():
        if isinstance(child, BaseModule):
            yield child
        elif not hasattr(child, "init_weights"):  # transformers have another one
            yield from _networks(child)


def _equal(one: nn.Module, other: nn.Module) -> bool:
    """Of one class, with the same numbers, which are not of one value each."""
    if type(one) is not type(other):
        return False
    a, b = one.state_dict(), other.state_dict()
    return (
        a.keys() == b.keys()
        and any(map(_tells, a.values()))
        and all(v.shape == b[k].shape and torch.equal(v, b[k]) for k, v in a.items())
    )


def _unfit(filename: str, model: nn.Module, reason: str) -> UserError:
    return UserError(
        f"{filename}, which init_cfg names, does not fit {type(model).__name__}: "
        f"{reason}.",
        "Name weights of this network (with `prefix` where they are a part of a larger "
        "one), or leave init_cfg out.",
    )


def _tensors(content: object) -> Iterator[Tensor]:
    if isinstance(content, Tensor):
        yield content
    elif isinstance(content, dict):
        for value in content.values():
            yield from _tensors(value)


def _tells(tensor: Tensor) -> bool:
    return tensor.numel() > 1 and bool((tensor != tensor.flatten()[0]).any())


def require_finite(
    state_dict: dict, source: str, model: nn.Module | None = None
) -> None:
    """Refuse weights with NaN or infinity, before anything is computed with them.

    Args:
        state_dict: Names to tensors; other entries are passed over.
        source: Where they come from, for the sentence.
        model: Built from its config. What is not finite in it either (the mask of a
            language model) is so by design.

    Raises:
        UserError: Names the first such tensor and how much of it is wrong.
    """
    wrong = [
        name
        for name, value in state_dict.items()
        if isinstance(value, torch.Tensor)
        and value.is_floating_point()
        and not torch.isfinite(value).all()
    ]
    if wrong and model is not None:
        built = model.state_dict()
        wrong = [
            name
            for name in wrong
            if name not in built or torch.isfinite(built[name]).all()
        ]
    if not wrong:
        return
    value = state_dict[wrong[0]]
    bad = int((~torch.isfinite(value)).sum())
    more = f", and {len(wrong) - 1} more tensors" if len(wrong) > 1 else ""
    raise UserError(
        f"{source} holds weights that are not finite: {wrong[0]} (NaN or infinity in "
        f"{bad} of {value.numel()} numbers){more}.",
        "Use an earlier checkpoint, or one of another run.",
    )


def compare_classes(ours: object, theirs: object, source: str) -> None:
    """Stop when the checkpoint was trained on other class names or another order.

    Args:
        ours: Class names of the config's dataset (None: not known, nothing compared).
        theirs: Class names that the checkpoint carries (None: not known).
        source: The checkpoint's path.

    Raises:
        UserError: Names the first difference.
    """
    if not ours or not theirs:
        return
    ours = [ours] if isinstance(ours, str) else list(ours)
    theirs = [theirs] if isinstance(theirs, str) else list(theirs)
    if ours == theirs:
        return
    at = next(
        (i for i, (a, b) in enumerate(zip(ours, theirs, strict=False)) if a != b),
        min(len(ours), len(theirs)),
    )
    mine = ours[at] if at < len(ours) else "nothing"
    other = theirs[at] if at < len(theirs) else "nothing"
    raise UserError(
        f"{source} was trained on other classes: number {at} is '{other}' there and "
        f"'{mine}' in the data set of this config ({len(theirs)} and {len(ours)} "
        "classes).",
        "Set metainfo=dict(classes=...) of the data sets to the checkpoint's names in "
        "its order, or set fine_tune=True in the config to train another set of "
        "classes.",
    )
