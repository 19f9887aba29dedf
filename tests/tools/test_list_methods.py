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


def test_gain_is_paired_by_seed(tmp_path):
    record(tmp_path, [0.5, 0.6, 0.7], [0.6, 0.7, 0.8])
    mean, spread = MINE.gain(tmp_path)
    assert mean == pytest.approx(0.1)
    assert spread == pytest.approx(0.0, abs=1e-9)


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
    for asks in (MINE.gain, MINE.missing, MINE.works, MINE.trivial):
        with pytest.raises(UserError, match=words):
            asks(tmp_path)


def test_lower_is_better_turns_the_sign(tmp_path):
    record(tmp_path, [3.0, 3.0, 3.0], [2.0, 2.5, 3.0], lower_is_better=True)
    mean, spread = MINE.gain(tmp_path)
    assert mean == pytest.approx(0.5)
    assert spread == pytest.approx(0.5)


def test_gain_over_another_row(tmp_path):
    record(tmp_path, [0.5, 0.6, 0.7], [0.6, 0.7, 0.8])
    assert MINE.gain(tmp_path, over="mine") == (0.0, 0.0)


def test_a_second_claim_has_its_own_row_and_metric(tmp_path):
    record(tmp_path, [0.5, 0.6, 0.7], [0.6, 0.7, 0.8])
    path = tmp_path / "docs/results/mine.json"
    content = json.loads(path.read_text())
    for row, values in zip(content["rows"], ([3, 4, 6], [4, 6, 9]), strict=True):
        seeds = row["evaluate"]["test"]["seeds"].values()
        for seed, value in zip(seeds, values, strict=True):
            seed["AP50"] = value
    path.write_text(json.dumps(content))
    assert MINE.gain(tmp_path, "plain", "AP50") == (2.0, 1.0)
    assert MINE.gain(tmp_path, "plain")[0] == pytest.approx(0.1)


def test_every_second_claim_is_in_its_record():
    claimed = [entry for entry in entries() if entry.claim]
    assert claimed
    for entry in claimed:
        row, metric = entry.claim.split()
        assert entry.gain(over=row, metric=metric) is not None, entry.stem


def test_rivals_are_rows_and_stronger_than_the_baseline():
    """A rival that the table names is the harder of the two to beat."""
    named = [e for e in entries() if e.rival and e.gain() is not None]
    assert named
    for entry in named:
        over_rival, over_baseline = entry.gain(over=entry.rival), entry.gain()
        assert over_rival[0] < over_baseline[0], entry.stem


def with_trivial(folder, trivial):
    """The record of 0.6 0.7 0.9 over a baseline of 0.5 0.6 0.7, and a trivial row."""
    record(folder, [0.5, 0.6, 0.7], [0.6, 0.7, 0.9])
    path = folder / "docs/results/mine.json"
    content = json.loads(path.read_text())
    seeds = {str(s): {"accuracy": value} for s, value in enumerate(trivial)}
    row = {"name": "raw", "trivial": True, "evaluate": {"test": {"seeds": seeds}}}
    content["rows"].append(row)
    path.write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("trivial", "works"),
    [
        ([0.1, 0.1, 0.1], True),
        ([0.6, 0.75, 0.9], True),  # -0.017 +- 0.029: within the spread
        ([0.7, 0.8, 0.95], False),  # -0.083 +- 0.029
    ],
)
def test_what_loses_to_a_trivial_rival_does_not_work(tmp_path, trivial, works):
    with_trivial(tmp_path, trivial)
    assert MINE.gain(tmp_path)[0] == pytest.approx(0.4 / 3)
    assert MINE.works(tmp_path) is works


def test_the_strongest_of_all_rivals_is_the_second_gain(tmp_path):
    with_trivial(tmp_path, [0.55, 0.65, 0.8])
    assert MINE.trivial(tmp_path) == ["raw"]
    assert MINE.strongest_rival(tmp_path) == "raw"
    named = Entry("mine", "audio", "Mine", "2026", "A paper", rival="plain")
    assert named.strongest_rival(tmp_path) == "raw"
    with_trivial(tmp_path, [0.2, 0.2, 0.2])
    assert named.strongest_rival(tmp_path) == "plain"
    assert MINE.strongest_rival(tmp_path) == ""  # the baseline leaves less gain
    record(tmp_path, [0.5, 0.6, 0.7], [0.6, 0.7, 0.9])
    assert MINE.strongest_rival(tmp_path) == ""


def test_what_is_missing_is_said(tmp_path):
    record(tmp_path, [0.5], [0.6], seeds=[0], dirty=True)
    lacks = MINE.missing(tmp_path)
    assert "no method pld_mmdet/audio/mine.py" in lacks
    assert "docs/results/mine.json has fewer than three seeds" in lacks
    assert "docs/results/mine.json does not come from one clean commit" in lacks


def test_no_record_no_gain(tmp_path):
    assert MINE.gain(tmp_path) is None


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
    ("after", "expected"),
    [([0.6, 0.7, 0.8], "works"), ([0.5, 0.6, 0.71], "no gain"), ([0.4] * 3, "no gain")],
)
def test_a_gain_within_the_spread_does_not_work(tmp_path, monkeypatch, after, expected):
    record(tmp_path, [0.5, 0.6, 0.7], after)
    works = MINE.works(tmp_path)
    monkeypatch.setattr(Entry, "is_begun", lambda self: True)
    monkeypatch.setattr(Entry, "missing", lambda self: [])
    monkeypatch.setattr(Entry, "works", lambda self: works)
    assert tool("list_methods").status(MINE) == expected
