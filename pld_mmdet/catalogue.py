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
        baseline: Row that the gain is measured against [the record's first].
        rival: Row of the strongest simple rival [the baseline is it].
        label: Evaluation of both rows that is compared [the last].
        claim: What the paper claims besides, as a row and a metric of the record with a
            space between: the gain over that row, by that metric.
        docs: Page in ``docs/`` [``<family>``].
        state: ``in work`` while something is known to be missing; a test sees that the
            mark is there as long as it is true, and no longer.
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
    claim: str = ""
    docs: str = ""
    state: str = ""

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

    def gain(
        self, root: Path = ROOT, over: str = "", metric: str = ""
    ) -> tuple[float, float] | None:
        """Mean and standard deviation over seeds of (method - another row).

        Paired by seed; positive is better, also where lower numbers are better. In the
        record's own unit (fractions are not percent here). None without a record.

        Args:
            root: The repository.
            over: The other row [the baseline].
            metric: A metric of both rows [the record's].
        """
        if not (root / self.files["result"]).is_file():
            return None
        record = self.record(root)
        rows = {row["name"]: row for row in record["rows"]}
        name = self.row or self.stem
        if name not in rows:
            return None
        before = rows[over or self.baseline or record["rows"][0]["name"]]["evaluate"]
        after = rows[name]["evaluate"]
        common = [name for name in after if name in before]
        label = self.label or (common or [""])[-1]
        if label not in common:
            return None
        metric = metric or record["metric"]
        pairs = [
            (values[metric], before[label]["seeds"][seed][metric])
            for seed, values in after[label]["seeds"].items()
            if seed in before[label]["seeds"]
        ]
        if not pairs:
            return None
        sign = -1.0 if record.get("lower_is_better") else 1.0
        gains = [sign * (ours - theirs) for ours, theirs in pairs]
        mean = sum(gains) / len(gains)
        rest = max(len(gains) - 1, 1)
        return mean, (sum((gain - mean) ** 2 for gain in gains) / rest) ** 0.5

    def trivial(self, root: Path = ROOT) -> list[str]:
        """Rows of the record that are trivial rivals (``pld_mmdet.shared.baselines``).

        Raw input, random weights, bags of words, no learning, the teacher itself.
        """
        if not (root / self.files["result"]).is_file():
            return []
        rows = self.record(root)["rows"]
        return [row["name"] for row in rows if row.get("trivial")]

    def strongest_rival(self, root: Path = ROOT) -> str:
        """Of the named rival and all trivial ones, the row that leaves least gain.

        The empty string stands for none: the baseline is the strongest simple row,
        and no rival that is named leaves less gain.
        """
        names = [name for name in (self.rival, *self.trivial(root)) if name]
        gains = {name: self.gain(root, over=name) for name in names}
        known = {name: found[0] for name, found in gains.items() if found is not None}
        least = min(known, key=known.__getitem__, default="")
        # a trivial row that is easier to beat than the baseline is no strongest row
        own = self.gain(root)
        if own and least and least != self.rival and known[least] > own[0]:
            return ""
        return least

    def works(self, root: Path = ROOT) -> bool:
        """Whether the record is evidence for the method.

        Above the plain baseline by more than the spread of the paired differences, and
        not below any trivial rival by more than the spread.
        """
        found = self.gain(root)
        if found is None or found[0] <= found[1]:
            return False
        over = [self.gain(root, over=name) for name in self.trivial(root)]
        return all(mean >= -spread for mean, spread in filter(None, over))


def entries() -> list[Entry]:
    """All methods of the project, family by family."""
    path = Path(__file__).with_name("methods.csv")
    with open(path, encoding="utf-8", newline="") as file:
        return [Entry(**row) for row in csv.DictReader(file)]
