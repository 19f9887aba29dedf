"""A teacher's likeliest tokens on disk: asked once, checked when they are read."""

import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from pld_mmdet.engine.files import write_atomic
from pld_mmdet.errors import UserError


def fingerprint(network: nn.Module, some: int = 64) -> str:
    """A short hash of a network: names, shapes and the first numbers of its weights."""
    found = hashlib.sha256()
    for name, value in network.state_dict().items():
        first = value.detach().flatten()[:some].double().cpu()
        found.update(f"{name}{tuple(value.shape)}{first.tolist()}".encode())
    return found.hexdigest()[:16]


def write_answers(
    path: str | Path,
    answers: Iterable[tuple[int, Tensor, Tensor]],
    teacher: str,
) -> None:
    """Keep answers in one safetensors file, with a checksum of all of them.

    Args:
        path: The file; its folder is made.
        answers: (number of the sample, probabilities [M, K], ids [M, K]) of every
            sample, in any order; the numbers are 0 .. N-1. Probabilities are kept in
            half precision.
        teacher: Its :func:`fingerprint`.

    Raises:
        UserError: A sample is missing.
    """
    from safetensors.torch import save

    ordered = {number: (p, ids) for number, p, ids in answers}
    if sorted(ordered) != list(range(len(ordered))) or not ordered:
        raise UserError(
            f"The answers for {path} are of {len(ordered)} samples, not of 0 to N-1.",
            "Let the loader go once through the whole training data, in order.",
        )
    parts = [ordered[number] for number in range(len(ordered))]
    starts = torch.tensor([0, *(len(p) for p, _ in parts)]).cumsum(0)
    tensors = {
        "probabilities": torch.cat([p.half().cpu() for p, _ in parts]).contiguous(),
        "ids": torch.cat([ids.int().cpu() for _, ids in parts]).contiguous(),
        "starts": starts,
    }
    said = {"teacher": teacher, "checksum": _checksum(tensors)}
    data = save(tensors, metadata=said)
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, lambda file: file.write(data))


class KeptAnswers:
    """What :func:`write_answers` has written, read and checked.

    Args:
        path: The file.

    Attributes:
        teacher: The fingerprint of the network that answered.

    Raises:
        UserError: No such file, or it is damaged.
    """

    def __init__(self, path: str | Path) -> None:
        from safetensors import safe_open

        try:
            with safe_open(str(path), framework="pt") as file:
                said = file.metadata() or {}
                tensors = {k: file.get_tensor(k) for k in file.keys()}  # noqa: SIM118
            whole = said["checksum"] == _checksum(tensors)
        except Exception as error:  # safetensors' own class, missing keys, no file
            raise UserError(
                f"The kept answers {path} cannot be read ({error!r}).",
                "Let a stage `answers` with a work_dataloader write them.",
            ) from error
        if not whole:
            raise UserError(
                f"The kept answers {path} are damaged: their checksum differs.",
                "Delete the file and let the teacher answer again.",
            )
        self.teacher = said["teacher"]
        self.probabilities, self.ids = tensors["probabilities"], tensors["ids"]
        self.starts = tensors["starts"].tolist()

    def __len__(self) -> int:
        return len(self.starts) - 1

    def of(self, numbers: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Probabilities (float32) and ids [M, K] of samples, one after the other."""
        places = [slice(self.starts[i], self.starts[i + 1]) for i in numbers]
        none = slice(0, 0)  # a batch without samples
        p = torch.cat([self.probabilities[one].float() for one in (*places, none)])
        return p, torch.cat([self.ids[one] for one in (*places, none)]).long()


def _checksum(tensors: dict[str, Tensor]) -> str:
    found = hashlib.sha256()
    for name in sorted(tensors):
        value = tensors[name]
        found.update(json.dumps([name, list(value.shape)]).encode())
        found.update(value.contiguous().view(torch.uint8).numpy().tobytes())
    return found.hexdigest()
