"""What README.md and docs/ tell people to type is understood; what they name is there.

Executed as they stand are the commands of docs/adapt.md (tests/adaptation/test_docs.py)
and the small experiments of all methods (tests/test_methods.py).
"""

import argparse
import re
import runpy
import sys
from functools import cache
from pathlib import Path

import pytest
from mmengine.config import Config

from pld_mmdet.cli import ToolParser, default_work_dir
from tests.docs.commands import PAGES, ROOT, commands

ALL = [command for page in PAGES for command in commands(page)]
TEXTS = {page.name: page.read_text(encoding="utf-8") for page in PAGES}
# Scripts that start a tool on several processes: which tool, and which of their
# arguments are no arguments of it.
LAUNCHERS = {
    "tools/dist_train.sh": ("tools/train.py", (1,)),
    "tools/dist_test.sh": ("tools/test.py", (2,)),
    "tools/slurm_train.sh": ("tools/train.py", (0, 1)),
}
# Files of the releases that pages compare with.
THEIRS = {
    "tools/train_main.py",
    "configs/r101_c4_cs_foggy_adaptive_teacher_source_free.yaml",
}


class Understood(BaseException):
    """Ends a tool as soon as its command line has been read."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.arguments = arguments


@pytest.fixture
def parsed(monkeypatch, capsys):
    """Reads a command line with the tool's own parser; nothing else of it is run."""
    whole = {kind: kind.parse_args for kind in (argparse.ArgumentParser, ToolParser)}

    def stopped(parse):
        def stop(self, args=None, namespace=None):
            raise Understood(parse(self, args, namespace))

        return stop

    def read(tool: str, words: tuple[str, ...]) -> argparse.Namespace:
        for kind, parse in whole.items():
            monkeypatch.setattr(kind, "parse_args", stopped(parse))
        monkeypatch.setattr(sys, "argv", [tool, *words])
        try:
            runpy.run_path(str(ROOT / tool), run_name="__main__")
        except Understood as understood:
            return understood.arguments
        except SystemExit:
            pytest.fail(capsys.readouterr().err)
        pytest.fail(f"{tool} reads no command line")

    return read


def test_pages_have_commands():
    pages = {command.page for command in ALL}
    assert {"README.md", "adapt.md", "benchmarks.md", "segmentation.md"} <= pages
    assert len(ALL) > 80


@pytest.mark.parametrize("tool", sorted({command.tool for command in ALL}))
def test_commands_are_understood(tool, parsed):
    for command in [c for c in ALL if c.tool == tool]:
        words = command.words
        if tool in LAUNCHERS:
            python, own = LAUNCHERS[tool]
            words = [word for n, word in enumerate(words) if n not in own]
            for n in own:
                assert re.fullmatch(r"\d+|[A-Z_]+", command.words[n]), command
            parsed(python, tuple(words))
        elif tool.endswith(".py"):
            parsed(tool, words)
        else:  # those read their options themselves
            script = (ROOT / tool).read_text(encoding="utf-8")
            for option in [w for w in words if w.startswith("--")]:
                assert f"{option})" in script, command


@cache
def config(path: str) -> Config:
    return Config.fromfile(ROOT / path)


@pytest.mark.parametrize("page", sorted(TEXTS))
def test_configs_exist_and_load(page):
    named = set(re.findall(r"\bconfigs/[\w/]+\.py\b", TEXTS[page]))
    for path in sorted(path for path in named if "STEM" not in path):
        assert "model" in config(path) or "/_base_/" in path, path


PLACES = (ROOT, ROOT / "pld_mmdet", ROOT / "docs", ROOT / "tests")
# First words of paths that are ours; data and runs of a user are not.
ROOMS = {
    folder.name for place in PLACES for folder in place.iterdir() if folder.is_dir()
} - {"data", "work_dirs", "weights"}


def lost_names(text: str, folder: Path) -> list[str]:
    """What a page links to or names between backticks and is not there.

    Args:
        text: The page.
        folder: Where it lies.

    Returns:
        Links; paths, which may leave out the package or ``docs/``; tests that their
        file does not hold, as ``path::name``.
    """
    links = re.findall(r"\]\((?!http)([^)#\s]+)", text)
    lost = [link for link in links if not (folder / link).exists()]
    words = {word for code in re.findall(r"`([^`\n]+)`", text) for word in code.split()}
    for word in sorted(word.rstrip(",:;).") for word in words):
        path, _, test = word.partition("::")
        room, slash, _ = path.partition("/")
        if not slash or room not in ROOMS or re.search(r"[<>{}$]|STEM|FAMILY", path):
            continue
        found = [match for place in PLACES for match in place.glob(path)]
        name = rf"^ *def {test.rpartition('::')[2].partition('[')[0]}\("
        if not found and path not in THEIRS:
            lost.append(path)
        elif test and not re.search(name, found[0].read_text("utf-8"), re.MULTILINE):
            lost.append(word)
    return lost


@pytest.mark.parametrize("page", sorted(TEXTS))
def test_named_files_exist(page):
    folder = ROOT if (ROOT / page).is_file() else ROOT / "docs"
    assert lost_names(TEXTS[page], folder) == []


def test_a_name_that_moved_is_found():
    text = """
    `engine/run/method.py`, `engine/method.py`, `pld_mmdet/distill/`, `distil/ema.py`;
    `tests/docs/test_commands.py::test_a_name_that_moved_is_found`, `test/images/`,
    `tests/docs/test_commands.py::test_of_old`, `configs/*/toy.py`, `configs/STEM/a.py`,
    [here](docs/design.md#rooms), [there](docs/rooms.md), `data/mine/x.png`.
    """
    assert lost_names(text, ROOT) == [
        "docs/rooms.md",
        "engine/method.py",
        "tests/docs/test_commands.py::test_of_old",
    ]


def last_checkpoint(cfg: Config) -> set[str]:
    """What the newest checkpoint of a training is called."""
    loop = cfg.train_cfg
    names = {"last.pth"}
    iterations = loop.get("max_iters") or sum(
        stage.max_iters for stage in loop.get("stages", [])
    )
    if iterations:
        names.add(f"iter_{iterations}.pth")
    if "max_epochs" in loop:
        names.add(f"epoch_{loop.max_epochs}.pth")
    return names


def test_checkpoints_are_where_the_training_before_puts_them():
    """``work_dirs/<method>/<setting>/`` of a config that the page trains."""
    checked = 0
    for page in sorted(TEXTS):
        trained: dict[str, Config] = {}
        for command in [c for c in ALL if c.page == page]:
            if command.tool in ("tools/train.py", "tools/dist_train.sh"):
                path = command.words[0]
                if "configs/" in path:
                    cfg = config(path)
                    trained[cfg.get("work_dir") or default_work_dir(path)] = cfg
            elif command.tool in ("tools/test.py", "tools/export.py"):
                for word in command.words:
                    folder, _, name = word.rpartition("/")
                    if folder.startswith("work_dirs/"):
                        assert folder in trained, command
                        assert name in last_checkpoint(trained[folder]), command
                        checked += 1
    assert checked > 5


def test_the_page_of_tools_has_every_tool():
    table = TEXTS["tools.md"]
    tools = {f"tools/{path.name}" for path in (ROOT / "tools").glob("[a-z]*.py")}
    once = {"make_clip_candidates", "make_fewshot", "make_ov_coco"}  # of one method
    tools -= {f"tools/{name}.py" for name in once}
    assert sorted(tool for tool in tools if f"`{tool}" not in table) == []
