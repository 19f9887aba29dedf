"""The table of methods: status, gain and page from files."""

import importlib.util
import json
import re

import pytest

from pld_mmdet.catalogue import ROOT, Entry, entries
from pld_mmdet.errors import UserError


def tool(name):
    spec = importlib.util.spec_from_file_location(name, ROOT / f"tools/{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def record(folder, before, after, **more):
    rows = [
        {
            "name": name,
            "evaluate": {
                "test": {
                    "seeds": {
                        str(seed): {"accuracy": value}
                        for seed, value in enumerate(values)
                    }
                }
            },
        }
        for name, values in (("plain", before), ("mine", after))
    ]
    folder = folder / "docs/results"
    folder.mkdir(parents=True, exist_ok=True)
    content = {"metric": "accuracy", "rows": rows, "seeds": [0, 1, 2], "commit": "a"}
    (folder / "mine.json").write_text(json.dumps({**content, **more}))


MINE = Entry("mine", "audio", "Mine", "2026", "A paper")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "cannot be read as a record of a table"),
        ('{"rows": [], "seeds": [0]}', "it has no 'metric'"),
        ('{"rows": [{"name": 3}]}', "is no record of a table"),
    ],
)
def test_a_broken_record_is_a_sentence(tmp_path, content, words):
    record(tmp_path, [0.5], [0.6])
    file = tmp_path / "docs/results/mine.json"
    file.write_text(content)
    with pytest.raises(UserError, match=words):
        MINE.missing(tmp_path)


def test_what_is_missing_is_said(tmp_path):
    record(tmp_path, [0.5], [0.6], seeds=[0], dirty=True)
    lacks = MINE.missing(tmp_path)
    assert "no method pld_mmdet/audio/mine.py" in lacks
    assert "docs/results/mine.json has fewer than three seeds" in lacks
    assert "docs/results/mine.json does not come from one clean commit" in lacks


def test_a_todo_is_missing_by_the_name_of_its_file(tmp_path):
    record(tmp_path, [0.5], [0.6])
    code = tmp_path / "pld_mmdet/audio/mine.py"
    code.parent.mkdir(parents=True)
    code.write_text('"""Mine (source: TODO)."""\n')
    docs = tmp_path / "docs/audio.md"
    docs.write_text("# Audio\n\n## yours\nTODO: configs/yours/toy.py\n")
    lacks = MINE.missing(tmp_path)
    assert "a TODO is left in pld_mmdet/audio/mine.py" in lacks
    assert "docs/audio.md does not name configs/mine/" in lacks
    docs.write_text(docs.read_text() + "\n## mine\nconfigs/mine/toy.py\n")
    assert not any("docs/audio.md" in lack for lack in MINE.missing(tmp_path))
    docs.write_text(docs.read_text() + "TODO\n")
    assert "a TODO is left in docs/audio.md" in MINE.missing(tmp_path)


def test_the_page_holds_the_tools_table():
    """The page claims what the files say, not more."""
    made = tool("list_methods").markdown(entries())
    assert made in (ROOT / "docs/methods.md").read_text(encoding="utf-8")


def test_the_readmes_table_is_the_record():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    table = text.partition("<!-- readme table -->")[2].partition("<!-- /readme")[0]
    shown = re.findall(r"\| (\d+\.\d ± \d+\.\d) \|$", table, re.MULTILINE)
    record = json.loads((ROOT / "docs/results/foggy_streets_room.json").read_text())
    rows = {row["name"]: row["evaluate"]["fog"] for row in record["rows"]}
    metric = record["metric"]
    expected = [
        f"{100 * rows[n]['mean'][metric]:.1f} ± {100 * rows[n]['std'][metric]:.1f}"
        for n in ("source", "adabn", "best", "adapted")
    ]
    assert shown == expected


@pytest.mark.parametrize(
    ("begun", "lacks", "expected"),
    [
        (False, [], "planned"),
        (True, ["no docs"], "in work"),
        (True, [], "not yet in a contest"),
    ],
)
def test_a_status_is_no_matter_of_a_toy(monkeypatch, begun, lacks, expected):
    monkeypatch.setattr(Entry, "is_begun", lambda self: begun)
    monkeypatch.setattr(Entry, "missing", lambda self: lacks)
    assert tool("list_methods").status(MINE) == expected


def test_what_was_withdrawn_says_why():
    named = {entry.stem for entry in entries() if entry.withdrawn}
    assert {"llkd", "pd", "p4plm", "distiller", "trans_encoder", "first"} <= named
    assert {"fst", "cotta", "infer", "boot", "lsd", "g2sd", "yonos_sr"} <= named
