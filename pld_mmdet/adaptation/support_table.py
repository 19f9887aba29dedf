"""The findings about stock configs in words: lines, a json and the table of a page."""

import dataclasses
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from pld_mmdet.adaptation.support import Finding, choose
from pld_mmdet.engine.state.checkpoint import write_atomic
from pld_mmdet.engine.state.files import write_json
from pld_mmdet.errors import UserError
from pld_mmdet.reading import page_around, read_json

BEGIN = "<!-- table made by: python tools/support.py --docs docs/adapt.md -->"
END = "<!-- end of the table -->"


def select(root: Path, only: Sequence[str], variants: bool = False) -> list[Path]:
    """The configs of a run.

    Args:
        root: Folder of stock configs.
        only: Folders (one config of each kind in it) or configs; empty: all folders.
        variants: Also folders of the same detectors with other backbones.

    Raises:
        UserError: There is no such folder or config.
    """
    if not only:
        return choose(root, variants)
    chosen = []
    for name in only:
        path = root / name
        if path.is_file():
            chosen.append(path)
        elif path.is_dir():
            chosen += [p for p in choose(root, True) if p.parent == path]
        else:
            raise UserError(
                f"{name} is neither a folder nor a config of {root}.",
                "Name one, for example retinanet or yolo/yolov3_d53_8xb8-320-273e_"
                "coco.py.",
            )
    return chosen


def line(found: Finding) -> str:
    """One finding."""
    did = f" ({', '.join(found.methods)})" if found.methods else ""
    words = f": {found.words}" if found.words else ""
    return f"{found.outcome:8} {found.config}{did} {found.seconds:.0f} s{words}"


def summary(findings: Sequence[Finding]) -> str:
    """How many of which outcome."""
    counts = Counter(found.outcome for found in findings)
    return (
        f"{len(findings)} configs: {counts['works']} work, {counts['refused']} are "
        f"refused in a sentence, {counts['failed']} failed."
    )


def table(findings: Sequence[Finding]) -> str:
    """Markdown, a row a config."""
    rows = [
        "| stock config | detector | `lpld` | `mean_teacher` | why not |",
        "|---|---|---|---|---|",
    ]
    for found in findings:
        marks = [
            "yes" if method in found.methods else "no"
            for method in ("lpld", "mean_teacher")
        ]
        words = found.words.replace("|", "\\|")
        if found.outcome == "failed":
            words = f"fails: {words}"
        name = found.config.removesuffix(".py")
        rows.append(
            f"| `{name}` | {found.detector} | {marks[0]} | {marks[1]} | {words} |"
        )
    return "\n".join(rows)


def read_result(path: str | None) -> list[Finding]:
    """The findings of an earlier run, without those that failed."""
    if path is None or not Path(path).is_file():
        return []
    schema = dict(findings=[dict(config=str, outcome=str, methods=[str])])
    rows = read_json(path, schema, "list of findings")["findings"]
    fields = {field.name for field in dataclasses.fields(Finding)}
    known = [Finding(**{k: row[k] for k in fields & row.keys()}) for row in rows]
    return [found for found in known if found.outcome != "failed"]


def write_result(findings: Sequence[Finding], path: Path) -> None:
    """All findings as json."""
    write_json(path, dict(findings=[dataclasses.asdict(found) for found in findings]))


def write_docs(findings: Sequence[Finding], path: Path) -> None:
    """Put summary and table between the two marks of a page.

    Raises:
        UserError: The page has no marks.
    """
    before, after = page_around(path, BEGIN, END)
    text = f"{before}\n\n{summary(findings)}\n\n{table(findings)}\n\n{after}"
    write_atomic(path, lambda file: file.write(text.encode()))
