"""Prompts with answers, for models that fill masks: from a file, and a toy language."""

from collections.abc import Sequence

import torch
from mmengine.evaluator import BaseMetric
from torch import Tensor
from torch.utils.data import Dataset

from pld_mmdet.errors import UserError, one_of
from pld_mmdet.language.data.chat import ChatText
from pld_mmdet.registry import DATASETS, METRICS

_PARTS = {"train": 1, "val": 2, "test": 3}
LENGTH = 4  # letters of a word


@DATASETS.register_module()
class AnswerText(ChatText):
    """Conversations of one length, padded with the end token, which is learnt too.

    A sample is ``dict(input_ids=[L], prompt_lengths=number, index=number)``.

    Args:
        length: L; what is longer is cut at the end (dParallel: 384).
        **chat: As :class:`ChatText` has them.

    Raises:
        UserError: The tokenizer has no end token.
    """

    def __init__(self, length: int = 384, **chat) -> None:
        super().__init__(**{"too_long": "cut", **chat})
        self.length = length
        if self.tokenizer.eos_token_id is None:
            raise UserError(
                f"AnswerText: the tokenizer {chat['tokenizer']!r} has no end token.",
                "Name one that has: answers are padded with it.",
            )

    def __getitem__(self, index: int) -> dict:
        start, end = self._ids(self.conversations[index])
        ids = torch.full((self.length,), self.tokenizer.eos_token_id)
        found = torch.tensor(start + end)[: self.length]
        ids[: len(found)] = found
        prompt = min(len(start), self.length)
        return {"input_ids": ids, "prompt_lengths": prompt, "index": index}


@DATASETS.register_module()
class PromptedText(ChatText):
    """Conversations in columns: prompts padded on the left, answers on the right.

    A sample is ``dict(input_ids=[prompt_length + answer_length], index=number)``; what
    is too long is cut, of the prompt its beginning.

    Args:
        pad: Id that pads, another one than the end token's.
        **chat: As :class:`ChatText` has them.

    Raises:
        UserError: The pad is the tokenizer's end token.
    """

    def __init__(self, pad: int = 0, **chat) -> None:
        super().__init__(**{"too_long": "cut", **chat})
        if pad == self.tokenizer.eos_token_id:
            raise UserError(
                f"PromptedText: pad={pad} is the tokenizer's end token.",
                "Choose an id that no text has, e.g. that of the unknown token.",
            )
        self.pad = pad

    def __getitem__(self, index: int) -> dict:
        start, end = self._ids(self.conversations[index])
        start, end = start[-self.prompt_length :], end[: self.answer_length]
        ids = torch.full((self.prompt_length + self.answer_length,), self.pad)
        ids[self.prompt_length - len(start) :][: len(start + end)] = torch.tensor(
            start + end
        )
        return {"input_ids": ids, "index": index}


def spelled(words: int, letters: int, source_seed: int) -> Tensor:
    """The letters of each word [words, 4], all of one word different, as ids."""
    generator = torch.Generator().manual_seed(source_seed)
    order = torch.rand(words, letters, generator=generator).argsort(1)
    return words + order[:, :LENGTH]


@DATASETS.register_module()
class RotatedWords(Dataset):
    """Prompts of some words; an answer spells each, begun at any of its letters.

    Each word has four right answers, so a model that has seen all is uncertain of a
    letter until it knows another one of the word. The ids are those of the words, then
    of the letters, then the mask.

    Args:
        part: ``train``, ``val`` or ``test``: different draws.
        size: Prompts.
        in_prompt: Words of a prompt.
        words: Of the language.
        letters: Of the language, at least 4.
        source_seed: How the words are spelled.

    Raises:
        UserError: Unknown part.
    """

    def __init__(
        self,
        part: str,
        size: int,
        in_prompt: int = 3,
        words: int = 16,
        letters: int = 16,
        source_seed: int = 7,
    ) -> None:
        one_of("RotatedWords", part=(part, _PARTS))
        draws = torch.Generator().manual_seed(1000 * source_seed + _PARTS[part])
        prompts = torch.randint(words, (size, in_prompt), generator=draws)
        begun = torch.randint(LENGTH, (size, in_prompt, 1), generator=draws)
        turned = (begun + torch.arange(LENGTH)) % LENGTH
        answers = spelled(words, letters, source_seed)[prompts].gather(2, turned)
        self.input_ids = torch.cat([prompts, answers.flatten(1)], 1)
        self.in_prompt = in_prompt
        self.metainfo: dict = {}

    def __len__(self) -> int:
        return len(self.input_ids)

    def __getitem__(self, index: int) -> dict:
        return {
            "input_ids": self.input_ids[index],
            "prompt_lengths": self.in_prompt,
            "index": int(index),
        }


@METRICS.register_module()
class RotatedWordsMetric(BaseMetric):
    """Network calls for an answer and the share of answers that are right.

    Of every threshold, e.g. 0.5: ``calls_0.5`` and ``valid_0.5`` (every word of the
    answer is a rotation of its letters).

    Args:
        words: As the data has them.
        letters: The same.
        source_seed: The same.
    """

    default_prefix = None

    def __init__(
        self, words: int = 16, letters: int = 16, source_seed: int = 7, **kwargs
    ) -> None:
        super().__init__(**kwargs)
        self.spelled = spelled(words, letters, source_seed)

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        """Sums of a batch: ``input_ids`` [B, L], by threshold (ids [B, L], calls)."""
        for sample in data_samples:
            prompts = sample["input_ids"].cpu()
            in_prompt = prompts.shape[1] // (LENGTH + 1)
            right = self.spelled[prompts[:, :in_prompt]]
            for threshold, (ids, calls) in sample["decoded"].items():
                told = ids.cpu()[:, in_prompt:].view_as(right)
                same = [(told.roll(k, 2) == right).all(2) for k in range(LENGTH)]
                valid = torch.stack(same).any(0).all(1)
                row = (threshold, float(calls.sum()), float(valid.sum()), len(valid))
                self.results.append(row)

    def compute_metrics(self, results: list[tuple]) -> dict[str, float]:
        """Means over the answers."""
        found = {}
        for threshold in dict.fromkeys(row[0] for row in results):
            rows = [row[1:] for row in results if row[0] == threshold]
            calls, valid, count = (sum(column) for column in zip(*rows, strict=True))
            found[f"calls_{threshold}"] = calls / count
            found[f"valid_{threshold}"] = valid / count
        return found
