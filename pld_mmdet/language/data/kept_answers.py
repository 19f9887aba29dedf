"""A teacher's answers on disk: asked once, checked when they are read.

Two forms. Where a text has one answer over few classes, all its logits are kept as they
are (PD, P4PLM). Where every token has one over a vocabulary, the K largest
probabilities and their ids are kept (FIRST, MEND).
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import torch
from mmengine.dist import all_gather_object, broadcast_object_list, is_main_process
from torch import Tensor, nn
from torch.utils.data import DataLoader

from pld_mmdet.engine.run.optional import require
from pld_mmdet.engine.state.files import write_atomic
from pld_mmdet.errors import UserError

AGAIN = "Name another file, or delete this one to have the teacher asked again."


def fingerprint(network: nn.Module) -> str:
    """Checksum of a network's weights: names, types, shapes and every number."""
    return _checksum(network.state_dict())


def is_kept(path: str | Path | None) -> bool:
    """Whether answers lie there already; all processes get the first one's word."""
    there = [path is not None and Path(path).is_file()]
    broadcast_object_list(there)
    return there[0]


def save_answers(path: str | Path, rows: Tensor, teacher: nn.Module) -> None:
    """Write logits with a checksum and their teacher's.

    Args:
        path: ``.safetensors``; its folder is made.
        rows: [N, K], kept exactly.
        teacher: Who has answered.
    """
    _write(path, {"logits": rows}, fingerprint(teacher))


def load_answers(path: str | Path, shape: Sequence[int], teacher: nn.Module) -> Tensor:
    """Read what :func:`save_answers` has written.

    Args:
        path: The file.
        shape: (texts, classes) that are expected.
        teacher: Who should have answered.

    Raises:
        UserError: Another file, a damaged one, another shape, or another teacher.
    """
    rows, said = _read(path, "logits")
    if tuple(rows.shape) != tuple(shape):
        raise UserError(
            f"{path} holds {tuple(rows.shape)} answers, {tuple(shape)} are asked for.",
            AGAIN,
        )
    _same_teacher(path, said, teacher)
    return rows


def write_answers(
    path: str | Path,
    answers: Iterable[tuple[int, Tensor, Tensor]],
    teacher: str,
) -> None:
    """Keep likeliest tokens in one safetensors file, with a checksum of all of them.

    Args:
        path: The file; its folder is made.
        answers: (number of the sample, probabilities [M, K], ids [M, K]) of every
            sample, in any order; the numbers are 0 .. N-1. Probabilities are kept in
            the precision they come in.
        teacher: Its :func:`fingerprint`.

    Raises:
        UserError: A sample is missing.
    """
    ordered = {number: (p, ids) for number, p, ids in answers}
    if sorted(ordered) != list(range(len(ordered))) or not ordered:
        raise UserError(
            f"The answers for {path} are of {len(ordered)} samples, not of 0 to N-1.",
            "Let the loader go once through the whole training data, in order.",
        )
    parts = [ordered[number] for number in range(len(ordered))]
    starts = torch.tensor([0, *(len(p) for p, _ in parts)]).cumsum(0)
    tensors = {
        "probabilities": torch.cat([p for p, _ in parts]),
        "ids": torch.cat([ids.int() for _, ids in parts]),
        "starts": starts,
    }
    _write(path, tensors, teacher)


@torch.no_grad()
def ask_once(
    who: str,
    path: str | Path | None,
    teacher: nn.Module,
    loader: DataLoader,
    ask: Callable[[dict], tuple[Tensor, Tensor, Sequence[int]]],
) -> None:
    """Keep a teacher's likeliest tokens, or check the file that is there.

    Args:
        who: Name of the method, for messages.
        path: The file.
        teacher: In evaluation mode.
        loader: All samples in order, with ``index``.
        ask: A batch -> probabilities [M, K], ids [M, K], and how many of the M rows
            each sample of the batch has.

    Raises:
        UserError: No file, data without ``index``, or a file of another
            teacher or of other data.
    """
    if path is None:
        raise UserError(
            f"{who}: for kept answers there is no file to write.", "Set model.answers."
        )
    if is_kept(path):
        found = KeptAnswers(path, teacher)
        if len(found) != len(loader.dataset):
            raise UserError(
                f"{path} holds answers of {len(found)} samples; the data have "
                f"{len(loader.dataset)}.",
                AGAIN,
            )
        return
    own: list[tuple[int, Tensor, Tensor]] = []
    for batch in loader:
        p, ids, counts = ask(batch)
        parts = p.cpu().split(list(counts)), ids.cpu().split(list(counts))
        own += zip(numbers_of(who, batch), *parts, strict=True)
    everywhere = [one for part in all_gather_object(own) for one in part]
    if is_main_process():
        write_answers(path, everywhere, fingerprint(teacher))


def numbers_of(who: str, batch: dict) -> list[int]:
    """Which samples of the data a batch has.

    Raises:
        UserError: They are not numbered.
    """
    if batch.get("index") is None:
        raise UserError(
            f"{who}: kept answers need to know which samples a batch has.",
            "Use data with an `index` (ChatText: with_index=True; others: "
            "indexed=True).",
        )
    return batch["index"].tolist()


class KeptAnswers:
    """What :func:`write_answers` has written, read and checked.

    Args:
        path: The file.
        teacher: Who should have answered [anyone].

    Raises:
        UserError: No such file, a damaged one, or another teacher's.
    """

    def __init__(self, path: str | Path, teacher: nn.Module | None = None) -> None:
        (self.probabilities, self.ids, starts), said = _read(
            path, "probabilities", "ids", "starts"
        )
        if teacher is not None:
            _same_teacher(path, said, teacher)
        self.path, self.starts = path, starts.tolist()

    def __len__(self) -> int:
        return len(self.starts) - 1

    def of(
        self, numbers: Sequence[int], rows: int | None = None
    ) -> tuple[Tensor, Tensor]:
        """Probabilities (float32) and ids [M, K] of samples, one after the other.

        Args:
            numbers: Of the samples.
            rows: M, as the batch has it [not checked].

        Raises:
            UserError: The file has no such sample, or another M: it is of other data.
        """
        fits = max(numbers, default=-1) < len(self)
        places = [slice(self.starts[i], self.starts[i + 1]) for i in numbers if fits]
        found = sum(one.stop - one.start for one in places)
        if not fits or rows not in (None, found):
            raise UserError(
                f"{self.path} holds the answers of other data: samples {numbers[:4]} "
                "are not there, or of another length.",
                AGAIN,
            )
        none = slice(0, 0)  # a batch without samples
        p = torch.cat([self.probabilities[one].float() for one in (*places, none)])
        return p, torch.cat([self.ids[one] for one in (*places, none)]).long()


def _write(path: str | Path, tensors: dict[str, Tensor], teacher: str) -> None:
    save = require("safetensors.torch", "language").save
    tensors = {k: v.detach().cpu().contiguous() for k, v in tensors.items()}
    said = {"teacher": teacher, "checksum": _checksum(tensors)}
    data = save(tensors, metadata=said)
    write_atomic(path, lambda file: file.write(data))


def _read(path: str | Path, *names: str):
    """The tensors of a file by name (one: itself), and what is written about them."""
    safe_open = require("safetensors", "language").safe_open
    try:
        with safe_open(str(path), framework="pt") as file:
            said = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in names}
        whole = said["checksum"] == _checksum(tensors)
    except Exception as error:  # safetensors' own class, missing keys, no file
        raise UserError(
            f"The kept answers {path} cannot be read ({error!r}).", AGAIN
        ) from error
    if not whole:
        raise UserError(
            f"The kept answers {path} are damaged: their checksum differs.", AGAIN
        )
    found = tuple(tensors.values())
    return (found if len(found) > 1 else found[0]), said


def _same_teacher(path: str | Path, said: dict, teacher: nn.Module) -> None:
    if said.get("teacher") != fingerprint(teacher):
        raise UserError(f"{path} holds the answers of another teacher.", AGAIN)


def _checksum(tensors: dict[str, Tensor]) -> str:
    found = hashlib.sha256()
    for name in sorted(tensors):
        value = tensors[name].detach().cpu().contiguous()
        about = [name, str(value.dtype), list(value.shape)]
        found.update(json.dumps(about).encode())
        if value.numel():
            found.update(value.flatten().view(torch.uint8).numpy())
    return found.hexdigest()
