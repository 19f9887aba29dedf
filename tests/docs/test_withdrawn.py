"""What was withdrawn is withdrawn on every page that said it."""

import csv
from functools import cache

from tests.docs.commands import ROOT

DOCS = ROOT / "docs"
FAMILIES = ("diffusion", "language", "segmentation", "dataset_distillation")


@cache
def rows() -> list[dict]:
    with open(ROOT / "pld_mmdet/methods.csv", encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def flat(path) -> str:
    return " ".join(path.read_text(encoding="utf-8").split())


def test_a_family_names_what_it_withdrew():
    for family in FAMILIES:
        head = flat(DOCS / f"{family}.md").split(" ## ")[0]
        assert "**No figure on this page is a status.**" in head
        for row in rows():
            if row["family"] == family and row["withdrawn"]:
                assert f"{row['title']} ({row['withdrawn']})" in head, row["stem"]


def test_a_design_that_said_works_says_what_became_of_it():
    seen = 0
    for row in rows():
        page = DOCS / "lab" / f"{row['stem']}.md"
        if not page.is_file():
            continue
        text = flat(page)
        if row["withdrawn"]:
            assert f"methods.md)): {row['withdrawn']}." in text, row["stem"]
            seen += 1
        elif row["family"] in FAMILIES and "*works*" in text:
            assert "**Not yet in a contest**" in text, row["stem"]
    assert seen > 10
