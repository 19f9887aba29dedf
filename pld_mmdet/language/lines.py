"""Texts as texts: JSON-lines files, tokenizers, batches of ids."""

import json
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import Dataset

from pld_mmdet.errors import UserError
from pld_mmdet.language.chat import load_tokenizer
from pld_mmdet.registry import DATASETS, MODELS


@DATASETS.register_module()
class TextLines(Dataset):
    """One JSON object a line; a sample holds some of its texts, as they are.

    Args:
        ann_file: The file.
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
        path = Path(data_root, ann_file)
        self.lines = []
        if not path.is_file():
            raise UserError(f"There is no file {path}.", "Check ann_file, data_root.")
        with open(path, encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                try:
                    found = json.loads(line)
                    self.lines.append({key: found[key].strip() for key in keys})
                    if not all(self.lines[-1].values()):
                        raise ValueError("empty text")
                except (ValueError, KeyError, TypeError, AttributeError) as error:
                    example = ", ".join(f'"{key}": "..."' for key in keys)
                    raise UserError(
                        f"Line {number} of {path} is not what was asked ({error!r}).",
                        f"Write {{{example}}} on each line.",
                    ) from error
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
