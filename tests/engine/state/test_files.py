"""Json with a schema, numbers that json has no word for, inputs that stay."""

import json
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pld_mmdet.engine.state.files import (
    differences,
    json_text,
    keep_inputs,
    write_json,
)
from pld_mmdet.errors import UserError
from pld_mmdet.places import home
from pld_mmdet.reading import (
    misfit,
    read_json,
    read_json_lines,
    read_state,
)

COCO = {"images": [{"id": int, "file_name": str, "note?": str}], "score?": float}


def written(folder, text):
    path = folder / "a.json"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ('{"images": [{"id": 3, "file', "Unterminated string"),
        ("", "Expecting value"),
        (b"\x89PNG\xff\xfe", "it is no text"),
        ("[" * 100_000, "nested too deeply"),
        ('{"images": [], "score": NaN}', "NaN is no number of json"),
        ('{"images": [], "score": -Infinity}', "-Infinity is no number"),
        ("[1, 2]", r"it is \[1, 2\], not an object"),
        ("{}", "it has no 'images'"),
        ('{"images": {"a": 1}}', "images is .*, not a list"),
        ('{"images": [{"id": 1, "file_name": "a"}, {"id": 2}]}', r"images\[1\] has no"),
        ('{"images": [{"id": true, "file_name": "a"}]}', r"images\[0\].id is True"),
        ('{"images": [{"id": 1, "file_name": 7}]}', "file_name is 7, not a text"),
        ('{"images": [], "score": "0.7"}', "score is .0.7., not a number"),
    ],
)
def test_what_is_wrong_and_where(tmp_path, text, what):
    with pytest.raises(UserError, match=what):
        read_json(written(tmp_path, text), COCO, "annotation file")


def test_missing_a_folder_and_what_fits(tmp_path):
    with pytest.raises(UserError, match="does not exist"):
        read_json(tmp_path / "none.json")
    with pytest.raises(UserError, match="Is a directory"):
        read_json(tmp_path)
    text = '{"images": [{"id": 1, "file_name": "a", "more": []}], "score": 3}'
    assert read_json(written(tmp_path, text), COCO)["score"] == 3
    assert misfit(None, (str, type(None))) is None
    assert misfit(2, (str, type(None))) == "it is 2"


def test_lines_and_states_leave_out_what_is_broken(tmp_path):
    path = written(tmp_path, '{"iter": 4}\n{"iter": "x"}\nNaN\n{"iter": 6}\n{"it')
    assert read_json_lines(path, {"iter": int}) == [{"iter": 4}, {"iter": 6}]
    assert read_json_lines(tmp_path / "none") == []
    assert read_state(path) == {}
    assert read_state(tmp_path) == {}
    assert read_state(written(tmp_path, "[1]")) == {}
    assert read_state(written(tmp_path, '{"a": 1}')) == {"a": 1}


def test_a_number_that_is_not_finite_is_never_written(tmp_path):
    write_json(tmp_path / "b.json", {"a": [1.5, float("nan")], "b": float("inf")})
    assert json.loads((tmp_path / "b.json").read_text()) == {
        "a": [1.5, None],
        "b": None,
    }


def test_a_record_has_one_small_thing_a_line():
    run = {"seed": 4, "mb": {"host": 794}, "losses": [0.5, 0.25]}
    record = {"name": "a\nb", "of": [], "runs": {"4": run, 5: dict(run, seed=5)}}
    assert json_text(record).split("\n") == [
        "{",
        ' "name": "a\\nb",',
        ' "of": [],',
        ' "runs": {',
        '  "4": {"seed": 4, "mb": {"host": 794}, "losses": [0.5, 0.25]},',
        '  "5": {"seed": 5, "mb": {"host": 794}, "losses": [0.5, 0.25]}',
        " }",
        "}",
    ]
    long = {"a": {"b": "x" * 700}, "c": 1}
    assert json_text(long).split("\n")[2] == ' "c": 1'
    assert "\n" not in json_text(long["a"])


_PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(_PLAIN)
def test_a_record_says_what_it_was_given(content):
    flat = json.loads(json.dumps(content), parse_constant=lambda word: None)
    read = json.loads(json_text(content))
    assert read == flat
    assert json.dumps(read) == json.dumps(flat)  # the order, and 1 is not 1.0 or true


def test_records_in_the_docs_are_as_the_writer_leaves_them():
    records = sorted((home() / "docs/results").glob("*.json"))
    texts = {path.name: path.read_text() for path in records}
    again = {name: json_text(json.loads(text)) + "\n" for name, text in texts.items()}
    assert len(texts) > 3
    assert [name for name in texts if texts[name] != again[name]] == []


def test_an_output_that_is_an_input_is_refused(tmp_path):
    source = written(tmp_path, "{}")
    (tmp_path / "link.json").symlink_to(source)
    os.link(source, tmp_path / "hard.json")
    for name in ("a.json", "link.json", "hard.json", "x/../a.json"):
        with pytest.raises(UserError, match="also read"):
            keep_inputs(tmp_path / name, [None, tmp_path / "none", source])
    keep_inputs(tmp_path / "new.json", [source, tmp_path / "none"])


def test_differences_have_places():
    before = {"a": {"b": 1, "c": [1, 2]}, "d": 3}
    now = {"a": {"b": 1, "c": (1, 5, 6)}, "e": {}}
    assert differences(before, now) == [
        ("a.c.1", 2, 5),
        ("d", 3, None),
        ("a.c.2", None, 6),
        ("e", None, {}),
    ]
