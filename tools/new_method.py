#!/usr/bin/env python
"""Write the files of a new method, green in lint and in tests, ready to be filled in.

It makes pld_mmdet/FAMILY/STEM.py (a working baseline: a student that learns from the
answers of a teacher; in detection a Mean Teacher with a step of its own in the
labeller), configs/STEM/toy.py and paper.py, tests/FAMILY/test_STEM.py, its place in the
docs, the import in the family's package, and the mark `in work` in the method's line of
pld_mmdet/methods.csv, which it adds if there is none. Outside detection also
configs/STEM/plain.py and the plain loop tests/FAMILY/plain_STEM.py.

Example:
    python tools/new_method.py classification ferkd
    python tools/new_method.py detection my_teacher --title "My Teacher" --year 2026
"""

import argparse
import csv
import keyword
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tools")]

from _scaffolds import DETECTION, DOCS, TEACHER_NET  # noqa: E402

from pld_mmdet.catalogue import entries  # noqa: E402
from pld_mmdet.cli import ToolParser, run_tool  # noqa: E402
from pld_mmdet.errors import UserError  # noqa: E402

STATE = "in work"  # until there is a result row


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = ToolParser(__doc__)
    parser.add_argument("family", help="a folder of pld_mmdet, e.g. classification")
    parser.add_argument("stem", help="name of the files, lower_snake_case")
    parser.add_argument("--title", help="name in the paper [of the catalogue]")
    parser.add_argument("--year", help="of the paper [of the catalogue]")
    parser.add_argument("--root", type=Path, default=ROOT, help=argparse.SUPPRESS)
    return parser.parse_args()


def write(family: str, stem: str, title: str, year: str, root: Path) -> list[Path]:
    """Make the files of a method.

    Returns:
        What was written or changed.

    Raises:
        UserError: A name that does not fit, or files that are already there.
    """
    known = {entry.stem: entry for entry in entries()}
    families = sorted({entry.family for entry in known.values()})
    if family not in families:
        raise UserError(
            f"There is no family {family!r}.", f"Choose one of {', '.join(families)}."
        )
    if not re.fullmatch(r"[a-z][a-z0-9_]*", stem) or keyword.iskeyword(stem):
        raise UserError(
            f"{stem!r} is no stem.", "Use lower_snake_case, e.g. ps_kd for PS-KD."
        )
    if stem in known and known[stem].family != family:
        raise UserError(
            f"{stem} belongs to {known[stem].family}.",
            f"python tools/new_method.py {known[stem].family} {stem}",
        )
    words = {
        "stem": stem,
        "title": title or (known[stem].title if stem in known else stem),
        "year": year or (known[stem].year if stem in known else ""),
        "name": "".join(part.capitalize() for part in stem.split("_")),
    }
    if not words["year"]:
        raise UserError(f"{stem} is not in the catalogue.", "Add --title and --year.")
    if set(words["title"]) & set('"\\\n'):
        raise UserError(
            f"The title {words['title']!r} has quotes, backslashes or lines.",
            "Write it without them; it goes into docstrings and configs.",
        )
    detects = family == "detection"
    texts = {
        path.format(family=family, stem=stem): text
        for path, text in (DETECTION if detects else TEACHER_NET).items()
    }
    there = [path for path in texts if (root / path).exists()]
    if there:
        raise UserError(
            f"{', '.join(there)} exists already.", "Choose another stem, or move it."
        )
    for path, text in texts.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text.format(**words), encoding="utf-8")
    (root / f"tests/{family}/__init__.py").touch()
    package = root / f"pld_mmdet/{family}/__init__.py"
    table = root / "pld_mmdet/methods.csv"
    changed = [*(root / path for path in texts), package, table]
    if not detects:
        changed.append(_add_section(root / f"docs/{family}.md", family, words))
    names = {words["name"], *([f"{words['name']}Select"] if detects else [])}
    _add_import(package, f"pld_mmdet.{family}.{stem}", sorted(names))
    _mark(table, family, words | ({"docs": stem} if detects else {}))
    _tidy(changed)
    page = root / "tools/list_methods.py"
    if page.is_file():  # the table of docs/methods.md
        _run([sys.executable, str(page), "--page"], "Mend what it says.")
    return changed


def _mark(table: Path, family: str, words: dict) -> None:
    """Say in methods.csv that the method is begun; a new one gets a line."""
    with open(table, encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        lines, columns = list(reader), reader.fieldnames
    line = next((one for one in lines if one["stem"] == words["stem"]), None)
    if line is None:
        line = dict.fromkeys(columns, "")
        line |= {key: words[key] for key in ("stem", "title", "year")}
        line |= {"family": family, "paper": words["title"]}
        lines.append(line)
    line |= {"state": STATE, "docs": words.get("docs", line["docs"])}
    with open(table, "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(lines)


def _add_section(docs: Path, family: str, words: dict) -> Path:
    """A section at the end of the family's page, which is made if there is none."""
    if not docs.exists():
        docs.write_text(f"# {family.replace('_', ' ').capitalize()}\n", "utf-8")
    with open(docs, "a", encoding="utf-8") as file:
        file.write(DOCS.format(**words))
    return docs


def _add_import(package: Path, module: str, names: list[str]) -> None:
    """Name the classes in the family's package; ruff puts them into their places."""
    text = package.read_text(encoding="utf-8")
    line = f"from {module} import {', '.join(names)}\n"
    listed = ", ".join(f'"{name}"' for name in names)
    if "__all__ = [" in text:
        text = text.replace("__all__ = [", f"{line}\n__all__ = [{listed}, ", 1)
    else:
        text += f"\n{line}\n__all__ = [{listed}]\n"
    package.write_text(text, encoding="utf-8")


def _tidy(paths: list[Path]) -> None:
    """Sort imports and format, so that the linters are content from the start."""
    ruff = [sys.executable, "-m", "ruff"]
    files = [str(path) for path in paths if path.suffix == ".py"]
    fix = "Without ruff: pip install 'pld-mmdet[dev]'. Else do what it says."
    for command in (["check", "--fix", "--quiet"], ["format", "--quiet"]):
        _run([*ruff, *command, *files], fix)


def _run(command: list[str], fix: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        said = (done.stdout + done.stderr).strip()
        raise UserError(f"{' '.join(command[:4])} is not content: {said}", fix)


def main(args: argparse.Namespace) -> None:
    """Write and say what to do next."""
    stem = args.stem
    for path in write(args.family, stem, args.title or "", args.year or "", args.root):
        print(path.relative_to(args.root))
    print(
        f"\nNow: the method, its paper's numbers in the test, then\n"
        f"  bash tools/test.sh -k {stem}\n"
        f"  python tools/reproduce.py configs/{stem}/toy.py --seeds 0 1 2 "
        f"--result docs/results/{stem}.json --overwrite"
    )


if __name__ == "__main__":
    run_tool(main, parse_args, stack=False)
