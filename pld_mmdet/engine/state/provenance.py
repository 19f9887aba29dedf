"""What a number came from: command, commit, versions, machine, hashes."""

import hashlib
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.model import PretrainedInit
from torch import nn

from pld_mmdet.engine.config.arguments import TOP
from pld_mmdet.engine.state.checkpoint import local_file
from pld_mmdet.started import INSTALLED

_ROOT = Path(__file__).resolve().parents[3]
_PACKAGES = (
    "pld-mmdet",
    "torch",
    "numpy",
    "opencv-python",
    "onedl-mmengine",
    "onedl-mmcv",
    "onedl-mmdetection",
    "mmengine",
    "mmcv",
    "mmdet",
    "pycocotools",
    "faster-coco-eval",
)

# Names of the ``init_cfg`` that reads a checkpoint.
PRETRAINED = ("Pretrained", PretrainedInit, "mmengine.Pretrained")


def command_line() -> str:
    """The command that runs now, as one would type it in the repository."""
    if sys.argv[0].startswith(INSTALLED):
        return portable(f"{sys.argv[0]} {shlex.join(sys.argv[1:])}".rstrip())
    program = (
        os.path.relpath(sys.argv[0]) if os.path.exists(sys.argv[0]) else sys.argv[0]
    )
    return portable(shlex.join(["python", program, *sys.argv[1:]]))


def portable(command: str) -> str:
    """A recorded command without this machine's path to the current folder."""
    return command.replace(f"{os.getcwd()}{os.sep}", "")


def commit() -> tuple[str | None, bool | None]:
    """Git commit of this code and whether tracked files differ from it.

    Returns:
        (None, None) if the code is not in a git checkout.
    """
    try:
        head = _git("rev-parse", "HEAD")
        # work_dirs holds what runs write, not what decides their numbers
        paths = ("--", ":/", ":(exclude,top)work_dirs")
        dirty = _git("status", "--porcelain", "--untracked-files=no", *paths)
    except (OSError, subprocess.SubprocessError):
        return None, None
    return head, bool(dirty)


def _git(*arguments: str) -> str:
    answer = subprocess.run(
        ["git", "-C", str(_ROOT), *arguments],
        capture_output=True,
        text=True,
        timeout=10,
        check=True,
    )
    return answer.stdout.strip()


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that are installed."""
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    found["torch"] = torch.__version__  # with its build, such as +cu130
    return found


def machine() -> dict:
    """Processor, cores and GPUs; no host name."""
    processor = platform.processor() or platform.machine()
    if os.path.isfile("/proc/cpuinfo"):
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            names = [
                line.split(":", 1)[1] for line in file if line[:10] == "model name"
            ]
        processor = names[0].strip() if names else processor
    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {
        "processor": processor,
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpus": gpus,
    }


def peak_memory_mb() -> dict[str, int]:
    """Largest resident memory of this process, and of each GPU's allocator."""
    import resource

    kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    if sys.platform == "darwin":  # bytes there
        kilobytes //= 1024
    peak = {"host": kilobytes // 1024}
    if torch.cuda.is_available():
        peak["gpu"] = torch.cuda.max_memory_allocated() >> 20
    return peak


def tested_on(cfg, images: int) -> dict:
    """What a test saw: a number on another split is another number.

    Args:
        cfg: The resolved config; of its test loader.
        images: Length of the data set that was built from it.

    Returns:
        ``images`` and the annotation ``files`` that the data set reads.
    """
    found = {"images": images}
    leaves = data_sets(cfg.test_dataloader.get("dataset"))
    files = [str(file) for leaf in leaves if (file := _annotation_file(leaf))]
    return found | ({"files": files} if files else {})


def data_sets(node) -> list[dict]:
    """The innermost data sets of nested wrappers."""
    if isinstance(node, list | tuple):
        return [leaf for one in node for leaf in data_sets(one)]
    if not isinstance(node, dict):
        return []
    inner = node.get("dataset", node.get("datasets"))
    return [node] if inner is None else data_sets(inner)


def model_sha256(model: nn.Module) -> str:
    """Hash over names, types, shapes and bytes of a model's state_dict."""
    digest = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        if not isinstance(tensor, torch.Tensor):
            continue
        tensor = tensor.detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def file_sha256(path: str | Path) -> str:
    """Hash of a file's bytes."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def pretrained(cfg: Config) -> dict[str, str | None]:
    """What ``init_cfg=dict(type='Pretrained', checkpoint=...)`` names, with its hash.

    Args:
        cfg: The resolved config; what the Runner builds of it is looked at.

    Returns:
        Hash of the file by checkpoint as the config names it; None if it is not here.
    """
    found: dict[str, str | None] = {}
    for checkpoint in initial_checkpoints(cfg):
        file = local_file(checkpoint)
        found[checkpoint] = file_sha256(file) if file.is_file() else None
    return found


def initial_checkpoints(cfg: Config) -> list[str]:
    """Checkpoints of all ``init_cfg`` in what the Runner builds, each once."""
    content = cfg.to_dict()
    parts = (part for name in TOP for part in _dicts(content.get(name)))
    inits = (one for part in parts for one in _dicts(part.get("init_cfg")))
    named = (one.get("checkpoint") for one in inits if one.get("type") in PRETRAINED)
    return list(dict.fromkeys(one for one in named if isinstance(one, str)))


def annotations(cfg: Config, tested: bool = False) -> set[Path]:
    """Annotation files that a run of a config reads.

    What the Runner builds is looked at (loaders, evaluators, hooks, model); helper
    variables beside it are nobody's files.

    Args:
        cfg: The resolved config.
        tested: It is tested, and so the files of its training are not read.
    """
    content = cfg.to_dict()
    return {
        path
        for name in (("test_dataloader", "test_evaluator") if tested else TOP)
        for part in _dicts(content.get(name))
        if (path := _annotation_file(part)) is not None
    }


def _annotation_file(part: dict) -> Path | None:
    """Where the annotations of a data set, evaluator or hook are, if it names any."""
    root, name = part.get("data_root") or "", part.get("ann_file")
    if not isinstance(name, str) or not name or not isinstance(root, str):
        return None
    return Path(os.path.join(root, name))


def _dicts(value: object) -> Iterator[dict]:
    if isinstance(value, dict):
        yield value
        value = value.values()
    elif not isinstance(value, list | tuple):
        return
    for part in value:
        yield from _dicts(part)
