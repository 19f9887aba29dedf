"""Texts from files of a user, with or without labels, for encoders."""

import math
from pathlib import Path

import torch
from torch.utils.data import Dataset

from pld_mmdet.errors import UserError
from pld_mmdet.language.data.chat import load_tokenizer
from pld_mmdet.reading import misfit, read_records
from pld_mmdet.registry import DATASETS


@DATASETS.register_module()
class EncodedText(Dataset):
    """Texts of a user's file: ``{"text": ..., "pair": ..., "label": 1}`` a line.

    JSON lines, or ``.tsv`` or ``.parquet`` with such columns.

    ``pair`` is the second text of a pair; without ``label`` on the first line the data
    are unlabelled and samples have no ``targets``.

    Args:
        ann_file: The file; see :func:`pld_mmdet.reading.read_records`.
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

    entry = {"text": str, "pair?": (str, type(None)), "label?": (float, str)}
    filled = ("text",)

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
        example = (
            'Write {"text": "...", "label": 0} on each line; "pair" for two texts; no '
            'line has a "label" or all lines have one.'
        )
        self.lines = []
        for where, found in read_records(Path(data_root, ann_file), "text", example):
            wrong = misfit(found, self.entry)
            blank = [key for key in self.filled if not str(found.get(key)).strip()]
            if not wrong and blank:
                wrong = f"its {blank[0]} is empty"
            if not wrong and self.lines:
                unlike = (self.lines[0][2] is None) == ("label" in found)
                has = "a" if "label" in found else "no"
                wrong = f"it has {has} label, unlike the first" if unlike else None
            label = found.get("label")
            if not wrong and isinstance(label, str):
                wrong, label = _number(label)
            if wrong:
                raise UserError(f"{where} is no text ({wrong}).", example)
            self.lines.append((found["text"], found.get("pair"), label))
        self.metainfo = {"classes": tuple(classes)} if classes else {}

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


def _number(text: str) -> tuple[str | None, float]:
    """What is wrong with a label in words (columns of .tsv are texts), and the label.

    Whole numbers are int: classes. Others are float.
    """
    try:
        label = float(text)
    except ValueError:
        label = math.nan
    if not math.isfinite(label):
        return f"its label {text!r} is no number", 0
    return None, int(label) if label == int(label) else label
