"""Data sets of texts read what a user has: JSON lines and tables, each line checked."""

import json

import pytest

from pld_mmdet.errors import UserError
from pld_mmdet.language.data.chat import ChatText
from pld_mmdet.language.data.in_context import TaskText
from pld_mmdet.language.data.lines import TextLines
from pld_mmdet.language.data.sentences import PairText
from pld_mmdet.language.data.text import EncodedText


class Words:
    """A tokenizer: a word is its length."""

    eos_token_id = 0

    def __call__(self, text, pair=None, max_length=4, **_):
        ids = [len(word) for word in f"{text} {pair or ''}".split()][:max_length]
        pad = [0] * (max_length - len(ids))
        return {"input_ids": ids + pad, "attention_mask": [1] * len(ids) + pad}

    def encode(self, text, **_):
        return [len(word) for word in text.split()]


@pytest.fixture(autouse=True)
def words(monkeypatch):
    readers = "text.load_tokenizer", "chat.load_tokenizer", "in_context.build_tokenizer"
    for place in readers:
        monkeypatch.setattr(f"pld_mmdet.language.data.{place}", lambda name: Words())


def written(folder, rows, suffix):
    path = folder / f"x{suffix}"
    if suffix == ".tsv":
        table = [list(rows[0]), *(map(str, row.values()) for row in rows)]
        path.write_text("\n".join("\t".join(line) for line in table))
    else:
        path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return str(path)


@pytest.mark.parametrize("suffix", [".jsonl", ".tsv"])
def test_both_kinds_of_file_give_the_same_samples(tmp_path, suffix):
    rows = [dict(text="a bcd", label=2), dict(text="ef", label=0)]
    data = EncodedText(written(tmp_path, rows, suffix), "words", max_length=3)
    assert [data[i]["input_ids"].tolist() for i in (0, 1)] == [[1, 3, 0], [2, 0, 0]]
    assert [data[i]["targets"].tolist() for i in (0, 1)] == [2, 0]
    assert not data[0]["targets"].is_floating_point()
    pairs = [dict(text="a", pair="bc d", label=3.5), dict(text="e", pair="f", label=1)]
    data = PairText(
        ann_file=written(tmp_path, pairs, suffix), tokenizer="words", max_length=2
    )
    assert data[0]["second"].tolist() == [2, 1]
    assert data[0]["targets"].item() == 3.5
    lines = TextLines(written(tmp_path, [dict(text=" x ", label=1)], suffix))
    assert lines[0] == {"text": "x", "index": 0}
    tasks = [dict(task="t", input=f"i{n}", output="o") for n in range(2)]
    data = TaskText(written(tmp_path, tasks, suffix), "words", demo_length=4, length=3)
    assert data.lines == [("t", "i0", "o"), ("t", "i1", "o")]


def encoded(path):
    return EncodedText(path, "words")


def tasks(path):
    return TaskText(path, "words")


def chat(path):
    return ChatText(path, "words")


def pair(path):
    return PairText(ann_file=path, tokenizer="words")


@pytest.mark.parametrize(
    ("read", "name", "content", "reason"),
    [
        (encoded, "x.jsonl", '{"text": "a"}\n{"txt": "a"}', "Line 2 .*no 'text'"),
        (encoded, "x.jsonl", '{"text": "a"}\n{"text": 7}', "Line 2 .*text is 7"),
        (encoded, "x.jsonl", '{"text": " "}', "Line 1 .*its text is empty"),
        (encoded, "x.jsonl", '{"text": "a", "label": true}', "Line 1 .*label is True"),
        (
            encoded,
            "x.jsonl",
            '{"text": "a", "label": 1}\n{"text": "b"}',
            "Line 2 .*it has no label, unlike the first",
        ),
        (
            encoded,
            "x.jsonl",
            '{"text": "a"}\n{"text": "b", "label": 1}',
            "Line 2 .*it has a label, unlike the first",
        ),
        (encoded, "x.tsv", "text\tlabel\na\t1\nb\tnan", "Line 3 .*'nan' is no number"),
        (encoded, "x.tsv", "text\tlabel\na\t1\nb\tinf", "Line 3 .*'inf' is no number"),
        (encoded, "x.tsv", "text\tlabel\na\t", "Line 2 .*'' is no number"),
        (encoded, "x.tsv", "words\na", "Line 2 .*no 'text'"),
        (pair, "x.jsonl", '{"text": "a"}', "Line 1 .*no 'pair'"),
        (pair, "x.tsv", "text\tpair\na\tb\na\t ", "Line 3 .*its pair is empty"),
        (tasks, "x.tsv", "task\tinput\toutput\nt\ta\t ", "Line 2 .*output is empty"),
        (tasks, "x.tsv", "task\tinput\toutput\nt\t \tb", "Line 2 .*input is empty"),
        (chat, "x.jsonl", '{"messages": []}', "Line 1 .*the answer, is empty"),
        (
            chat,
            "x.jsonl",
            '{"messages": [{"role": "user", "content": " "}]}',
            "Line 1 .*the answer, is empty",
        ),
        (TextLines, "x.tsv", "text\n ", "Line 2 .*its text is empty"),
        (TextLines, "x.jsonl", '{"text": ["a"]}', r"Line 1 .*text is \['a'\]"),
        (TextLines, "x.jsonl", "[1]", r"Line 1 .*\[1\]"),
        (TextLines, "x.jsonl", "", "holds no text"),
    ],
)
def test_a_bad_line_is_named(tmp_path, read, name, content, reason):
    path = tmp_path / name
    path.write_text(content)
    with pytest.raises(UserError, match=reason) as caught:
        read(str(path))
    assert len(str(caught.value).splitlines()) == 2
