"""From finished runs to a table: means over seeds, and where each number comes from."""

import re
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path

from rich.table import Table

from pld_mmdet.engine.state.files import write_atomic
from pld_mmdet.engine.state.provenance import portable
from pld_mmdet.errors import UserError
from pld_mmdet.experiments.counted import COUNTED
from pld_mmdet.experiments.rows import Experiment
from pld_mmdet.reading import RECORD, page_around, read_json, read_state

SIZES = ("small", "medium", "large")
# Student's t, two-sided 95 %, by degrees of freedom (seeds - 1).
T95 = {1: 12.71, 2: 4.30, 3: 3.18, 4: 2.78, 5: 2.57, 6: 2.45, 7: 2.36, 8: 2.31, 9: 2.26}
# Points of AP that another machine's rounding may move a short run by.
MACHINE_POINTS = 0.5


def collect(
    experiment: Experiment, seeds: Sequence[int], out: Path, facts: dict
) -> dict:
    """Gather what the runs have written so far.

    Metric values are fractions, as the metrics give them. A row or seed that is not
    finished is named in ``missing``.

    Args:
        experiment: The rows.
        seeds: The seeds.
        out: The experiment's folder (``seed_<s>/<row>/...``).
        facts: What else belongs to the record: command, minutes, started, ...

    Returns:
        The content of ``result.json``.
    """
    rows, missing, commits, machine, dirty = [], [], set(), None, False
    for row in experiment.rows:
        runs, evaluate = {}, {}
        for seed in seeds:
            run = read_state(out / f"seed_{seed}" / row.name / "run.json")
            if run:
                names = (
                    "command",
                    "commit",
                    "minutes",
                    "peak_memory_mb",
                    "init_sha256",
                )
                runs[str(seed)] = {name: run.get(name) for name in names}
                runs[str(seed)]["command"] = portable(run.get("command") or "")
                commits.add(run.get("commit"))
                dirty |= bool(run.get("dirty"))
                machine = machine or run.get("machine")
        counted = {
            name: _counted(out, seeds, row.name, *where)
            for name, where in COUNTED.items()
        }
        labels = {row.online: None} if row.online else {}
        for label, config in (labels | row.evaluate).items():
            by_seed, commands, split = {}, {}, None
            for seed in seeds:
                folder = out / f"seed_{seed}" / row.name
                online = label == row.online
                name = "online.json" if online else f"metrics_{label}.json"
                test = read_state(folder / name)
                if not test:
                    missing.append(f"{row.name}, {label}, seed {seed}: not tested yet")
                    continue
                run = runs.setdefault(str(seed), {})
                by_seed[str(seed)] = test["metrics"]
                split = _split(test) or split
                if online:
                    commands[str(seed)] = run.get("command", "")
                    continue
                commands[str(seed)] = portable(test.get("command") or "")
                run["checkpoint_sha256"] = test.get("checkpoint_sha256")
            evaluate[label] = {
                "config": config if isinstance(config, str) else row.config,
                "commands": commands,
                "split": split,
                **_summary(by_seed),
            }
        minutes = [run["minutes"] for run in runs.values() if run.get("minutes")]
        peaks = [run.get("peak_memory_mb") or {} for run in runs.values()]
        memory = [peak.get("gpu", peak.get("host", 0)) for peak in peaks]
        rows.append(
            {
                "name": row.name,
                "title": row.title or row.name,
                "description": row.description,
                "config": row.config,
                "init": row.init,
                "minutes": round(statistics.mean(minutes), 2) if minutes else None,
                "peak_memory_mb": max(memory, default=0) or None,
                "runs": runs,
                "evaluate": evaluate,
            }
        )
        if row.trivial:
            rows[-1]["trivial"] = True
        rows[-1] |= {name: found for name, found in counted.items() if found}
    commits = sorted(commit for commit in commits if commit)
    if len(commits) > 1:
        short = ", ".join(commit[:10] for commit in commits)
        missing.append(f"The runs come from several commits: {short}")
    return {
        "name": experiment.name,
        "config": experiment.config,
        "metric": experiment.metric,
        "percent": experiment.percent,
        "lower_is_better": experiment.lower_is_better,
        "columns": experiment.columns,
        "reported": experiment.reported,
        "seeds": list(seeds),
        **facts,
        "commit": commits[-1] if len(commits) == 1 else None,
        "dirty": dirty,
        "machine": machine,
        "rows": rows,
        "missing": missing,
    }


def _counted(
    out: Path, seeds: Sequence[int], row: str, file: str, numbers: Callable
) -> dict:
    """What the runs of a row counted; empty where none did."""
    files = {seed: read_state(out / f"seed_{seed}" / row / file) for seed in seeds}
    found = {str(seed): numbers(content) for seed, content in files.items() if content}
    return _summary(found) if found else {}


def _summary(by_seed: dict[str, dict]) -> dict:
    return {
        "seeds": by_seed,
        "mean": _over_seeds(by_seed, statistics.mean),
        "std": _over_seeds(by_seed, _spread),
    }


def _split(test: dict) -> dict | None:
    """What was tested: ``images`` and, where known, the annotation ``files``."""
    if "data" in test:
        return test["data"]
    return {"images": test["images"]} if "images" in test else None


def with_rows(recorded: dict, result: dict) -> dict:
    """A record with the rows of a later run added, each saying where it is from.

    For rows that need nothing of the recorded ones, such as trivial rivals. The other
    rows and the record's own facts stay; an added row has ``added``: command, commit,
    machine, started and minutes of its run. One that was added before is replaced.

    Args:
        recorded: The record.
        result: Of the later run, with the same experiment and seeds.

    Raises:
        UserError: Another experiment, metric or seeds, uncommitted changes, something
            not run yet, or a row that the record has from its own run.
    """
    require_same_table(recorded, result)
    if result["dirty"] or not result["commit"] or result["missing"]:
        raise UserError(
            "The new rows are not finished, or not of one clean commit.",
            "Commit, run them again into an empty --out, then add them.",
        )
    keys = ("command", "commit", "machine", "started", "minutes")
    facts = {key: result.get(key) for key in keys}
    rows = {row["name"]: row for row in recorded["rows"]}
    for row in result["rows"]:
        if row["name"] in rows and "added" not in rows[row["name"]]:
            raise UserError(
                f"The record has a row {row['name']} of its own run.",
                "Name other rows with --rows, or record all of them anew.",
            )
        rows[row["name"]] = {**row, "added": facts}
    return {**recorded, "rows": list(rows.values())}


def require_same_table(recorded: dict, result: dict) -> None:
    """Refuse to bring rows of different tables together.

    Args:
        recorded: The record.
        result: What is to be added: its ``name``, ``metric`` and ``seeds``.

    Raises:
        UserError: One of them differs.
    """
    for key in ("name", "metric", "seeds"):
        if recorded[key] != result[key]:
            raise UserError(
                f"The record has {key} {recorded[key]}, the new rows {result[key]}.",
                "Run the rows as the record was made.",
            )


def _over_seeds(by_seed: dict[str, dict], summary) -> dict[str, float]:
    """Summarise each metric that all seeds have; NaN-free by construction of them."""
    values = list(by_seed.values())
    names = [n for n in (values[0] if values else {}) if all(n in v for v in values)]
    numbers = {name: [v[name] for v in values] for name in names}
    return {
        name: round(summary(v), 6)
        for name, v in numbers.items()
        if all(isinstance(x, int | float) for x in v)
    }


def _spread(values: Sequence[float]) -> float:
    return statistics.stdev(values) if len(values) > 1 else 0.0


def percent(result: dict, row: dict, label: str, metric: str) -> str:
    """A cell: mean of a metric, with its spread when there are seeds."""
    part = row["evaluate"].get(label, {})
    mean = part.get("mean", {}).get(metric)
    if mean is None:
        return ""
    scale, digits = scale_of(result, mean)
    if len(part["seeds"]) < 2:
        return f"{scale * mean:.{digits}f}"
    return f"{scale * mean:.{digits}f} ± {scale * part['std'][metric]:.{digits}f}"


def scale_of(result: dict, mean: float = 0.0) -> tuple[float, int]:
    """Factor and decimals of a shown metric: percent, or the plain number."""
    if result.get("percent", True):
        return 100.0, 1
    return 1.0, 2 if abs(mean) >= 10 else 4


def unit(result: dict) -> str:
    """What stands behind the metric's name in a caption."""
    words = " in percent" if result.get("percent", True) else ""
    return words + (", lower is better" if result.get("lower_is_better") else "")


def cells(result: dict) -> tuple[list[str], list[list[str]]]:
    """Head and body of the table, as text."""
    if result.get("columns"):
        head = ["", *result["columns"], "minutes", "MB"]
        parts = result["columns"].values()
        body = [
            [
                row["title"],
                *(percent(result, row, *part) for part in parts),
                *_cost(row),
            ]
            for row in result["rows"]
        ]
        return head, body
    metric = result["metric"]
    labels = list(dict.fromkeys(n for row in result["rows"] for n in row["evaluate"]))
    last = labels[-1]
    sized = [f"{metric}_{size}" for size in SIZES]
    means = [row["evaluate"].get(last, {}).get("mean", {}) for row in result["rows"]]
    any_size = any(name in mean for mean in means for name in sized)
    head = ["", *labels]
    head += [f"{last}: small / medium / large"] if any_size else []
    body = []
    for row, mean in zip(result["rows"], means, strict=True):
        sizes = [f"{100 * mean[name]:.0f}" for name in sized if name in mean]
        line = [row["title"]]
        line += [percent(result, row, label, metric) for label in labels]
        line += [" / ".join(sizes)] if any_size else []
        body.append([*line, *_cost(row)])
    return [*head, "minutes", "MB"], body


def _cost(row: dict) -> list[str]:
    return [f"{row['minutes'] or 0:.1f}", f"{row['peak_memory_mb'] or 0:.0f}"]


def table(result: dict) -> Table:
    """The table for the terminal."""
    head, body = cells(result)
    made = Table(
        title=f"{result['name']}: {result['metric']}{unit(result)}, {_seeds(result)}"
    )
    for number, name in enumerate(head):
        side = "left" if number == 0 else "right"
        made.add_column(name, justify=side, no_wrap=number == 0)
    for line in body:
        made.add_row(*line)
    return made


def markdown(result: dict) -> str:
    """The table for a page, with what is needed to get it again."""
    head, body = cells(result)
    lines = [head, [":--"] + ["--:"] * (len(head) - 1), *body]
    text = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    machine = result.get("machine") or "unknown machine"
    if isinstance(machine, dict):
        parts = [machine.get("processor"), f"{machine.get('cores')} cores"]
        machine = ", ".join([str(part) for part in parts + (machine.get("gpus") or [])])
    commit = (result.get("commit") or "several")[:10]
    dirty = " with uncommitted changes" if result.get("dirty") else ""
    return (
        f"{text}\n\n{result['metric']}{unit(result)} on the "
        f"{_tested(result)}, {_seeds(result)}. "
        f"Reported: {result['reported'] or 'network of the last iteration'}. "
        f"Made by `{result['command']}` at commit {commit}{dirty} on {machine}, "
        f"{result['minutes']:.0f} minutes in all.{_added(result)}"
    )


def _added(result: dict) -> str:
    """Which rows are of a later run."""
    later: dict[str, list[str]] = {}
    for row in result["rows"]:
        if "added" in row:
            commit = (row["added"]["commit"] or "several")[:10]
            later.setdefault(commit, []).append(row["title"])
    return "".join(
        f" Added at commit {commit}: {'; '.join(titles)}."
        for commit, titles in later.items()
    )


def _tested(result: dict) -> str:
    """The split, and how many images, where tests said so (older records do not).

    Of the evaluations that the table shows; others, such as a gate's, are not in it.
    """
    parts = [part for row in result["rows"] for part in row["evaluate"].items()]
    columns = result.get("columns") or {}
    shown = {label for label, _ in columns.values()}
    kept = [part for label, part in parts if not shown or label in shown]
    splits = [part["split"] for part in kept if part.get("split")]
    files = {Path(name).stem for split in splits for name in split.get("files") or ()}
    # the word may stand anywhere: val_foggy, streets_val_base, instances_val2017
    validates = re.compile(r"(^|_)val")
    names = {"val" if validates.search(name) else "test" for name in files} or {"test"}
    if any(title.endswith("(val)") for title in columns):
        names.add("val")  # the curve of a run, which keeps no name of its data
    counts = sorted({split["images"] for split in splits})
    images = f" ({' or '.join(map(str, counts))} images)" if counts else ""
    plural = "s" if len(names) > 1 else ""
    return f"{' and '.join(sorted(names))} split{plural}{images}"


def _seeds(result: dict) -> str:
    numbers = ", ".join(map(str, result["seeds"]))
    if len(result["seeds"]) == 1:
        return f"seed {numbers}"
    return f"mean ± standard deviation over seeds {numbers}"


def markers(name: str) -> tuple[str, str]:
    """The two lines of a page between which a result's table stands."""
    return f"<!-- results:{name} -->", f"<!-- /results:{name} -->"


def update_page(path: Path, result: dict) -> None:
    """Replace what stands between the result's two markers.

    Raises:
        UserError: The markers are not there exactly once, in order.
    """
    before, after = page_around(path, *markers(result["name"]))
    text = f"{before}\n{markdown(result)}\n{after}"
    write_atomic(path, lambda file: file.write(text.encode()))


def compare(result: dict, recorded: dict) -> list[tuple[str, bool, str]]:
    """Whether each row is within the range that the recorded seeds allow.

    The range is the 95 % prediction interval of a mean of as many seeds as were run
    now, widened by half a point for another machine's rounding. One recorded
    seed has no spread: the range is then that half point.

    Returns:
        For each row and evaluation that both have: its name, within or not, a sentence.
        Tests on splits of another size are named, and not compared.
    """
    metric, lines = result["metric"], []
    scale, digits = scale_of(result)
    before = {row["name"]: row for row in recorded["rows"]}
    for row in result["rows"]:
        for label, now in row["evaluate"].items():
            then = before.get(row["name"], {}).get("evaluate", {}).get(label, {})
            if metric not in then.get("mean", {}) or metric not in now["mean"]:
                continue
            name = f"{row['title']} on {label}"
            sizes = [(part.get("split") or {}).get("images") for part in (then, now)]
            if None not in sizes and sizes[0] != sizes[1]:
                sentence = (
                    f"{scale * now['mean'][metric]:.{digits}f} on {sizes[1]} images; "
                    f"recorded on {sizes[0]}, so not compared"
                )
                lines.append((name, True, sentence))
                continue
            seeds = len(then["seeds"])
            factor = T95.get(seeds - 1, 2.0) if seeds > 1 else 0.0
            factor *= (1 / len(now["seeds"]) + 1 / seeds) ** 0.5
            was, got = scale * then["mean"][metric], scale * now["mean"][metric]
            # half a point of a percentage, half a percent of another number
            rounding = MACHINE_POINTS * (1 if scale > 1 else abs(was) / 100)
            reach = scale * then["std"][metric] * factor + rounding
            within = abs(got - was) <= reach
            word = "within" if within else "OUTSIDE"
            sentence = (
                f"{got:.{digits}f}: {word} the recorded range "
                f"{was:.{digits}f} ± {reach:.{digits}f}"
            )
            lines.append((name, within, sentence))
    return lines


def load_result(path: Path) -> dict:
    """Read a recorded result file; see :func:`pld_mmdet.reading.read_json`."""
    return read_json(path, RECORD, "record of a table")
