"""A run that is still going, read from the files of its work dir, and put into words.

Nothing here imports torch or an mm* library, so that the page starts in a moment and
its process stays small.
"""

import json
import time
from dataclasses import dataclass, field
from pathlib import Path

from pld_mmdet.reading import read_json_lines, read_text
from pld_mmdet.report.curves import Series, read_scalars
from pld_mmdet.waiting import duration

QUIET = 120.0  # seconds without a new progress.json that are worth a sentence
LARGEST = 32 * 2**20  # bytes of a file that this page reads
RUNNING = ("starting", "train", "val")


@dataclass
class LiveRun:
    """What the work dir says now; everything may be missing.

    Attributes:
        folder: The work dir.
        now: When it was read (seconds since the epoch).
        progress: progress.json: iteration, time left, stage.
        record: run.json: command, minutes, how it ended.
        guard: guard.json of the collapse guard.
        examples: examples.json: a few images with the teacher's boxes.
        scores: Lines of scores.jsonl, one an evaluation.
        scalars: Name -> series, from mmengine's scalars.json.
        problems: What could not be read, in words.
    """

    folder: Path
    now: float
    progress: dict = field(default_factory=dict)
    record: dict = field(default_factory=dict)
    guard: dict = field(default_factory=dict)
    examples: dict = field(default_factory=dict)
    scores: list[dict] = field(default_factory=list)
    scalars: dict[str, Series] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


def read_run(folder: str | Path, now: float | None = None) -> LiveRun:
    """Read the work dir; a file that is not there (yet) is no problem.

    Args:
        folder: Work dir of adapt.py or train.py.
        now: Instead of the clock.
    """
    run = LiveRun(Path(folder), time.time() if now is None else now)
    for name in ("progress", "run", "guard", "examples"):
        try:
            content = _json(run.folder / f"{name}.json")
        except Exception as error:  # whatever it is, the rest of the page stays
            run.problems.append(f"{name}.json: {_what(error)}")
            continue
        setattr(run, "record" if name == "run" else name, content)
    for name, read in (("scores", _scores), ("scalars", read_scalars)):
        try:
            setattr(run, name, read(run.folder))
        except Exception as error:
            run.problems.append(f"{name}: {_what(error)}")
    return run


def _json(path: Path) -> dict:
    try:
        text = read_text(path, LARGEST)
    except FileNotFoundError:
        return {}
    content = json.loads(text)
    if not isinstance(content, dict):
        raise ValueError("not a json object")
    return content


def _scores(folder: Path) -> list[dict]:
    rows = read_json_lines(folder / "scores.jsonl", {"iter": int})
    return [row for _, row in sorted({row["iter"]: row for row in rows}.items())]


def _what(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


def headline(run: LiveRun) -> str:
    """Where the run is, in one line."""
    stage = run.progress.get("stage")
    if run.guard.get("state") == "stopped":
        return "Self-training collapsed; the last good weights were kept"
    if stage is None:
        return "Waiting for the first iteration"
    at, of = run.progress.get("iter", 0), run.progress.get("max_iters", 0)
    if stage == "done":
        return f"Finished after {at} iterations"
    if stage == "interrupted":
        return f"Interrupted at iteration {at} of {of}"
    if stage == "failed":
        return f"Failed at iteration {at} of {of}"
    text = f"Iteration {at} of {of}"
    left = seconds_left(run)
    return text if left is None or at >= of else f"{text}, about {duration(left)} left"


def seconds_left(run: LiveRun) -> float | None:
    """The run's own estimate, less what has passed since it was written."""
    eta, written = run.progress.get("eta_seconds"), run.progress.get("time")
    if eta is None or written is None:
        return None
    return max(0.0, eta - (run.now - written))


def remarks(run: LiveRun) -> list[str]:
    """What one has to know beside the headline, in sentences."""
    stage, lines = run.progress.get("stage"), []
    if stage is None:
        lines.append(
            "There is no progress.json yet: images are being checked, the detector is "
            "being built and scored."
        )
    elif stage in RUNNING:
        quiet = run.now - run.progress.get("time", run.now)
        if quiet > QUIET:
            lines.append(
                f"No sign of life for {duration(quiet)}: one very long step, or the "
                "process was killed. --resume goes on from the newest checkpoint."
            )
        elif stage == "val":
            lines.append("It is evaluating.")
    ended = str(run.record.get("exit", ""))
    if stage == "failed" and ended:
        lines.append(f"It {ended}. --resume goes on from the newest checkpoint.")
    if stage == "interrupted":
        lines.append("--resume goes on from the newest checkpoint.")
    if stage == "done" and (run.folder / "report.html").is_file():
        lines.append(f"The report is {run.folder / 'report.html'}.")
    return lines


def guard_sentences(guard: dict) -> list[str]:
    """The collapse guard's state in words."""
    windows = guard.get("windows") or []
    if not windows:
        return [
            "No window has been judged: either the first one is not over, or the run "
            "has no collapse guard."
        ]
    last, state = windows[-1], guard.get("state")
    if state == "stopped":
        return [f"Stopped: {guard['events'][-1]['what']}."]
    lines = []
    if last.get("signs"):
        then = {
            "stop": "If this goes on, it puts the last good weights back and stops.",
            "rollback": "If this goes on, it goes back to the last good weights.",
        }.get(guard.get("action"), "It only warns.")
        lines.append(
            f"Alarm at iteration {last['iter']}: {'; '.join(last['signs'])}. {then}"
        )
    else:
        lines.append(
            f"Sound at iteration {last['iter']}, after {len(windows)} "
            f"window{'s' if len(windows) > 1 else ''}."
        )
    lines.append(_against_first(windows[0], last))
    if guard.get("rollbacks"):
        lines.append(f"It has gone back to earlier weights {guard['rollbacks']} times.")
    if last.get("silent"):
        lines.append(f"Without any pseudo label now: {', '.join(last['silent'])}.")
    return lines


def guard_events(guard: dict) -> list[str]:
    """What the collapse guard said, one sentence an event."""
    events = guard.get("events") or []
    return [f"Iteration {event['iter']}: {event['what']}." for event in events]


def _against_first(first: dict, last: dict) -> str:
    parts = [
        f"{name} {last[key]:.2f} (first window {first.get(key, last[key]):.2f})"
        for key, name in (
            ("boxes", "pseudo boxes an image"),
            ("score", "mean score"),
            ("agreement", "agreement of teacher and student"),
        )
        if key in last
    ]
    if "distance" in last:
        parts.append(f"distance from the source weights {last['distance']:.3f}")
    return f"Now: {', '.join(parts)}."
