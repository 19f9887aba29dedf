"""The methods of the project: which there are, and where each one lives.

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
        for path, text in self._texts(root).items():
            if not text:
                lacks.append(f"{path} does not name configs/{self.stem}/")
            elif "TODO" in text:
                lacks.append(f"a TODO is left in {path}")
        if (root / self.files["result"]).is_file():
            lacks += self._missing_in(self.record(root))
        return lacks

    def _texts(self, root: Path) -> dict[str, str]:
        """What is written of the method, by file; of the docs its own sections."""
        texts = {
            path: (root / path).read_text(encoding="utf-8")
            for path in self.files.values()
            if (root / path).is_file() and not path.endswith(".json")
        }
        docs, named = self.files["docs"], f"configs/{self.stem}/"
        if docs in texts:
            sections = texts[docs].split("\n## ")
            texts[docs] = "\n".join(part for part in sections if named in part)
        return texts

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
