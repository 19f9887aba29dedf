"""The generation is killed or interrupted: what is left, and how it goes on."""

import importlib.util
import json
import os
import signal
import sys
import time
from pathlib import Path

import cv2

from pld_mmdet.cli import run_tool
from pld_mmdet.detection.data import files
from pld_mmdet.detection.generators.foggy_streets import generate as module
from pld_mmdet.detection.generators.foggy_streets.generate import (
    frame_files,
    generate,
)

ROOT = Path(__file__).resolve().parents[3]


SMALL = (96, 48)


def contents(root: Path) -> dict[str, bytes]:
    """Every file below a folder."""
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


def start(root: Path, train: int, complaints: Path) -> int:
    """``tools/prepare.py foggy_streets`` in a forked process group of its own.

    A fork, as importing the stack takes longer than all else here.
    """
    spec = importlib.util.spec_from_file_location("prepare", ROOT / "tools/prepare.py")
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    options = ["--root", str(root), "--size", "96x48", "--workers", "2"]
    options += ["--train", str(train), "--val", "0", "--test", "0"]
    child = os.fork()
    if child:
        return child
    os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with complaints.open("w") as sys.stderr:
        code = 99
        try:
            run_tool(
                lambda: tool.main(["foggy_streets", *options]),
                resumable=lambda: "The same command goes on from here.",
            )
        except SystemExit as end:
            code = end.code
        finally:
            sys.stderr.flush()
            os._exit(code)


def wait_for_frames(root: Path, number: int) -> None:
    """Wait until a few images are complete."""
    deadline = time.monotonic() + 180
    while len(list(root.glob("gtFine/train/*/*.json"))) < number:
        assert time.monotonic() < deadline, "nothing is drawn"
        time.sleep(0.01)


def wait_for_end(process: int) -> int:
    """Wait for a child; its exit code, or minus the signal that ended it."""
    deadline = time.monotonic() + 60
    try:
        while (ended := os.waitpid(process, os.WNOHANG))[0] == 0:
            assert time.monotonic() < deadline, "it does not end"
            time.sleep(0.01)
    except AssertionError:
        os.killpg(process, signal.SIGKILL)
        raise
    return os.waitstatus_to_exitcode(ended[1])


def wait_for_group(group: int) -> None:
    """Wait until no process of a group is left."""
    deadline = time.monotonic() + 60
    while True:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return
        assert time.monotonic() < deadline, "workers outlive their parent"
        time.sleep(0.05)


def test_a_killed_generation_goes_on(tmp_path):
    root = tmp_path / "killed"
    process = start(root, 600, tmp_path / "log")
    wait_for_frames(root, 6)
    os.kill(process, signal.SIGKILL)
    assert wait_for_end(process) == -signal.SIGKILL
    # Its workers notice and end by themselves.
    wait_for_group(process)
    pictures = list(root.rglob("*.png"))
    assert pictures
    for path in pictures:
        assert cv2.imread(str(path), cv2.IMREAD_UNCHANGED) is not None, path
    (root / f"gtFine/train/ahlmoor/x.png.1{files.TEMPORARY}").write_bytes(b"half")
    done = len(list(root.glob("gtFine/train/*/*.json")))
    assert done < 600
    # Going on is the same call; fewer images here, for time.
    record = json.loads((root / module.RECORD).read_text())
    assert record["train"]["images"] == 600
    kept = {
        name: content
        for name, content in contents(root / "leftImg8bit").items()
        if not name.endswith(files.TEMPORARY)  # what a writer was at when it was killed
    }
    record["train"]["images"] = 12
    (root / module.RECORD).write_text(json.dumps(record))
    generate(root, {"train": 12}, SMALL)
    generate(tmp_path / "clean", {"train": 12}, SMALL)
    now, clean = contents(root), contents(tmp_path / "clean")
    for index in range(12):
        for name in frame_files("train", index):
            assert now[name] == clean[name], name
    for name, content in kept.items():
        assert now[f"leftImg8bit/{name}"] == content
    assert not list(root.rglob(f"*{files.TEMPORARY}"))


def test_ctrl_c_ends_at_once_and_says_how_to_go_on(tmp_path):
    root, log = tmp_path / "data", tmp_path / "log"
    process = start(root, 3000, log)
    wait_for_frames(root, 3)
    os.killpg(process, signal.SIGINT)
    assert wait_for_end(process) == 130
    wait_for_group(process)
    assert "goes on from here" in log.read_text()
    assert "Traceback" not in log.read_text()
