"""Labels of crops in one compact file: written as they come, checked, resumed."""

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from pld_mmdet.errors import UserError

TOP = 5  # of each crop's probabilities are stored


def fingerprint(network: nn.Module, *more: object) -> str:
    """SHA-256 of a network's weights and buffers and of what else decides its labels.

    Args:
        network: The teacher.
        more: Numbers or words, such as how the crops are drawn.
    """
    digest = hashlib.sha256(repr(more).encode())
    for name, value in sorted(network.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


class LabelStore:
    """Boxes, flips and the five largest probabilities of the crops of each image.

    A row of fixed length an image: half-precision boxes and probabilities, 16-bit
    classes, one byte a flip, one that says that the row is written: 29 bytes a crop.
    ``<file>.json`` beside it says what the labels belong to and, once all rows are
    written, the file's SHA-256. A file without it is gone on with.

    Args:
        file: Where; its folder is made.
        samples: Images.
        crops: Crops of each.
        maker: What made the labels (:func:`fingerprint`).

    Raises:
        UserError: The file belongs to something else, or has changed.
    """

    def __init__(self, file: Path | str, samples: int, crops: int, maker: str) -> None:
        self.file, self.note = Path(file), Path(f"{file}.json")
        self.kind = np.dtype(
            [
                ("boxes", "<f2", (crops, 4)),
                ("flips", "u1", (crops,)),
                ("top", "<f2", (crops, TOP)),
                ("classes", "<u2", (crops, TOP)),
                ("written", "u1"),
            ]
        )
        self.about = dict(samples=samples, crops=crops, maker=maker)
        self.complete = False
        if self.note.is_file():
            self._check()
        elif self.file.exists():
            raise UserError(
                f"{self.file} has no {self.note.name} beside it.",
                "Name another file for the labels, or remove this one.",
            )
        #: Rows that were there when the file was opened, bool [samples].
        self.known = torch.zeros(samples, dtype=torch.bool)
        if self.file.is_file():
            rows = np.memmap(self.file, self.kind, "r")
            self.known = torch.from_numpy(rows["written"] > 0)

    def begin(self) -> None:
        """Make the file where there is none; the main process alone calls this."""
        if not self.file.is_file():
            self.file.parent.mkdir(parents=True, exist_ok=True)
            with open(self.file, "wb") as file:
                file.truncate(self.about["samples"] * self.kind.itemsize)
        if not self.note.is_file():
            self._note({})

    def write(self, index: Tensor, rows: Sequence[Tensor]) -> None:
        """Store rows; the main process alone calls this.

        Args:
            index: [B] numbers of images.
            rows: boxes [B, crops, 4], flips [B, crops], top and classes [B, crops, 5].
        """
        table = np.memmap(self.file, self.kind, "r+")
        place = index.cpu().numpy()
        names = ("boxes", "flips", "top", "classes")
        for name, values in zip(names, rows, strict=True):
            table[name][place] = values.cpu().numpy()
        table.flush()  # a row counts as written only after its values are
        table["written"][place] = 1
        table.flush()

    def read(self, index: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Rows as :meth:`write` takes them: float32, bool, float32, int32."""
        rows = np.memmap(self.file, self.kind, "r")[index.cpu().numpy()]
        return (
            torch.from_numpy(rows["boxes"].astype(np.float32)),
            torch.from_numpy(rows["flips"] > 0),
            torch.from_numpy(rows["top"].astype(np.float32)),
            torch.from_numpy(rows["classes"].astype(np.int32)),
        )

    def finish(self) -> None:
        """Note the checksum; the main process alone calls this.

        Raises:
            UserError: Rows are missing.
        """
        missing = int((np.memmap(self.file, self.kind, "r")["written"] == 0).sum())
        if missing:
            raise UserError(
                f"{self.file}: {missing} of {self.about['samples']} images have no "
                "labels.",
                "The stage's work_dataloader must bring each image once.",
            )
        self._note({"sha256": _checksum(self.file)})
        self.complete = True

    def _note(self, more: dict) -> None:
        part = self.note.with_suffix(".part")
        part.write_text(json.dumps(self.about | more, indent=1), encoding="utf-8")
        os.replace(part, self.note)

    def _check(self) -> None:
        try:
            found = json.loads(self.note.read_text(encoding="utf-8"))
            odd = [name for name, own in self.about.items() if found.get(name) != own]
        except (OSError, ValueError, AttributeError) as error:
            raise UserError(
                f"{self.note} cannot be read: {error}.", "Remove it and its labels."
            ) from error
        if odd:
            raise UserError(
                f"The labels in {self.file} belong to another {' and '.join(odd)}.",
                "Name another file, or remove this one: it is made anew.",
            )
        size = self.about["samples"] * self.kind.itemsize
        whole = self.file.is_file() and self.file.stat().st_size == size
        self.complete = "sha256" in found
        if not whole or (self.complete and _checksum(self.file) != found["sha256"]):
            raise UserError(
                f"{self.file} is not the file that {self.note.name} describes (its "
                "size or checksum differs).",
                "Copy it again, or remove both: the labels are made anew.",
            )


def _checksum(file: Path) -> str:
    digest = hashlib.sha256()
    with open(file, "rb") as content:
        while block := content.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
