"""Files of other people: plain ones only, and every fault has its place."""

import os

import pytest

from pld_mmdet.errors import UserError
from pld_mmdet.reading import read_json_lines, read_records, read_text

LINES = '{"a": 1}\n\n{"a": NaN}\n[2]\n{"a": 3'


def test_records_come_with_their_place(tmp_path):
    path = tmp_path / "x.jsonl"
    path.write_text('{"a": 1}\n\n{"a": "é"}\n', encoding="utf-8")
    found = list(read_records(path, "thing", "Write a."))
    assert found == [
        (f"Line 1 of {path}", {"a": 1}),
        (f"Line 3 of {path}", {"a": "é"}),
    ]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b'{"a": 1}\n{"a": 2', "Line 2 of .* is no thing"),
        (b"[1]\n", r"Line 1 of .* is no thing .\[1\]"),
        (b'{"a": NaN}', "NaN is no number of json"),
        (b"\n \n", "it is empty"),
        (b"\xff\xfe{}", "it is no text"),
        (b"[" * 100_000, "nested too deeply"),
        (None, "No such file"),
    ],
)
def test_what_is_wrong_and_what_to_do(tmp_path, content, words):
    path = tmp_path / "x.jsonl"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=words) as caught:
        list(read_records(path, "thing", "Write a."))
    assert caught.value.fix == "Write a."


def test_lines_of_a_run_leave_out_what_is_cut_short(tmp_path):
    path = tmp_path / "x.jsonl"
    path.write_text(LINES)
    assert read_json_lines(path) == [{"a": 1}, [2]]
    assert read_json_lines(path, dict) == [{"a": 1}]
    with_nan = read_json_lines(path, dict, nan=True)
    assert len(with_nan) == 2
    assert with_nan[1]["a"] != with_nan[1]["a"]
    assert read_json_lines(tmp_path / "none") == []


def test_only_plain_files_up_to_a_size(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for name in ("pipe", "."):
        with pytest.raises(OSError, match=r"no plain file|Is a directory"):
            read_text(tmp_path / name)
    (tmp_path / "x").write_text("12345")
    assert read_text(tmp_path / "x", largest=5) == "12345"
    with pytest.raises(OSError, match="has 0 MiB"):
        read_text(tmp_path / "x", largest=4)
