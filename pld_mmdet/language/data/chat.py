"""Conversations from a file, as a user has them on disk."""

import logging
from pathlib import Path

import torch
from mmengine.logging import print_log
from torch.utils.data import Dataset

from pld_mmdet.engine.run.optional import require
from pld_mmdet.errors import UserError, one_of
from pld_mmdet.language.learners.causal import IGNORE
from pld_mmdet.reading import misfit, read_records
from pld_mmdet.registry import DATASETS


def load_tokenizer(name: str):
    """A fast tokenizer by folder or hub name.

    Raises:
        UserError: It is not there.
    """
    transformers = require("transformers", "language")
    try:
        return transformers.AutoTokenizer.from_pretrained(name, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise UserError(
            f"There is no tokenizer {name!r} here.",
            "Name a folder with tokenizer.json, or a hub name that this machine can "
            "reach (or has in its cache).",
        ) from error


@DATASETS.register_module()
class ChatText(Dataset):
    """Conversations of a user's file: ``{"messages": [{"role", "content"}]}`` a line.

    JSON lines, or ``.parquet`` with such a column.

    Everything up to the last message is the prompt, the last message the answer; all
    tokens of both are labels (TAID's code), padding is -100. With a chat template the
    whole conversation goes through it, so that what ends an answer there is learnt;
    without one, lines are joined and the end token is added. Sequences are padded on
    the right to ``prompt_length + answer_length``; models cut what is padding in a
    whole batch.

    Args:
        ann_file: The file.
        tokenizer: Folder or hub name; with a chat template, which is then used.
        data_root: Folder of ``ann_file``.
        prompt_length: Most tokens of the prompt (TAID: 1536).
        answer_length: Most tokens of the answer (TAID: 512).
        too_long: ``drop`` conversations that are longer (TAID's code; all are tokenized
            once at the start, some minutes for 200 000), or ``cut``: keep the end of
            the prompt and the beginning of the answer.
        size: Only the first so many of what is kept [all].
        answer_only: The prompt's labels are -100 too (FIRST) [all are learnt].
        with_index: A sample also has its ``index``, for answers that are kept.

    Raises:
        UserError: A line is no conversation, or its answer is empty.
    """

    def __init__(
        self,
        ann_file: str,
        tokenizer: str,
        data_root: str = "",
        prompt_length: int = 1536,
        answer_length: int = 512,
        too_long: str = "drop",
        size: int | None = None,
        answer_only: bool = False,
        with_index: bool = False,
    ) -> None:
        self.answer_only, self.with_index = answer_only, with_index
        one_of("ChatText", too_long=(too_long, ("drop", "cut")))
        self.tokenizer = load_tokenizer(tokenizer)
        self.prompt_length, self.answer_length = prompt_length, answer_length
        path = Path(data_root, ann_file)
        self.conversations = []
        example = (
            'Write {"messages": [{"role": "user", "content": "..."}]} on each line.'
        )
        turn = [{"role": str, "content": str}]
        for where, found in read_records(path, "conversation", example):
            wrong = misfit(found, {"messages": turn})
            told = [] if wrong else found["messages"]
            if not wrong and not (told and told[-1]["content"].strip()):
                wrong = "its last message, the answer, is empty"
            if wrong:
                raise UserError(f"{where} is no conversation ({wrong}).", example)
            self.conversations.append(found["messages"])
        if too_long == "drop":
            everything = len(self.conversations)
            self.conversations = [c for c in self.conversations if self._fits(c)]
            print_log(
                f"{path}: {len(self.conversations)} of {everything} conversations have "
                f"at most {prompt_length} + {answer_length} tokens; the others are left"
                " out.",
                logger="current",
                level=logging.INFO,
            )
        self.conversations = self.conversations[:size]
        self.metainfo: dict = {}

    def __len__(self) -> int:
        return len(self.conversations)

    def __getitem__(self, index: int) -> dict:
        """``input_ids``, ``attention_mask`` and ``labels``, each [T]."""
        start, end = self._ids(self.conversations[index])
        length = self.prompt_length + self.answer_length
        start, end = start[-self.prompt_length :], end[: self.answer_length]
        ids = torch.tensor(start + end)
        labels = ids.clone()
        if self.answer_only:
            labels[: len(start)] = IGNORE
        room = length - len(ids)
        pad = torch.nn.functional.pad
        sample = {
            "input_ids": pad(ids, (0, room), value=self.tokenizer.pad_token_id or 0),
            "attention_mask": pad(torch.ones_like(ids), (0, room)),
            "labels": pad(labels, (0, room), value=IGNORE),
        }
        return {**sample, "index": int(index)} if self.with_index else sample

    def _fits(self, messages: list) -> bool:
        start, end = self._ids(messages)
        return len(start) <= self.prompt_length and len(end) <= self.answer_length

    def _ids(self, messages: list) -> tuple[list[int], list[int]]:
        """Tokens of the prompt, and what follows them in the whole conversation."""
        encode, prompt = self.tokenizer, messages[:-1]
        if encode.chat_template and prompt:
            before = encode.apply_chat_template(
                prompt, tokenize=False, add_generation_prompt=True
            )
            whole = encode.apply_chat_template(messages, tokenize=False)
            start = encode(before, add_special_tokens=False).input_ids
            every = encode(whole, add_special_tokens=False).input_ids
            return start, every[len(start) :]
        before = "\n".join(m["content"] for m in prompt)
        end = encode(messages[-1]["content"], add_special_tokens=False).input_ids
        if encode.eos_token_id is not None:
            end = [*end, encode.eos_token_id]
        return encode(before, add_special_tokens=False).input_ids, end
