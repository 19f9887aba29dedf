"""Figures of docs/tools.md are those of the benchmark's record."""

import json
import re

from tests.docs.commands import ROOT

PAGE = (ROOT / "docs/tools.md").read_text("utf-8").split("## Speed")[1]
ROWS = json.loads((ROOT / "docs/results/benchmark.json").read_text("utf-8"))
RATIOS = {(row["case"], row["setting"]): row["ratio"] for row in ROWS if "ratio" in row}
STEP = "step / plain torch"


def told(ratio: float) -> str:
    """Two digits, a half upwards: 0.875 is 0.88."""
    return f"{int(ratio * 100 + 0.5) / 100:.2f}"


def test_each_row_is_its_record_and_each_record_has_a_row():
    rows = re.findall(r"^\| (.+?) \| (.+) \| (\d\.\d\d) \|$", PAGE, re.MULTILINE)
    shown = {(case, setting): ratio for case, setting, ratio in rows}
    recorded = {key: told(r) for key, r in RATIOS.items() if STEP not in key[0]}
    assert shown == recorded
    assert len(shown) == len(rows) > 10


def test_steps_lie_in_the_range_that_is_told():
    steps = [ratio for (case, _), ratio in RATIOS.items() if case.endswith(STEP)]
    least, most = re.findall(r"takes (\d\.\d\d) to\s+(\d\.\d\d)", PAGE)[0]
    assert (told(min(steps)), told(max(steps))) == (least, most)
    assert len(steps) > 50
