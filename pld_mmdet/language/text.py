"""Texts from JSON-lines files, with or without labels, for encoders."""

import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import torch
from torch.utils.data import Dataset

from pld_mmdet.errors import UserError
from pld_mmdet.language.chat import load_tokenizer
from pld_mmdet.registry import DATASETS


def rows(path: Path) -> Iterator[tuple[int, Callable[[], dict]]]:
    """Lines of a file, each with its number and a function that reads it.

    Args:
        path: ``.tsv`` with the names of its columns in the first line (``label`` is a
            number), or JSON lines.

    Raises:
        UserError: There is no such file.
    """
    if not path.is_file():
        raise UserError(f"There is no file {path}.", "Check ann_file and data_root.")
    with open(path, encoding="utf-8", newline="") as file:
        names = file.readline().rstrip("\r\n").split("\t")
        if path.suffix != ".tsv":
            names = None
            file.seek(0)
        for number, line in enumerate(file, 1 if names is None else 2):
            yield number, partial(_row, line, names)


def _row(line: str, names: list[str] | None) -> dict:
    if names is None:
        return json.loads(line)
    values = line.rstrip("\r\n").split("\t")
    if len(values) != len(names):
        raise ValueError(f"{len(values)} columns, the first line has {len(names)}")
    found: dict = dict(zip(names, values, strict=True))
    if "label" in found:
        label = float(found["label"])
        found["label"] = int(label) if label == int(label) else label
    return found


@DATASETS.register_module()
class EncodedText(Dataset):
    """One JSON object a line: ``{"text": ..., "pair": ..., "label": 1}``.

    Or a ``.tsv`` whose first line names such columns.

    ``pair`` is the second text of a pair; without ``label`` on the first line the data
    are unlabelled and samples have no ``targets``.

    Args:
        ann_file: The file, ``.jsonl`` or ``.tsv``.
        tokenizer: Folder or hub name.
        data_root: Folder of ``ann_file``.
        max_length: Tokens; longer texts are cut, shorter ones padded.
        classes: Names, for the record.
        with_text: A sample also has its ``text`` and its ``index``, for a teacher that
            reads texts and answers once.
        indexed: Samples carry their number, ``index``.

    Raises:
        UserError: A line that is no such object.
    """

    def __init__(
        self,
        ann_file: str,
        tokenizer: str,
        data_root: str = "",
        max_length: int = 128,
        classes: tuple[str, ...] = (),
        with_text: bool = False,
        indexed: bool = False,
    ) -> None:
        self.with_text, self.indexed = with_text, indexed
        self.tokenizer, self.max_length = load_tokenizer(tokenizer), max_length
        path = Path(data_root, ann_file)
        self.lines = []
        for number, line in rows(path):
            try:
                found = line()
                label = found["label"] if self.labelled_by(found) else None
                if not found["text"].strip():
                    raise ValueError("the text is empty")
                self.lines.append((found["text"], found.get("pair"), label))
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise UserError(
                    f"Line {number} of {path} is no text ({error!r}).",
                    'Write {"text": "...", "label": 0} on each line; "pair" for two '
                    'texts; no line has a "label" or all lines have one.',
                ) from error
        self.metainfo = {"classes": tuple(classes)} if classes else {}

    def labelled_by(self, found: dict) -> bool:
        """Whether lines have labels: the first one tells."""
        return self.lines[0][2] is not None if self.lines else "label" in found

    def __len__(self) -> int:
        return len(self.lines)

    def __getitem__(self, index: int) -> dict:
        """``input_ids``, ``attention_mask`` [T], perhaps ``targets``, ``text``."""
        text, pair, label = self.lines[index]
        found = self.tokenizer(
            text,
            pair,
            max_length=self.max_length,
            truncation=True,
            padding="max_length",
        )
        sample = {
            "input_ids": torch.tensor(found["input_ids"]),
            "attention_mask": torch.tensor(found["attention_mask"]),
        }
        if label is not None:
            sample["targets"] = torch.tensor(label)
        if self.with_text:
            sample |= {"text": text, "index": int(index)}
        if self.indexed:
            sample["index"] = index
        return sample
