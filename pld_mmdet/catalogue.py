"""The 64 methods of the project: which there are, and where each one lives.

``methods.csv`` beside this file names them. Everything else follows from the stem:
``pld_mmdet/<family>/<stem>.py``, ``configs/<stem>/``, a test of that name, a section in
the docs, a record in ``docs/results/``. ``tools/list_methods.py`` prints the table,
``tests/test_methods.py`` walks over it.
"""

import csv
from dataclasses import dataclass
from pathlib import Path

from pld_mmdet.places import PACKAGE, home
from pld_mmdet.reading import GAINS, read_json

ROOT = home()


@dataclass(frozen=True)
class Entry:
    """One method.

    Args:
        stem: Name of its files.
        family: Folder below ``pld_mmdet``.
        title: Its name in the paper.
        year: Of the paper's first version.
        paper: What the paper is called (shortened).
        toy: Config that runs here, below ``configs/`` [``<stem>/toy``].
        published: Config of the published setting [``<stem>/paper``].
        result: Record in ``docs/results/`` [``<stem>``].
        row: The method's row in it [``<stem>``].
        baseline: Row that a report compares it with [the record's first].
        rival: Row of the strongest simple rival [the baseline is it].
        label: Evaluation of both rows that is compared [the last].
        docs: Page in ``docs/`` [``<family>``].
        state: ``in work`` while something is known to be missing; a test sees that the
            mark is there as long as it is true, and no longer.
        withdrawn: Why what its toy once showed counts for nothing.
    """

    stem: str
    family: str
    title: str
    year: str
    paper: str
    toy: str = ""
    published: str = ""
    result: str = ""
    row: str = ""
    baseline: str = ""
    rival: str = ""
    label: str = ""
    docs: str = ""
    state: str = ""
    withdrawn: str = ""

    @property
    def files(self) -> dict[str, str]:
        """What a working method has, by kind, relative to the repository."""
        stem = self.stem
        plain = {"plain loop": f"tests/{self.family}/plain_{stem}.py"}
        return {
            "method": f"pld_mmdet/{self.family}/{stem}.py",
            "toy config": f"configs/{self.toy or stem + '/toy'}.py",
            "paper config": f"configs/{self.published or stem + '/paper'}.py",
            "test": f"tests/{self.family}/test_{stem}.py",
            **(plain if self.family != "detection" else {}),
            "docs": f"docs/{self.docs or self.family}.md",
            "result": f"docs/results/{self.result or stem}.json",
        }

    def is_begun(self) -> bool:
        """Whether there is code."""
        return (PACKAGE.parent / self.files["method"]).is_file()

    def missing(self, root: Path = ROOT) -> list[str]:
        """What a working method has and this one lacks, in words."""
        installed = root.name == ".mim"  # a wheel carries no tests
        lacks = [
            f"no {kind} {path}"
            for kind, path in self.files.items()
            if not (installed and kind in ("method", "test", "plain loop"))
            and not (root / path).is_file()
        ]
        docs = root / self.files["docs"]
        if docs.is_file() and f"configs/{self.stem}/" not in docs.read_text("utf-8"):
            lacks.append(f"{self.files['docs']} does not name configs/{self.stem}/")
        if (root / self.files["result"]).is_file():
            lacks += self._missing_in(self.record(root))
        return lacks

    def _missing_in(self, record: dict) -> list[str]:
        path, rows = self.files["result"], record["rows"]
        lacks = []
        if len(record["seeds"]) < 3:
            lacks.append(f"{path} has fewer than three seeds")
        if record.get("dirty") or not record.get("commit"):
            lacks.append(f"{path} does not come from one clean commit")
        name = self.row or self.stem
        if name not in [row["name"] for row in rows]:
            lacks.append(f"{path} has no row {name}")
        return lacks

    def record(self, root: Path = ROOT) -> dict:
        """The recorded result."""
        return read_json(root / self.files["result"], GAINS, "record of a table")


def entries() -> list[Entry]:
    """All methods of the project, family by family."""
    path = Path(__file__).with_name("methods.csv")
    with open(path, encoding="utf-8", newline="") as file:
        return [Entry(**row) for row in csv.DictReader(file)]
