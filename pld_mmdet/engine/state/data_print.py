"""The data of a run, as it was at its beginning: noticed when it is another one later.

``data.json`` in the run's folder holds, for each file and folder that the training
parts of the config name, what tells one state of it from another.
"""

import hashlib
import os
import zlib
from collections.abc import Iterator
from pathlib import Path

from mmengine.config import Config

from pld_mmdet.errors import UserError

FILE = "data.json"
_TRAINING = ("train_dataloader", "train_cfg", "model", "custom_hooks")
_WHOLE = 256 * 2**20  # bytes up to which every one of a file is looked at
_LOOKED_INTO = 500  # files of a folder whose bytes are looked at, spread evenly
_FOLDERS = ("root", "dir", "folder", "prefix", "path")
_LISTS = ("ann_file", "files")


def data_print(cfg: Config) -> dict[str, dict]:
    """What tells this data from another: bytes of files, names and sizes in folders.

    Args:
        cfg: The resolved config. Its run's own folder is left out, likewise what is
            read for validation and test only.

    Returns:
        By the place in the config, such as ``train_dataloader.dataset.ann_file``:
        ``path`` and ``bytes`` (hash) of a file; ``path``, ``count``, ``names``,
        ``sizes`` (hashes) and ``some`` (name to size and checksum) of a folder. A
        folder beside a list of its files has ``some`` alone: others may come.
    """
    content = cfg.to_dict()
    own = os.path.realpath(cfg.work_dir)
    found = {}
    for name in _TRAINING:
        in_data = name.startswith("train")
        for place, path, listed in _paths(content.get(name), name, in_data):
            real = os.path.realpath(path)
            if os.path.commonpath([own, real]) in (own, real):
                continue  # what the run writes, or what it writes into
            if os.path.isfile(path):
                found[place] = {"path": path, "bytes": _bytes(path)}
            else:
                found[place] = {"path": path, **_folder(path, listed)}
    return found


def other_data(before: dict[str, dict], now: dict[str, dict], mended: str = "") -> str:
    """What changed, in words; empty if nothing did.

    Args:
        before: :func:`data_print` of the run's beginning.
        now: Of this moment; what only one of them names is passed over.
        mended: The words with which the run ended. A file that they name may have been
            replaced since: that was the advice.
    """
    changes = []
    for place, old in before.items():
        new = now.get(place)
        if new is None or old == new:
            continue
        if "bytes" in old or "bytes" in new:
            if Path(old["path"]).name not in mended:
                changes.append(f"the file {new['path']} has another content")
            continue
        changes += _of_folder(old, new, mended)
    return "; ".join(changes)


def refuse_other_data(
    before: dict[str, dict], now: dict[str, dict], folder: str | Path, mended: str = ""
) -> None:
    """Let no run go on with other data than it began with.

    Args:
        before: :func:`data_print` of its beginning.
        now: Of this moment.
        folder: Of the run.
        mended: See :func:`other_data`.

    Raises:
        UserError: Something changed; names it.
    """
    changes = other_data(before, now, mended)
    if changes:
        raise UserError(
            f"The run in {folder} began with other data: {changes}.",
            "Put the data back as it was, or start a new run with another --work-dir "
            "(from its weights: --cfg-options load_from=CHECKPOINT).",
        )


def _of_folder(old: dict, new: dict, mended: str) -> list[str]:
    if old.get("names") != new.get("names"):
        lost = [name for name in old["some"] if name not in new["some"]]
        return [
            f"the folder {new['path']} has {new['count']} files and had {old['count']}"
            + (f" ({lost[0]} is gone)" if lost and new["count"] < old["count"] else "")
        ]
    other = [n for n, one in old["some"].items() if new["some"].get(n) != one]
    other = [name for name in other if Path(name).name not in mended]
    if other:
        some = len(old["some"])
        return [
            f"{len(other)} of {some} files looked at in {new['path']} are others, "
            f"for example {other[0]}"
        ]
    named = any(Path(name).name in mended for name in old["some"])
    if old.get("sizes") != new.get("sizes") and not named:
        return [f"files in {new['path']} have other sizes"]
    return []


def _paths(
    node: object, place: str, in_data: bool, root: str = "", listed: bool = False
) -> Iterator[tuple[str, str, bool]]:
    """(place, path, whether a list of its files stands beside it) of what exists."""
    if isinstance(node, dict):
        here = node.get("data_root")
        root = here if isinstance(here, str) else root
        listed = listed or any(node.get(key) for key in _LISTS)
        for key, value in node.items():
            if key == "data_root" and node.get("data_prefix"):
                continue  # they say which part of it
            beside = listed and (key == "data_prefix" or not isinstance(value, dict))
            yield from _paths(value, f"{place}.{key}", in_data, root, beside)
    elif isinstance(node, list | tuple):
        for number, value in enumerate(node):
            yield from _paths(value, f"{place}.{number}", in_data, root, listed)
    elif isinstance(node, str) and node and "\0" not in node and len(node) < 1024:
        key = place.rpartition(".")[2]
        is_root = key == "data_root"
        for path in (node,) if is_root else (os.path.join(root, node), node):
            named = is_root or key.endswith(_FOLDERS) or "data_prefix" in place
            if os.path.isfile(path):
                yield place, path, listed
                return
            if in_data and named and os.path.isdir(path):
                yield place, path, listed
                return


def _bytes(path: str) -> str:
    """Hash of a file; of a very large one its size and 64 MiB spread over it."""
    digest, size = hashlib.sha256(), os.path.getsize(path)
    step = 2**20
    with open(path, "rb") as file:
        if size <= _WHOLE:
            while block := file.read(step):
                digest.update(block)
        else:
            digest.update(str(size).encode())
            for number in range(64):
                file.seek(number * (size - step) // 63)
                digest.update(file.read(step))
    return digest.hexdigest()


def _folder(path: str, listed: bool) -> dict:
    sizes = dict(sorted(_sizes(path)))
    names = [*sizes]
    step = max(1, -(-len(names) // _LOOKED_INTO))
    some = {name: [sizes[name], _glance(path, name)] for name in names[::step]}
    if listed:
        return {"some": some}
    return {
        "count": len(names),
        "names": _hash(names),
        "sizes": _hash(f"{name} {size}" for name, size in sizes.items()),
        "some": some,
    }


def _sizes(path: str) -> Iterator[tuple[str, int]]:
    """(name, bytes) of the files in a folder and below it; hidden ones are nobody's."""
    for folder, folders, files in os.walk(path):
        folders[:] = [one for one in folders if not one.startswith(".")]
        for name in files:
            full = os.path.join(folder, name)
            if not name.startswith(".") and os.path.isfile(full):
                yield os.path.relpath(full, path), os.path.getsize(full)


def _glance(path: str, name: str) -> int:
    """Checksum of a file's beginning, middle and end."""
    full, part = os.path.join(path, name), 4096
    found = 0
    with open(full, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        for start in (0, max(0, size // 2 - part // 2), max(0, size - part)):
            file.seek(start)
            found = zlib.crc32(file.read(part), found)
    return found


def _hash(lines) -> str:
    return hashlib.sha256("\n".join(lines).encode(errors="surrogateescape")).hexdigest()
