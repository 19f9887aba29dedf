"""Files of other people: plain ones only, and every fault has its place."""

import os
import sys
from importlib.machinery import ModuleSpec
from types import ModuleType

import pytest

from pld_mmdet.errors import UserError
from pld_mmdet.reading import read_json, read_json_lines, read_records, read_text

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
        (b'{"a": 1, "b": {"c": 1, "c": 2}}', "the key 'c' stands twice in one object"),
    ],
)
def test_what_is_wrong_and_what_to_do(tmp_path, content, words):
    path = tmp_path / "x.jsonl"
    path.write_bytes(content)
    with pytest.raises(UserError, match=words) as caught:
        list(read_records(path, "thing", "Write a."))
    assert caught.value.fix == "Write a."


def test_only_a_line_feed_ends_a_line(tmp_path):
    path = tmp_path / "x.jsonl"
    text = "a\u2028b\x85c\x0c"
    path.write_bytes(f'\ufeff{{"a": "{text[:-1]}"}}\r\n{{"a": 2}}\r\n'.encode())
    assert [one for _, one in read_records(path, "thing", "")] == [
        {"a": text[:-1]},
        {"a": 2},
    ]
    assert read_json_lines(path)[-1] == {"a": 2}


def test_columns_of_a_tsv(tmp_path):
    path = tmp_path / "x.tsv"
    path.write_bytes(b'a\tb\r\n1\t"two"\r\n\t3\r\n')
    assert list(read_records(path, "thing", "Write a.")) == [
        (f"Line 2 of {path}", {"a": "1", "b": '"two"'}),
        (f"Line 3 of {path}", {"a": "", "b": "3"}),
    ]


def test_columns_of_a_csv(tmp_path):
    path = tmp_path / "x.csv"
    path.write_bytes(b'\xef\xbb\xbfa,b\r\n1,"two, ""and""\n three"\r\n\r\n,3\r\n')
    assert list(read_records(path, "thing", "Write a.")) == [
        (f"Line 3 of {path}", {"a": "1", "b": 'two, "and"\n three'}),
        (f"Line 5 of {path}", {"a": "", "b": "3"}),
    ]
    path.write_text("a,b\n1,2,3\n")
    with pytest.raises(UserError, match=r"Line 2 of .*3 columns"):
        list(read_records(path, "thing", "Write a."))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"a\tb\n1\t2\n1\t2\t3\n", "Line 3 of .*3 columns, the first line names 2"),
        (b"a\tb\n1\t2\n\n1\t2\n", "Line 3 of .*1 columns"),
        (b"a\ta\n1\t2\n", "Line 1 of .*no two alike"),
        (b"a\t \n1\t2\n", "Line 1 of .*a name each"),
        (b"a\tb\n", "holds no thing: it is empty"),
        (b"", "holds no thing: it is empty"),
        (b"a\n\xff\n", "it is no text"),
    ],
)
def test_what_is_no_tsv(tmp_path, content, words):
    path = tmp_path / "x.tsv"
    path.write_bytes(content)
    with pytest.raises(UserError, match=words):
        list(read_records(path, "thing", "Write a."))


class ParquetFile:
    """As pyarrow has it: batches of rows; empty cells are None."""

    def __init__(self, path):
        if path.read_bytes() != b"PAR1":
            raise ValueError("Parquet magic bytes not found in footer.\nMore.")

    def iter_batches(self):
        batch = type("Batch", (), {"to_pylist": lambda self: self.rows})
        for rows in ([{"a": 1, "b": None}], [{"a": 2, "b": ["x"]}]):
            found = batch()
            found.rows = rows
            yield found


@pytest.fixture
def pyarrow(monkeypatch):
    for name in ("pyarrow", "pyarrow.parquet"):
        module = ModuleType(name)
        module.__spec__ = ModuleSpec(name, None)
        module.ParquetFile = ParquetFile
        monkeypatch.setitem(sys.modules, name, module)


def test_rows_of_a_parquet_file(tmp_path, pyarrow):
    path = tmp_path / "x.parquet"
    path.write_bytes(b"PAR1")
    assert list(read_records(path, "thing", "Write a.")) == [
        (f"Row 1 of {path}", {"a": 1}),
        (f"Row 2 of {path}", {"a": 2, "b": ["x"]}),
    ]
    path.write_bytes(b"PAR")
    with pytest.raises(UserError, match=r"after row 0: Parquet magic bytes not found"):
        list(read_records(path, "thing", "Write a."))
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(UserError, match="cannot be read"):
        list(read_records(path, "thing", "Write a."))


def test_parquet_without_a_library_is_a_sentence(tmp_path, monkeypatch):
    monkeypatch.setattr("pld_mmdet.reading.find_spec", lambda name: None)
    path = tmp_path / "x.parquet"
    path.write_bytes(b"PAR1")
    with pytest.raises(UserError, match="neither pyarrow nor pandas is installed"):
        list(read_records(path, "thing", "Write a."))


def test_a_missing_file_is_no_fault_of_its_lines(tmp_path):
    for name in ("x.jsonl", "x.tsv"):
        with pytest.raises(UserError, match="does not exist") as caught:
            list(read_records(tmp_path / name, "thing", "Write a."))
        assert caught.value.fix.startswith("Check the path")


def test_json_with_a_key_twice_is_refused(tmp_path):
    path = tmp_path / "x.json"
    path.write_text('{"images": [1], "images": [2]}')
    with pytest.raises(UserError, match="the key 'images' stands twice"):
        read_json(path)


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
