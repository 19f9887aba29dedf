"""Checkpoint files: read without executing anything, written whole or not at all.

Reading goes through ``torch.load(weights_only=True)`` with an explicit list of harmless
classes that training frameworks put into checkpoints. There is no fall-back: a file
that wants anything else is refused with the name of what it wanted.
"""

import os
import pickle
import re
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from difflib import get_close_matches
from pathlib import Path

import numpy as np
import torch
from mmengine.config import ConfigDict
from mmengine.dist import barrier, get_rank
from mmengine.logging import HistoryBuffer
from mmengine.runner.checkpoint import CheckpointLoader, get_torchvision_models

from pld_mmdet.engine.state.files import write_atomic
from pld_mmdet.errors import UserError
from pld_mmdet.reading import misfit

# What is read of a checkpoint before anything is loaded.
_PARTS = {
    "state_dict?": dict,
    "meta?": ({"dataset_meta?": (dict, type(None))}, type(None)),
}
_PACKED = "__pld_mmdet__"  # marks a dict that stands for another class


class Damaged(UserError):
    """A file is not what was written: cut off, or with other bytes."""


def _history_statistic(owner: type, name: str) -> Callable:
    """Stand-in for ``getattr``, by which old history buffers name their methods."""
    if owner is HistoryBuffer and name in ("mean", "max", "min", "current"):
        return getattr(HistoryBuffer, name)
    raise pickle.UnpicklingError("GLOBAL builtins.getattr was not an allowed global")


def allowed_globals() -> list:
    """What a checkpoint may name beside torch's own list: plain data, no functions.

    numpy's names are listed for numpy 1 (``numpy.core``) and 2 (``numpy._core``),
    because the file carries the name of the numpy that wrote it.
    """
    numpy_core = np._core if hasattr(np, "_core") else np.core
    allowed: list = [HistoryBuffer, ConfigDict, np.ndarray, np.dtype, slice]
    allowed.append((_history_statistic, "builtins.getattr"))
    for core in ("numpy._core", "numpy.core"):
        multiarray = numpy_core.multiarray
        allowed.append((multiarray._reconstruct, f"{core}.multiarray._reconstruct"))
        allowed.append((multiarray.scalar, f"{core}.multiarray.scalar"))
    for code in "?bBhHiIlLqQefd":
        allowed.append(type(np.dtype(code)))
    return allowed


def refuse_unsafe_pickles() -> None:
    """Make every ``torch.load`` of this process safe, also those inside libraries.

    mmengine's loaders retry with ``weights_only=False`` when the safe load fails; this
    takes the retry away from them. What ``init_cfg`` names is read by
    :func:`load_checkpoint_file`, checksums of archives included.

    Raises:
        UserError: If the environment asks torch for the opposite.
    """
    if os.environ.get("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "0").lower() in (
        "1",
        "y",
        "yes",
        "true",
    ):
        raise UserError(
            "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD is set: torch would execute code that is "
            "hidden in checkpoint files.",
            "unset TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD",
        )
    os.environ["TORCH_FORCE_WEIGHTS_ONLY_LOAD"] = "1"
    register = CheckpointLoader.register_scheme
    register("", load_from_file, force=True)
    register(("http://", "https://"), load_from_address, force=True)
    register(("torchvision://", "modelzoo://"), load_from_torchvision, force=True)


# mmengine's loaders, of which init_cfg asks by the beginning of its `checkpoint`; the
# log shows their names without `load_from_`.
def load_from_file(filename: str, map_location=None) -> dict:
    """Read a local file; see :func:`load_checkpoint_file`."""
    return load_checkpoint_file(os.path.expanduser(filename), map_location or "cpu")


def load_from_address(filename: str, map_location=None) -> dict:
    """Read what lies at an http(s) address, which process 0 downloads first."""
    if get_rank() == 0:
        _download(filename)
    barrier()
    return load_checkpoint_file(filename, map_location or "cpu")


def load_from_torchvision(filename: str, map_location=None) -> dict:
    """Read weights that torchvision publishes.

    Raises:
        UserError: It publishes none of that name.
    """
    return load_from_address(torchvision_address(filename), map_location)


def torchvision_address(filename: str) -> str:
    """Where ``torchvision://NAME`` lies.

    Raises:
        UserError: torchvision publishes nothing of that name.
    """
    name, known = filename.partition("://")[2], get_torchvision_models()
    if name not in known:
        near = get_close_matches(name, known, n=1)
        raise UserError(
            f"torchvision publishes no weights {name!r} ({filename}).",
            f"Did you mean {near[0]}?" if near else "Name a file or an address.",
        )
    return known[name]


def local_file(checkpoint: str) -> Path:
    """The file that a ``checkpoint`` of a config names, or is downloaded to."""
    if checkpoint.startswith(("torchvision://", "modelzoo://")):
        checkpoint = torchvision_address(checkpoint)
    if checkpoint.startswith(("http://", "https://")):
        name = checkpoint.split("?")[0].split("/")[-1]
        return Path(torch.hub.get_dir()) / "checkpoints" / name
    return Path(checkpoint).expanduser()


def refusal(path: str | Path, error: Exception) -> UserError:
    """The sentence for a file that the safe loader refused or could not read.

    Args:
        path: The checkpoint file.
        error: What ``torch.load`` raised.
    """
    match = re.search(
        r"(?:GLOBAL|instantiate|unsupported class) `?([\w.]+)", str(error)
    )
    if match is None:
        match = re.search(r"but got <class '([\w.]+)'>", str(error))
    if match is not None:
        return UserError(
            f"{path} was refused and not executed: beside weights it contains "
            f"'{match.group(1)}', which could run code on this computer.",
            "Get its weights alone: a plain state_dict or a .safetensors file. Making "
            "one from this file yourself runs what is in it (docs/faults.md).",
        )
    said = str(error).strip() or "no reason"
    inner = re.search(
        r"WeightsUnpickler error:\s*(.+)", said
    )  # torch's advice before it
    reason = inner[1] if inner else said.splitlines()[0]
    return Damaged(
        f"{path} cannot be read as a checkpoint ({type(error).__name__}: "
        f"{reason[:150]}): it is truncated, damaged or no checkpoint at all.",
        "Copy or download it again, or name another checkpoint.",
    )


def load_plain_file(
    path: str | Path,
    map_location: str | torch.device | Callable = "cpu",
    what: str = "checkpoint",
):
    """Whatever plain data a file of ``torch.save`` holds; nothing in it is executed.

    Args:
        path: The file.
        map_location: As in ``torch.load``.
        what: What it is meant to be, for the sentence.

    Raises:
        UserError: If the file is missing, damaged, or holds more than plain data.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(
            f"The {what} {path} does not exist.",
            "Check the path (relative paths start at the current folder).",
        )
    try:
        check_archive(path)
        with _plain_data_only():
            return torch.load(path, map_location=map_location, weights_only=True)
    except PermissionError as error:
        raise UserError(f"No permission to read {path}.", f"chmod +r {path}") from error
    except Exception as error:  # whatever broke inside: the file is not usable
        raise refusal(path, error) from error


def load_checkpoint_file(
    path: str | Path, map_location: str | torch.device | Callable = "cpu"
) -> dict:
    """Read a checkpoint without executing anything in it.

    Args:
        path: A ``.pth`` or ``.safetensors`` file, or an http(s) address (downloaded
            once into torch's cache).
        map_location: As in ``torch.load``.

    Returns:
        The checkpoint's dict; ``{'state_dict': ...}`` for a safetensors file. Classes
        that :func:`to_plain` replaced are restored.

    Raises:
        UserError: If the file is missing, damaged, or holds more than plain data.
    """
    if str(path).startswith(("http://", "https://")):
        path = _download(str(path))
    path = Path(path)
    if path.suffix == ".safetensors" and path.is_file():
        return {"state_dict": _load_safetensors(path, map_location)}
    checkpoint = load_plain_file(path, map_location)
    if not isinstance(checkpoint, dict):
        raise UserError(
            f"{path} holds a {type(checkpoint).__name__}, not a dict of weights.",
            "Name a checkpoint that was written by mmengine or torch.save(state_dict).",
        )
    try:
        checkpoint = from_plain(checkpoint)
    except Exception as error:  # what to_plain never writes
        raise refusal(path, error) from error
    weights = checkpoint.get("state_dict", checkpoint)
    problem = misfit(checkpoint, _PARTS)
    if problem is None and not all(isinstance(key, str) for key in weights):
        problem = "not all of its weights have names"
    if problem is not None:
        raise UserError(
            f"{path} is no checkpoint: {problem}.",
            "Name a checkpoint that was written by mmengine or torch.save(state_dict).",
        )
    return checkpoint


def _plain_data_only() -> AbstractContextManager:
    """Plain data may be named beside weights.

    torch before 2.5 takes no such list: there a file that is more than weights, numbers
    and texts (mmengine's own training checkpoints) is refused.
    """
    allow = getattr(torch.serialization, "safe_globals", None)
    return nullcontext() if allow is None else allow(allowed_globals())


def check_archive(path: Path) -> None:
    """Compare a zip archive's contents with its checksums, which torch does not do.

    Raises:
        ValueError: An entry is damaged.
    """
    if not zipfile.is_zipfile(path):  # torch's older format has no checksums
        return
    with zipfile.ZipFile(path) as archive:
        damaged = archive.testzip()
    if damaged is not None:
        raise ValueError(f"the checksum of its entry {damaged} is wrong")


def _download(address: str) -> Path:
    target = local_file(address)
    if not target.is_file():
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            torch.hub.download_url_to_file(address, str(target))
        except OSError as error:  # urllib's errors are OSErrors
            raise UserError(
                f"{address} cannot be downloaded ({error}).",
                f"Download it elsewhere and put it at {target}.",
            ) from error
    return target


def _load_safetensors(path: Path, map_location) -> dict:
    try:
        from safetensors.torch import load_file
    except ImportError as error:
        raise UserError(
            f"{path} is a safetensors file and the package safetensors is missing.",
            "pip install safetensors",
        ) from error
    device = map_location if isinstance(map_location, str | torch.device) else "cpu"
    try:
        return load_file(path, device=str(device))
    except Exception as error:
        raise refusal(path, error) from error


def save_atomic(obj: object, path: str | Path) -> None:
    """Write ``torch.save(obj)`` so that ``path`` is the old or the new file, whole.

    The bytes go to a temporary file in the same folder, are forced to the disk, and
    the file is renamed. Whatever stops that (kill, full disk) leaves the old file.

    Raises:
        UserError: If the folder cannot be written or the disk is full.
    """
    write_atomic(path, lambda file: torch.save(obj, file), sync=True)


def to_plain(obj: object, where: str = "checkpoint") -> object:
    """Rewrite an object so that ``torch.load(weights_only=True)`` reads it anywhere.

    History buffers and numpy arrays become dicts of tensors that :func:`from_plain`
    turns back; config dicts become dicts; numpy scalars become Python numbers.

    Args:
        obj: Nested dicts, lists and leaves.
        where: Name of ``obj`` for the error.

    Raises:
        TypeError: Names the entry whose class has no plain form.
    """
    if obj is None or isinstance(obj, bool | int | float | complex | str | bytes):
        # subclasses (enums, numpy's float64 is a float) reduce to their base
        for base in (bool, int, float, complex, str, bytes):
            if isinstance(obj, base):
                return base(obj) if type(obj) is not base else obj
        return None
    if isinstance(obj, np.generic):
        return obj.item()
    if isinstance(obj, torch.Tensor):
        return obj.detach().cpu() if type(obj) is torch.Tensor else obj.data.cpu()
    if isinstance(obj, torch.Size | torch.dtype | torch.device):
        return obj
    if isinstance(obj, HistoryBuffer):
        values, counts = obj.data
        return {
            _PACKED: "HistoryBuffer",
            "values": torch.from_numpy(np.array(values, dtype=np.float64)),
            "counts": torch.from_numpy(np.array(counts, dtype=np.int64)),
            "max_length": int(obj.max_length),
        }
    if isinstance(obj, np.ndarray) and obj.dtype.kind in "biuf":
        return {_PACKED: "ndarray", "values": torch.from_numpy(np.array(obj))}
    if isinstance(obj, dict):
        plain = {k: to_plain(v, f"{where}.{k}") for k, v in obj.items()}
        if type(obj) is OrderedDict:
            plain = OrderedDict(plain)
            plain.__dict__.update(obj.__dict__)  # a state_dict's versions
        return plain
    if isinstance(obj, list | tuple | set | frozenset):
        items = [to_plain(v, f"{where}[{i}]") for i, v in enumerate(obj)]
        return (
            items
            if isinstance(obj, list)
            else (tuple(items) if isinstance(obj, tuple) else set(items))
        )
    raise TypeError(f"{where} is a {type(obj).__module__}.{type(obj).__qualname__}")


def from_plain(obj: object) -> object:
    """Undo :func:`to_plain` where it changed a class."""
    if isinstance(obj, dict):
        kind = obj.get(_PACKED)
        if kind == "ndarray":
            return obj["values"].cpu().numpy()
        if kind == "HistoryBuffer":
            buffer = HistoryBuffer(max_length=obj["max_length"])
            buffer._log_history = obj["values"].cpu().numpy()
            buffer._count_history = obj["counts"].cpu().numpy()
            return buffer
        for key in obj:
            obj[key] = from_plain(obj[key])
        return obj
    if isinstance(obj, list):
        return [from_plain(v) for v in obj]
    if isinstance(obj, tuple) and type(obj) is tuple:
        return tuple(from_plain(v) for v in obj)
    return obj
