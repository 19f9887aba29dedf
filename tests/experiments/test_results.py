"""Means, spreads, ranges and a page's table, on numbers worked out by hand."""

import json

import pytest

from pld_mmdet.errors import UserError
from pld_mmdet.experiments.results import (
    collect,
    compare,
    markdown,
    markers,
    update_page,
    with_rows,
)
from pld_mmdet.experiments.rows import Experiment, Row

METRIC = "coco/AP50"


def make(tmp_path, values: list[float], commit="c0ffee", metric=METRIC) -> dict:
    """A result of one row with one seed for each value."""
    for seed, value in enumerate(values):
        folder = tmp_path / f"seed_{seed}" / "lpld"
        folder.mkdir(parents=True, exist_ok=True)
        metrics = {metric: value, f"{metric}_small": value / 2, "note": "text"}
        test = dict(metrics=metrics, command="python tools/test.py", commit=commit)
        (folder / "metrics_fog.json").write_text(json.dumps(test))
        run = dict(commit=commit, minutes=4.0 + seed, peak_memory_mb={"host": 900})
        run |= dict(machine={"processor": "Chip", "cores": 2, "gpus": []}, dirty=False)
        (folder / "run.json").write_text(json.dumps(run))
    row = Row("lpld", "configs/lpld/x.py", title="LPLD", evaluate={"fog": None})
    experiment = Experiment("configs/lpld/x.py", "toy", [row], reported="teacher")
    facts = dict(command="python tools/reproduce.py x", minutes=12.0)
    return collect(experiment, range(len(values)), tmp_path, facts)


def test_mean_and_sample_standard_deviation(tmp_path):
    (row,) = make(tmp_path, [0.40, 0.44, 0.48])["rows"]
    fog = row["evaluate"]["fog"]
    assert fog["mean"][METRIC] == pytest.approx(0.44)
    assert fog["std"][METRIC] == pytest.approx(0.04)  # n - 1, not n (0.0327)
    assert fog["seeds"]["1"][METRIC] == 0.44
    assert "note" not in fog["mean"]
    assert row["minutes"] == 5.0
    assert row["peak_memory_mb"] == 900


def test_untested_seed_is_named(tmp_path):
    result = make(tmp_path, [0.4, 0.5])
    (tmp_path / "seed_1" / "lpld" / "metrics_fog.json").unlink()
    experiment = Experiment("x", "toy", [Row("lpld", "x", evaluate={"fog": None})])
    result = collect(experiment, [0, 1], tmp_path, {})
    assert result["missing"] == ["lpld, fog, seed 1: not tested yet"]
    assert result["rows"][0]["evaluate"]["fog"]["mean"][METRIC] == 0.4


def test_runs_of_several_commits_are_told(tmp_path):
    make(tmp_path, [0.4, 0.5], commit="old")
    (tmp_path / "seed_1" / "lpld" / "run.json").write_text('{"commit": "new"}')
    experiment = Experiment("x", "toy", [Row("lpld", "x", evaluate={"fog": None})])
    result = collect(experiment, [0, 1], tmp_path, {})
    assert result["commit"] is None
    assert result["missing"] == ["The runs come from several commits: new, old"]


def test_range_is_a_prediction_interval(tmp_path):
    recorded = make(tmp_path / "then", [0.40, 0.44, 0.48])
    # std 4 points, t(2) = 4.30, one new seed: 4 * 4.30 * sqrt(1 + 1/3) + 0.5 = 20.36
    for value, within in ((0.64, True), (0.65, False), (0.24, True), (0.23, False)):
        now = make(tmp_path / "now", [value])
        ((name, answer, sentence),) = compare(now, recorded)
        assert name == "LPLD on fog"
        assert answer is within, sentence
        assert "44.0 ± 20.4" in sentence


def test_one_recorded_seed_allows_rounding_only(tmp_path):
    recorded = make(tmp_path / "then", [0.44])
    assert compare(make(tmp_path / "now", [0.444]), recorded)[0][1]
    assert not compare(make(tmp_path / "now", [0.446]), recorded)[0][1]


def test_markdown_says_where_the_numbers_come_from(tmp_path):
    text = markdown(make(tmp_path, [0.40, 0.44, 0.48]))
    assert "| LPLD | 44.0 ± 4.0 | 22 | 5.0 | 900 |" in text
    for part in (
        "python tools/reproduce.py x",
        "c0ffee",
        "Chip, 2 cores",
        "12 minutes",
    ):
        assert part in text


def test_numbers_that_are_no_percent_have_as_many_digits_as_they_need(tmp_path):
    small = make(tmp_path, [0.0162, 0.0187]) | {"percent": False}
    assert "| 0.0175 ± 0.0018 |" in markdown(small)
    large = make(tmp_path, [84.3161, 77.2458]) | {"percent": False}
    assert "| 80.78 ± 5.00 |" in markdown(large)


def test_page_is_changed_between_its_markers_only(tmp_path):
    readme = tmp_path / "page.md"
    readme.write_text("a\n<!-- results:toy -->\nold\n<!-- /results:toy -->\nb\n")
    result = make(tmp_path, [0.4])
    for _ in range(2):  # writing twice changes nothing more
        update_page(readme, result)
        text = readme.read_text()
        assert text.startswith("a\n<!-- results:toy -->\n|  | fog |")
        assert text.endswith("<!-- /results:toy -->\nb\n")
        assert text.count("| LPLD |") == 1
        assert "old" not in text


def test_page_without_markers_is_left_alone(tmp_path):
    readme = tmp_path / "page.md"
    readme.write_text("nothing here")
    one, two = markers("toy")
    for text in ("nothing here", f"{two} {one}", f"{one} {one} {two}", one):
        readme.write_text(text)
        with pytest.raises(UserError, match="<!-- results:toy -->"):
            update_page(readme, make(tmp_path, [0.4]))
        assert readme.read_text() == text


def on(result: dict, images: int) -> dict:
    """The same result, tested on so many images."""
    result["rows"][0]["evaluate"]["fog"]["split"] = {"images": images}
    return result


def test_a_row_says_which_split_it_was_tested_on(tmp_path):
    make(tmp_path, [0.40])
    file = tmp_path / "seed_0/lpld/metrics_fog.json"
    split = {"images": 600, "files": ["data/foggy_streets/annotations/test.json"]}
    file.write_text(json.dumps(json.loads(file.read_text()) | {"data": split}))
    row = Row("lpld", "configs/lpld/x.py", title="LPLD", evaluate={"fog": None})
    experiment = Experiment("configs/lpld/x.py", "toy", [row])
    result = collect(experiment, [0], tmp_path, dict(command="x", minutes=1.0))
    assert result["rows"][0]["evaluate"]["fog"]["split"] == split
    assert "on the test split (600 images)" in markdown(result)
    split["files"] = ["data/foggy_streets/annotations/val_foggy.json"]
    split["images"] = 200
    result["rows"][0]["evaluate"]["fog"]["split"] = split
    assert "on the val split (200 images)" in markdown(result)
    both = dict(split, files=["annotations/test.json"], images=600)
    result["rows"][0]["evaluate"] |= {"clear": dict(split=both, values=[0.1])}
    assert "on the test and val splits (200 or 600 images)" in markdown(result)


def test_the_split_is_told_by_the_word_and_of_what_is_shown(tmp_path):
    result = make(tmp_path, [0.40])
    (row,) = result["rows"]
    stream = {"images": 2000, "files": ["annotations/fewshot/streets_test.json"]}
    gate = {"images": 200, "files": ["annotations/fewshot/streets_val_base.json"]}
    row["evaluate"]["fog"]["split"] = gate
    assert "on the val split (200 images)" in markdown(result)
    row["evaluate"]["online"] = {**row["evaluate"]["fog"], "split": stream}
    assert "on the test and val splits (200 or 2000 images)" in markdown(result)
    result["columns"] = {"all": ["online", METRIC]}  # the gate is in no column
    assert "on the test split (2000 images)" in markdown(result)
    result["columns"]["mean of the run (val)"] = ["online", METRIC]
    assert "on the test and val splits (2000 images)" in markdown(result)
    gate["files"] = ["annotations/intervals.json"]
    assert "on the test split (200 or" in markdown({**result, "columns": {}})


def test_an_older_table_says_nothing_about_its_split(tmp_path):
    text = markdown(make(tmp_path, [0.40]))
    assert "on the test split, seed 0" in text


def test_splits_of_other_sizes_are_not_compared(tmp_path):
    then = on(make(tmp_path / "then", [0.40, 0.41]), 200)
    now = on(make(tmp_path / "now", [0.60, 0.62]), 600)
    ((name, within, sentence),) = compare(now, then)
    assert (name, within) == ("LPLD on fog", True)
    assert sentence == "61.0 on 600 images; recorded on 200, so not compared"
    ((_, within, sentence),) = compare(now, on(then, 600))
    assert not within
    assert "OUTSIDE" in sentence


def test_rows_are_added_and_say_where_they_are_from(tmp_path):
    recorded = make(tmp_path / "a", [0.4, 0.44], commit="old")
    later = make(tmp_path / "b", [0.3, 0.31], commit="new")
    later["rows"][0] |= {"name": "raw", "trivial": True}
    both = with_rows(recorded, later)
    assert [row["name"] for row in both["rows"]] == ["lpld", "raw"]
    assert both["commit"] == "old"
    assert both["rows"][0] == recorded["rows"][0]
    assert both["rows"][1]["added"]["commit"] == "new"
    assert markdown(both).endswith("minutes in all. Added at commit new: LPLD.")
    assert markdown(both).count("| LPLD |") == 2
    assert "Added" not in markdown(recorded)
    again = with_rows(both, later)  # one that was added is replaced
    assert again == both
    with pytest.raises(UserError, match="a row lpld of its own run"):
        with_rows(recorded, make(tmp_path / "c", [0.3, 0.31]))
    for change in ({"dirty": True}, {"commit": None}, {"missing": ["seed 1"]}):
        with pytest.raises(UserError, match="not of one clean commit"):
            with_rows(recorded, {**later, **change})
    with pytest.raises(UserError, match=r"has seeds \[0, 1\]"):
        with_rows(recorded, {**later, "seeds": [0]})
