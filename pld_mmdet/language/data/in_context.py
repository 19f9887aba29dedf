"""Demonstrations and queries: a toy of random maps, and tasks from files."""

from pathlib import Path

import torch
from torch.nn import functional as F
from torch.utils.data import Dataset

from pld_mmdet.errors import UserError, one_of
from pld_mmdet.language.data.lines import TextLines, build_tokenizer
from pld_mmdet.language.learners.causal import IGNORE
from pld_mmdet.reading import misfit, read_records
from pld_mmdet.registry import DATASETS

_PARTS = {"train": 1, "val": 2, "test": 3}
SYMBOLS = 8
VOCABULARY = SYMBOLS * SYMBOLS + 2 * SYMBOLS


@DATASETS.register_module()
class RandomMaps(Dataset):
    """A random map of 8 symbols, told by 16 demonstrations, and asked at one symbol.

    Each sample has its own map f. A demonstration is one token for (x, f(x)), every x
    twice, the first 8 all different; then a query token x and an answer token f(x).
    Ids: 64 demonstrations, 8 queries, 8 answers. A sample is ``dict(demo_ids=[16],
    demo_mask=[16], input_ids=[2], attention_mask=[2], labels=[2])``.

    Args:
        part: ``train``, ``val`` or ``test``: different draws.
        size: Samples.
        short: Share of samples of which only the last 0 to 16 demonstrations are shown,
            so that a model that is trained on them also knows short prompts.
        indexed: Samples carry their number, ``index``.

    Raises:
        UserError: Unknown part.
    """

    def __init__(
        self, part: str, size: int, short: float = 0.0, indexed: bool = False
    ) -> None:
        one_of("RandomMaps", part=(part, _PARTS))
        draws = torch.Generator().manual_seed(8000 + _PARTS[part])
        maps = torch.randint(SYMBOLS, (size, SYMBOLS), generator=draws)
        order = torch.rand(size, 2, SYMBOLS, generator=draws).argsort(2).flatten(1)
        self.demo_ids = SYMBOLS * order + maps.gather(1, order)
        asked = torch.randint(SYMBOLS, (size, 1), generator=draws)
        first = SYMBOLS * SYMBOLS
        answers = first + SYMBOLS + maps.gather(1, asked)
        self.input_ids = torch.cat([first + asked, answers], 1)
        shown = torch.randint(2 * SYMBOLS + 1, (size, 1), generator=draws)
        cut = torch.rand(size, 1, generator=draws) < short
        shown = torch.where(cut, shown, 2 * SYMBOLS)
        place = torch.arange(2 * SYMBOLS)
        self.demo_mask = (place >= 2 * SYMBOLS - shown).long()
        self.indexed = indexed
        self.metainfo: dict = {}

    def __len__(self) -> int:
        return len(self.input_ids)

    def __getitem__(self, index: int) -> dict:
        ids = self.input_ids[index]
        sample = {
            "demo_ids": self.demo_ids[index],
            "demo_mask": self.demo_mask[index],
            "input_ids": ids,
            "attention_mask": torch.ones_like(ids),
            "labels": torch.where(torch.arange(2) == 1, ids, IGNORE),
        }
        return {**sample, "index": int(index)} if self.indexed else sample


@DATASETS.register_module()
class TaskText(Dataset):
    """Tasks from a user's file, ``{"task", "input", "output"}`` a line.

    A sample is one line as the query with its answer, and other lines of the same task
    as demonstrations; which ones follows from its number. Demonstrations are padded on
    the left, the query on the right.

    Args:
        ann_file: The file.
        tokenizer: Folder or hub name.
        data_root: Folder of ``ann_file``.
        shots: Demonstrations [16, MEND's code].
        demo_length: Most tokens of all of them; the first are left out (code: 1024 of
            the whole).
        length: Most tokens of query and answer; the query's beginning is cut.
        indexed: Samples carry their number, ``index``.

    Raises:
        UserError: A line is no such object or has an empty text, or a task has a single
            line.
    """

    def __init__(
        self,
        ann_file: str,
        tokenizer: str,
        data_root: str = "",
        shots: int = 16,
        demo_length: int = 768,
        length: int = 256,
        indexed: bool = False,
    ) -> None:
        self.indexed = indexed
        self.tokenizer, self.shots = build_tokenizer(tokenizer), shots
        self.demo_length, self.length = demo_length, length
        path = Path(data_root, ann_file)
        self.lines, self.tasks = [], {}
        example = 'Write {"task": "...", "input": "...", "output": "..."} on each line.'
        keys = ("task", "input", "output")
        for where, found in read_records(path, "example", example):
            wrong = misfit(found, dict.fromkeys(keys, str))
            blank = [] if wrong else [key for key in keys if not found[key].strip()]
            wrong = f"its {blank[0]} is empty" if blank else wrong
            if wrong:
                raise UserError(f"{where} is no example ({wrong}).", example)
            task, *texts = (found[key] for key in keys)
            self.tasks.setdefault(task, []).append(len(self.lines))
            self.lines.append((task, *map(str.strip, texts)))
        alone = [task for task, own in self.tasks.items() if len(own) < 2]
        if alone:
            raise UserError(
                f"Task {alone[0]!r} of {path} has one line, so no demonstration.",
                "Give every task at least two lines.",
            )
        self.metainfo: dict = {}

    def __len__(self) -> int:
        return len(self.lines)

    def _ids(self, text: str) -> list[int]:
        return list(self.tokenizer.encode(text, add_special_tokens=False))

    def __getitem__(self, index: int) -> dict:
        task, asked, answer = self.lines[index]
        others = [i for i in self.tasks[task] if i != index]
        draws = torch.Generator().manual_seed(index)
        order = torch.randperm(len(others), generator=draws)[: self.shots].tolist()
        shown: list[int] = []
        for i in order:
            shown += self._ids(f"{self.lines[others[i]][1]}\n")
            shown += self._ids(f"{self.lines[others[i]][2]}\n\n")
        shown = shown[-self.demo_length :]
        told = [*self._ids(answer), self.tokenizer.eos_token_id][: self.length - 1]
        query = self._ids(f"{asked}\n")[-(self.length - len(told)) :]
        ids = torch.tensor(query + told)
        labels = ids.clone()
        labels[: len(query)] = IGNORE
        left, right = self.demo_length - len(shown), self.length - len(ids)
        fill = self.tokenizer.eos_token_id
        demos = torch.tensor(shown)
        sample = {
            "demo_ids": F.pad(demos, (left, 0), value=fill),
            "demo_mask": F.pad(torch.ones_like(demos), (left, 0)),
            "input_ids": F.pad(ids, (0, right), value=fill),
            "attention_mask": F.pad(torch.ones_like(ids), (0, right)),
            "labels": F.pad(labels, (0, right), value=IGNORE),
        }
        return {**sample, "index": int(index)} if self.indexed else sample


@DATASETS.register_module()
class PackedText(Dataset):
    """Texts of a file in one row of tokens, cut into rows of one length.

    A sample is ``dict(input_ids=[length])``; the rest at the end is left out.

    Args:
        ann_file: A ``text`` a line.
        tokenizer: Folder or hub name.
        data_root: Folder of ``ann_file``.
        length: Tokens of a row.
        indexed: Samples carry their number, ``index``.

    Raises:
        UserError: A line without a text, or less text than one row.
    """

    def __init__(
        self,
        ann_file: str,
        tokenizer: str,
        data_root: str = "",
        length: int = 1024,
        indexed: bool = False,
    ) -> None:
        self.indexed = indexed
        words = build_tokenizer(tokenizer)
        ids: list[int] = []
        for line in TextLines(ann_file, data_root=data_root).lines:
            ids += words.encode(line["text"], add_special_tokens=False)
            ids.append(words.eos_token_id)
        if len(ids) < length:
            raise UserError(
                f"{Path(data_root, ann_file)} has {len(ids)} tokens, fewer than one "
                f"row of {length}.",
                "Give more text, or a smaller length.",
            )
        rows = len(ids) // length
        self.input_ids = torch.tensor(ids[: rows * length]).view(rows, length)
        self.metainfo: dict = {}

    def __len__(self) -> int:
        return len(self.input_ids)

    def __getitem__(self, index: int) -> dict:
        sample = {"input_ids": self.input_ids[index]}
        return {**sample, "index": int(index)} if self.indexed else sample
