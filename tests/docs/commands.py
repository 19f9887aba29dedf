"""Finds the commands that README.md and docs/*.md show."""

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")]

_FENCE = re.compile(r"^ *```(\w*)\n(.*?)^ *```", re.MULTILINE | re.DOTALL)
_INDENTED = re.compile(r"(?:^ {4,}\S.*\n)+", re.MULTILINE)
_INLINE = re.compile(r"`((?:python |bash )?tools/\w+\.(?:py|sh) [^`]+)`")
_TOOL = re.compile(r"^(?:[A-Z_]+=\S* )*(?:(?:python|bash) )?(tools/\w+\.(?:py|sh))\b")


@dataclass(frozen=True)
class Command:
    """One command line.

    Attributes:
        page: File that shows it.
        line: As it stands there, in one line and without its comment.
        tool: ``tools/...``.
        words: Its arguments; optional ones count as given, of alternatives the first.
    """

    page: str
    line: str
    tool: str
    words: tuple[str, ...]


def commands(page: Path) -> list[Command]:
    """All commands of a page that call a tool: in blocks and between backticks."""
    text = page.read_text(encoding="utf-8")
    blocks = [body for language, body in _FENCE.findall(text) if language == "bash"]
    rest = _FENCE.sub("", text)
    # A record's command is that of its commit, as the caption of the table says.
    rest = re.sub(r"Made by `[^`]+` at commit", "", rest)
    blocks += _INDENTED.findall(rest)
    lines = [
        line.strip()
        for block in blocks
        for line in block.replace("\\\n", " ").splitlines()
    ]
    lines += _INLINE.findall(rest)
    found = []
    for line in lines:
        line = re.sub(r"\s+#\s.*", "", line)
        tool = _TOOL.match(line)
        if tool:
            words = _words(line[tool.end() :])
            found.append(Command(page.name, line, tool.group(1), words))
    return found


def _words(text: str) -> tuple[str, ...]:
    """The arguments of a command in the notation of a manual."""
    text = re.sub(r"\[(--[^\]]*)\]", r"\1", text)  # an option that may be left out
    text = re.sub(r"\|[\w|]+", "", text)  # or another value
    text = text.replace(" ...", "")  # or more of them
    return tuple(shlex.split(text))
