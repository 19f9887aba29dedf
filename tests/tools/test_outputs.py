"""What a tool writes never falls on what somebody needs: every tool, every target."""

import os

import pytest
import torch

from pld_mmdet.engine.state.files import may_write, write_atomic
from pld_mmdet.errors import UserError
from tests.tools.test_bad_input import sentence

# A tool's command line around the file it writes, {x}; the rest exists.
WRITES = {
    "export": "export {w} {x}",
    "convert_detectron2": "convert_detectron2 {w} {c} {x}",
    "fewshot": "make_fewshot extend {w} {x} --classes {j}",
    "test": "test {c} {w} --out-metrics {x}",
    "report": "report {run} --out {x}",
    "reproduce": "reproduce {c} --result {x}",
    "score_checkpoints": "score_checkpoints {run} --out {x}",
    "measure": "measure_pseudo_labels {c} {w} --out {x}",
    "clip text": "make_clip_candidates text --clip c --ann {j} --out {x}",
    "benchmark": "benchmark ema --json {x}",
    "support": "support --result {x}",
    "support page": "support --docs {x}",
}
RENEWED = ("benchmark", "support", "support page")
TARGETS = {
    "a checkpoint of a run": "run/iter_9.pth",
    "the next checkpoint of a run": "run/iter_99.pth",
    "the config of a run": "run/config.py",
    "the record of a run": "run/run.json",
    "its last checkpoint": "run/last_checkpoint",
    "its lock": "run/.lock",
    "its log": "run/x.log",
    "a device": "/dev/null",
    "a pipe": "pipe",
    "a link": "link",
    "a link that leads nowhere": "loose",
    "a folder": "run",
    "below a file": "mine.txt/x.json",
    "a file": "mine.txt",
}


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = tmp_path / "run"
    run.mkdir()
    for name in ("iter_9.pth", "config.py", "run.json", "last_checkpoint", "x.log"):
        (run / name).write_text(f"the run's {name}")
    (run / ".lock").touch()
    (tmp_path / "mine.txt").write_text("mine")
    (tmp_path / "link").symlink_to("mine.txt")
    (tmp_path / "loose").symlink_to("/nowhere/else")
    os.mkfifo(tmp_path / "pipe")
    torch.save({"a": torch.ones(1)}, tmp_path / "w.pth")
    (tmp_path / "c.py").write_text("a = 1\n")
    (tmp_path / "j.json").write_text("{}")
    return tmp_path


def contents(folder):
    """What is there: bytes of files, kinds of the rest."""
    return {
        path: path.read_bytes() if path.is_file() else path.lstat().st_mode
        for path in sorted(folder.rglob("*"))
    } | {path: os.readlink(path) for path in folder.iterdir() if path.is_symlink()}


TRIES = [
    (tool, target)
    for tool in WRITES
    for target in TARGETS
    if target != "a file" or tool not in RENEWED  # which keep what it holds
]


@pytest.mark.parametrize(("tool", "target"), TRIES)
def test_no_tool_takes_it(place, capsys, tool, target):
    names = dict(w="w.pth", c="c.py", j="j.json", run="run", x=TARGETS[target])
    name, *words = WRITES[tool].format(**names).split()
    before = contents(place)
    sentence(capsys, name, *words)
    if target != "a file":
        sentence(capsys, name, *words, *([] if tool in RENEWED else ["--overwrite"]))
    assert contents(place) == before


@pytest.mark.parametrize("tool", [name for name in WRITES if name not in RENEWED])
def test_no_tool_takes_its_own_inputs(place, capsys, tool):
    os.link("w.pth", "other_name.pth")
    for read, also in (("w", "other_name.pth"), ("c", "c.py"), ("j", "j.json")):
        if f"{{{read}}}" not in WRITES[tool]:
            continue
        names = dict(w="w.pth", c="c.py", j="j.json", run="run", x=also)
        name, *words = WRITES[tool].format(**names).split()
        before = contents(place)
        assert "also read" in sentence(capsys, name, *words, "--overwrite")
        assert contents(place) == before


def test_a_new_file_and_one_that_may_be_replaced(place):
    may_write(place / "new.json", ["w.pth"])
    may_write(place / "mine.txt", ["w.pth"], overwrite=True)
    may_write(place / "run" / "detector.pth")
    may_write(place / "iter_9.pth")  # no run is here
    with pytest.raises(UserError, match="exists"):
        may_write(place / "mine.txt")


def test_whoever_writes_no_device_becomes_a_file(place):
    with pytest.raises(UserError, match="a device"):
        write_atomic("/dev/null", lambda file: file.write(b"x"))
    with pytest.raises(UserError, match="a pipe"):
        write_atomic(place / "pipe", lambda file: file.write(b"x"))


def test_a_failed_replacement_keeps_the_old_file(place):
    def fails(file):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    with pytest.raises(UserError, match="untouched"):
        write_atomic(place / "mine.txt", fails)
    assert (place / "mine.txt").read_text() == "mine"
    assert [p.name for p in place.iterdir() if p.suffix == ".tmp"] == []
