"""Texts as texts: files of a user, tokenizers, batches of ids."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import Dataset

from pld_mmdet.errors import UserError
from pld_mmdet.language.data.chat import load_tokenizer
from pld_mmdet.reading import misfit, read_records
from pld_mmdet.registry import DATASETS, MODELS


@DATASETS.register_module()
class TextLines(Dataset):
    """Lines of a user's file; a sample holds some texts of a line, as they are.

    Args:
        ann_file: JSON lines, ``.tsv`` or ``.parquet``; see
            :func:`pld_mmdet.reading.read_records`.
        keys: Entries of a line that a sample has.
        data_root: Folder of ``ann_file``.
        size: Only the first so many [all].

    Raises:
        UserError: No file, or a line without one of the keys or with an empty text.
    """

    def __init__(
        self,
        ann_file: str,
        keys: Sequence[str] = ("text",),
        data_root: str = "",
        size: int | None = None,
    ) -> None:
        written = ", ".join(f'"{key}": "..."' for key in keys)
        example = f"Write {{{written}}} on each line."
        self.lines = []
        for where, found in read_records(Path(data_root, ann_file), "text", example):
            wrong = misfit(found, dict.fromkeys(keys, str))
            texts = {key: found[key].strip() for key in keys} if not wrong else {}
            blank = [key for key, text in texts.items() if not text]
            if wrong or blank:
                wrong = wrong or f"its {blank[0]} is empty"
                raise UserError(f"{where} is not what was asked ({wrong}).", example)
            self.lines.append(texts)
        self.lines = self.lines[:size]
        self.metainfo: dict = {}

    def __len__(self) -> int:
        return len(self.lines)

    def __getitem__(self, index: int) -> dict:
        return {**self.lines[index], "index": int(index)}


def build_tokenizer(given: str | dict):
    """A tokenizer by folder or hub name, or by the config of a toy language's own.

    It has ``encode(text, add_special_tokens=False)``, ``decode(ids,
    skip_special_tokens=True)`` and the ids ``pad_token_id``, ``bos_token_id`` and
    ``eos_token_id``.

    Raises:
        UserError: It is not there, or has no end token.
    """
    made = load_tokenizer(given) if isinstance(given, str) else MODELS.build(given)
    if made.eos_token_id is None:
        raise UserError(
            f"The tokenizer {given!r} has no end token.",
            "Name one that has: texts end with it.",
        )
    return made


def padded(
    rows: Sequence[Sequence[int]], fill: int, left: bool = False
) -> tuple[Tensor, Tensor]:
    """Rows of ids of several lengths -> ids and mask [B, T], both int64."""
    length = max(map(len, rows), default=0)
    ids = torch.full((len(rows), length), fill)
    mask = torch.zeros_like(ids)
    for i, row in enumerate(rows):
        place = slice(length - len(row), None) if left else slice(len(row))
        if len(row):
            ids[i, place], mask[i, place] = torch.tensor(row), 1
    return ids, mask


def encoded(tokenizer, texts: Sequence[str], most: int, end: bool) -> list[list[int]]:
    """Ids of texts, at most so many; with the end token, which is never cut off."""
    found = []
    for text in texts:
        ids = list(tokenizer.encode(text, add_special_tokens=False))
        found.append([*ids[: most - 1], tokenizer.eos_token_id] if end else ids[:most])
    return found
