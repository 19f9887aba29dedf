"""A teacher's answers in a file: made once, read by every student after it."""

import hashlib
from pathlib import Path

import torch
from torch import Tensor, nn

from pld_mmdet.engine.optional import require
from pld_mmdet.errors import UserError


def fingerprint(network: nn.Module) -> str:
    """Checksum of a network's weights."""
    digest = hashlib.sha256()
    for name, value in sorted(network.state_dict().items()):
        digest.update(name.encode())
        digest.update(_content(value))
    return digest.hexdigest()


def save_answers(path: str | Path, rows: Tensor, teacher: nn.Module) -> None:
    """Write logits with a checksum and their teacher's.

    Args:
        path: ``.safetensors``; its folder is made.
        rows: [N, K].
        teacher: Who has answered.
    """
    files = require("safetensors.torch", "language")
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    rows = rows.detach().cpu().contiguous()
    facts = {
        "sha256": hashlib.sha256(_content(rows)).hexdigest(),
        "teacher": fingerprint(teacher),
    }
    unfinished = Path(f"{path}.part")
    files.save_file({"logits": rows}, unfinished, metadata=facts)
    unfinished.replace(path)


def load_answers(path: str | Path, shape: tuple, teacher: nn.Module) -> Tensor:
    """Read what :func:`save_answers` has written.

    Args:
        path: The file.
        shape: (texts, classes) that are expected.
        teacher: Who should have answered.

    Raises:
        UserError: Another file, a damaged one, another shape, or another teacher.
    """
    again = "Name another file, or delete this one to have it made again."
    safe_open = require("safetensors", "language").safe_open
    try:
        with safe_open(str(path), "pt") as file:
            facts, rows = file.metadata() or {}, file.get_tensor("logits")
    except Exception as error:  # the library has its own kinds
        raise UserError(f"{path} holds no answers ({error}).", again) from error
    if facts.get("sha256") != hashlib.sha256(_content(rows)).hexdigest():
        raise UserError(f"{path} is damaged: its checksum differs.", again)
    if tuple(rows.shape) != tuple(shape):
        raise UserError(
            f"{path} holds {tuple(rows.shape)} answers, {tuple(shape)} are asked for.",
            again,
        )
    if facts.get("teacher") != fingerprint(teacher):
        raise UserError(f"{path} holds the answers of another teacher.", again)
    return rows


def _content(value: Tensor) -> bytes:
    value = value.detach().cpu().contiguous().flatten()
    return value.view(torch.uint8).numpy().tobytes() if value.numel() else b""
