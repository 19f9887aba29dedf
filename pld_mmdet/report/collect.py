"""Read what ``tools/reproduce.py`` left in a run directory.

``RUN_DIR/result.json`` names the rows and holds their numbers;
``RUN_DIR/seed_<s>/<row>/`` is the work directory of the row's training and holds
``metrics_<evaluation>.json`` for each evaluation. Anything may be missing: what is not
there becomes a sentence in :attr:`Run.missing` and never a number.
"""

import math
import re
import statistics
from dataclasses import dataclass, field
from pathlib import Path

from pld_mmdet.catalogue import entries
from pld_mmdet.errors import UserError
from pld_mmdet.reading import RESULT, read_json

# Order, title and one line for the rows of FoggyStreets.
KNOWN_ROWS = {
    "source": ("Source only", "Trained on clear images with labels; never saw fog."),
    "adabn": (
        "AdaBN",
        "Source detector; batch-norm statistics measured again on unlabelled foggy"
        " images, no training.",
    ),
    "mean_teacher_no_adabn": (
        "Mean Teacher, no AdaBN",
        "The teacher's confident boxes train a student on foggy images; statistics"
        " stay those of clear images.",
    ),
    "mean_teacher": (
        "Mean Teacher",
        "AdaBN first, then the teacher's confident boxes train the student.",
    ),
    "lpld": (
        "LPLD",
        "Mean Teacher that also distils the teacher's low-confidence proposals.",
    ),
    "oracle": (
        "Oracle",
        "Trained on foggy images with labels: the room there is, not a method.",
    ),
}
ADAPTED = ("lpld", "mean_teacher", "adabn")
AP = "coco/AP50"
METRIC_NAMES = {
    AP: "AP50",
    "coco/bbox_mAP": "AP",
    "coco/AP50_novel": "AP50 of novel classes",
}


@dataclass
class Row:
    """One row of the table.

    Attributes:
        title: As in the experiment; ``short`` is what charts and sentences say.
        metrics: evaluation -> seed -> metric -> fraction.
        work_dirs: seed -> work directory of its training.
        minutes: Mean minutes of one seed, None when not recorded.
    """

    name: str
    title: str
    short: str
    meaning: str
    config: str = ""
    minutes: float | None = None
    commands: dict[str, str] = field(default_factory=dict)
    metrics: dict[str, dict[int, dict[str, float]]] = field(default_factory=dict)
    work_dirs: dict[int, Path] = field(default_factory=dict)

    def values(self, evaluation: str, key: str) -> dict[int, float]:
        """Seed -> value of one metric; only seeds that have a number."""
        found = self.metrics.get(evaluation, {})
        return {
            seed: numbers[key]
            for seed, numbers in sorted(found.items())
            if isinstance(numbers.get(key), int | float) and math.isfinite(numbers[key])
        }


@dataclass
class Run:
    """All that the report says about a run directory.

    Attributes:
        metric: Key of the number that the table is about.
        percent: Whether it is a fraction that is shown as percent.
        lower_is_better: Whether less is better.
        columns: Title -> (evaluation, metric) of further columns.
        label: The evaluation that is compared; empty: see :attr:`target`.
        method: Name of the row that is the method's, ``baseline`` and ``rivals`` the
            rows that it is compared with; empty where no table of methods says so.
    """

    path: Path
    name: str
    rows: list[Row]
    seeds: list[int]
    facts: dict[str, str]
    command: str = ""
    quick: bool = False
    missing: list[str] = field(default_factory=list)
    metric: str = AP
    percent: bool = True
    lower_is_better: bool = False
    columns: dict[str, tuple[str, str]] = field(default_factory=dict)
    label: str = ""
    method: str = ""
    baseline: str = ""
    rivals: list[str] = field(default_factory=list)

    @property
    def streets(self) -> bool:
        """Whether it is the founding experiment, whose rows have words of their own."""
        return self.row("source") is not None and self.metric == AP

    @property
    def metric_name(self) -> str:
        """The metric as a reader knows it."""
        return METRIC_NAMES.get(self.metric, self.metric.replace("_", " "))

    @property
    def unit_sentence(self) -> str:
        """What the numbers are."""
        if self.metric == AP:
            return "COCO AP at IoU 0.5 in percent, mean of the classes, test split."
        unit = ", in percent" if self.percent else ""
        better = "lower" if self.lower_is_better else "higher"
        return f"{self.metric_name}{unit}; {better} is better."

    def number(self, value: float) -> str:
        """A value of the metric as text."""
        return f"{100 * value:.1f}" if self.percent else f"{value:.4g}"

    def row(self, name: str) -> Row | None:
        """The row of that name, if it is there."""
        return next((row for row in self.rows if row.name == name), None)

    @property
    def target(self) -> str:
        """The evaluation the table is about: ``fog`` when there is one."""
        return self.label or self._evaluation("fog", last=True)

    @property
    def source(self) -> str:
        """The evaluation on the domain the source detector was trained on."""
        return self._evaluation("clear", last=False)

    def _evaluation(self, usual: str, last: bool) -> str:
        seen = [name for row in self.rows for name in row.metrics]
        return usual if usual in seen or not seen else seen[-1 if last else 0]

    def adapted(self) -> Row | None:
        """The method's row; on streets LPLD, else Mean Teacher, else AdaBN.

        A fixed rule, so that the headline is not the best of several numbers.
        """
        for name in (self.method, *ADAPTED):
            row = self.row(name)
            if row and row.values(self.target, self.metric):
                return row
        return None


def spread(values: dict[int, float]) -> tuple[float, float | None]:
    """Mean and sample standard deviation (None for a single seed)."""
    numbers = list(values.values())
    return statistics.fmean(numbers), (
        statistics.stdev(numbers) if len(numbers) > 1 else None
    )


def collect(run_dir: str | Path) -> Run:
    """Read a run directory.

    Args:
        run_dir: What ``tools/reproduce.py --out`` wrote; it may be unfinished.

    Raises:
        UserError: If the directory does not exist or holds nothing of a run.
    """
    path = Path(run_dir)
    if not path.is_dir():
        raise UserError(
            f"There is no run directory {path}.",
            "Make one: python tools/reproduce.py configs/lpld/foggy_streets.py"
            f" --out {path}",
        )
    result_file = path / "result.json"
    result = _read(result_file, RESULT) if result_file.is_file() else {}
    seeds = sorted(
        {int(seed) for seed in result.get("seeds", [])}
        | {int(match[1]) for p in path.iterdir() if (match := _SEED.match(p.name))}
    )
    rows = [_row(entry) for entry in result.get("rows", [])]
    named = {row.name for row in rows}
    rows += [_row({"name": name}) for name in sorted(_work_dirs(path, seeds) - named)]
    metric = str(result.get("metric", AP))
    if metric == AP:  # else the order of the experiment
        rows.sort(key=lambda row: _rank(row.name))
    if not rows:
        raise UserError(
            f"{path} holds neither result.json nor seed_<n>/<row> folders.",
            "Give the folder that tools/reproduce.py wrote (its --out).",
        )
    for row in rows:
        _add_files(row, path, seeds)
    name = str(result.get("name") or path.resolve().name)
    run = Run(
        path=path,
        name=name,
        metric=metric,
        percent=bool(result.get("percent", True)),
        lower_is_better=bool(result.get("lower_is_better")),
        columns={
            title: tuple(column)
            for title, column in (result.get("columns") or {}).items()
        },
        **_compared(name, [row.name for row in rows]),
        rows=rows,
        seeds=seeds,
        facts=_facts(result, rows, path),
        command=str(result.get("command", "")),
        quick=bool(result.get("quick")),
        # Untested rows are named below, with their titles.
        missing=[
            str(line)
            for line in result.get("missing", [])
            if not str(line).endswith("not tested yet")
        ],
    )
    if not result:
        run.missing.append("result.json is not there: the run has not finished.")
    run.missing += _gaps(run)
    return run


_SEED = re.compile(r"seed_(\d+)$")


def _row(entry: dict) -> Row:
    name = str(entry["name"])
    short, meaning = KNOWN_ROWS.get(name, (name.replace("_", " "), ""))
    metrics = {
        evaluation: {int(seed): dict(v) for seed, v in found.get("seeds", {}).items()}
        for evaluation, found in entry.get("evaluate", {}).items()
    }
    return Row(
        name=name,
        title=str(entry.get("title") or short),
        short=short,
        meaning=str(entry.get("description") or meaning),
        config=str(entry.get("config") or ""),
        minutes=entry.get("minutes"),
        commands=_commands(entry),
        metrics=metrics,
    )


def _commands(entry: dict) -> dict[str, str]:
    """Step -> command line of the first seed."""
    found = {"train": next(iter(entry.get("runs", {}).values()), {}).get("command")}
    for label, part in entry.get("evaluate", {}).items():
        found[f"evaluate {label}"] = next(iter(part.get("commands", {}).values()), None)
    return {step: str(line) for step, line in found.items() if line}


def _add_files(row: Row, path: Path, seeds: list[int]) -> None:
    minutes = []
    for seed in seeds:
        folder = path / f"seed_{seed}" / row.name
        if not folder.is_dir():
            continue
        row.work_dirs[seed] = folder
        for file in sorted(folder.glob("metrics_*.json")):
            evaluation = file.stem.removeprefix("metrics_")
            content = _read(file, {"metrics?": dict, "command?": str})
            per_seed = row.metrics.setdefault(evaluation, {})
            per_seed.setdefault(seed, content.get("metrics", {}))
            if content.get("command"):
                row.commands.setdefault(f"evaluate {evaluation}", content["command"])
        record = folder / "run.json"
        if record.is_file():
            content = _read(record)
            if content.get("command"):
                row.commands.setdefault("train", content["command"])
            if isinstance(content.get("minutes"), int | float):
                minutes.append(content["minutes"])
    if row.minutes is None and minutes:
        row.minutes = statistics.fmean(minutes)


def _work_dirs(path: Path, seeds: list[int]) -> set[str]:
    """Rows that have a folder with results or a training in it."""
    return {
        folder.name
        for seed in seeds
        if (path / f"seed_{seed}").is_dir()
        for folder in (path / f"seed_{seed}").iterdir()
        if folder.is_dir()
        and (any(folder.glob("metrics_*.json")) or (folder / "run.json").is_file())
    }


def _rank(name: str) -> float:
    """The founding rows in their order; others, as they come, before the oracle."""
    known = list(KNOWN_ROWS)
    return known.index(name) if name in known else known.index("oracle") - 0.5


def _facts(result: dict, rows: list[Row], path: Path) -> dict[str, str]:
    """What stands in the "how it was made" list, as text."""
    records = [
        _read(folder / "run.json")
        for row in rows
        for folder in row.work_dirs.values()
        if (folder / "run.json").is_file()
    ]
    first = records[0] if records else {}
    commit = result.get("commit") or first.get("commit")
    facts = {}
    if commit:
        dirty = result.get("dirty", first.get("dirty"))
        facts["commit"] = str(commit) + (" + uncommitted changes" if dirty else "")
    if result.get("reported"):
        facts["result"] = str(result["reported"])
    machine = result.get("machine") or first.get("machine")
    if machine:
        facts["machine"] = _plain(machine)
    minutes = result.get("minutes")
    if isinstance(minutes, int | float):
        facts["minutes"] = f"{minutes:.1f}"
    for key in ("started", "finished"):
        if result.get(key):
            facts[key] = str(result[key])
    versions = result.get("versions") or first.get("versions")
    if versions:
        facts["versions"] = _plain(versions)
    data = result.get("data") or first.get("data")
    if data:
        facts["data"] = _plain(data)
    return facts


def _plain(value: object) -> str:
    if isinstance(value, dict):
        parts = [
            f"{k} {_plain(v)}" for k, v in value.items() if v not in (None, "", [])
        ]
        return ", ".join(parts)
    if isinstance(value, list | tuple):
        return ", ".join(_plain(v) for v in value)
    return str(value)


def _compared(name: str, rows: list[str]) -> dict:
    """Which row is the method's and which are its rivals, by the table of methods."""
    for entry in entries():
        row = entry.row or entry.stem
        if (entry.result or entry.stem) == name and row in rows:
            baseline = entry.baseline or rows[0]
            rivals = [rival for rival in [entry.rival] if rival in rows]
            return dict(method=row, baseline=baseline, rivals=rivals, label=entry.label)
    return {}


def _gaps(run: Run) -> list[str]:
    lines = []
    for name, (title, _) in KNOWN_ROWS.items():
        if run.streets and run.row(name) is None:
            lines.append(f"{title}: this row was not run.")
    for row in run.rows:
        if not row.metrics.get(run.target):
            lines.append(f"{row.title}: no result on {run.target} yet.")
            continue
        absent = [s for s in run.seeds if s not in row.metrics[run.target]]
        if absent:
            seeds = ", ".join(map(str, absent))
            lines.append(f"{row.title}: no result on {run.target} for seed {seeds}.")
    return lines


def _read(file: Path, schema: object = dict) -> dict:
    return read_json(file, schema, "file of a run")
