"""Ends from outside: one sentence, the last checkpoint whole, the rest exact."""

import contextlib
import errno
import json
import os
import resource
import shutil
import signal
import subprocess
from pathlib import Path

import pytest
import torch

from pld_mmdet.engine.run.endings import explained
from pld_mmdet.engine.state.newest import find_latest, whole_or_before
from pld_mmdet.errors import UserError
from tests.engine.processes import Tool
from tests.engine.run.test_distributed import launch
from tests.engine.state.test_resume import differences
from tests.engine.toy import write_config


def told(output: str) -> str:
    """The one sentence of an ending, which has two lines and no trace."""
    assert "Traceback" not in output
    assert output.count("error: ") == 1, output
    return output[output.index("error: ") :]


def same_as_unbroken(tmp_path, config, work) -> None:
    log = tmp_path / "whole.log"
    Tool("train", config, "--work-dir", tmp_path / "whole", log=log).finish()
    a, b = (
        torch.load(folder / "iter_12.pth", weights_only=True)
        for folder in (tmp_path / "whole", work)
    )
    assert differences(a, b) == []


def test_a_deleted_lock_stops_the_run_that_held_it(tmp_path):
    config, work = write_config(tmp_path), tmp_path / "run"
    arguments = ["train", config, "--work-dir", work]
    first = Tool(*arguments, log=tmp_path / "1", TOY_PAUSE=8)
    first.wait_for(work / "paused")
    (work / ".lock").unlink()
    Tool(*arguments, "--resume", log=tmp_path / "2").finish()
    after = {p.name: p.read_bytes() for p in work.glob("*.*") if p.is_file()}
    (tmp_path / "go").touch()
    said = told(first.finish(2))
    assert f"{work}/.lock was deleted or replaced while this run held it" in said
    assert {n: (work / n).read_bytes() for n in after} == after
    same_as_unbroken(tmp_path, config, work)


@pytest.mark.parametrize("moved", [False, True])
def test_a_work_dir_that_goes_away_is_not_made_again(tmp_path, moved):
    config, work = write_config(tmp_path), tmp_path / "run"
    run = Tool("train", config, "--work-dir", work, log=tmp_path / "1", TOY_PAUSE=8)
    run.wait_for(work / "paused")
    work.rename(tmp_path / "elsewhere") if moved else shutil.rmtree(work)
    (tmp_path / "go").touch()
    said = told(run.finish(2))
    assert f"The folder {work} was deleted or moved while this run worked" in said
    assert not work.exists()
    if moved:
        work = tmp_path / "elsewhere"
        arguments = ["train", config, "--work-dir", work, "--resume"]
        Tool(*arguments, log=tmp_path / "2").finish()
        same_as_unbroken(tmp_path, config, work)


def test_a_torn_newest_checkpoint_gives_way_to_the_one_before(tmp_path):
    config, work, log = write_config(tmp_path), tmp_path / "run", tmp_path / "log"
    run = ["train", config, "--work-dir", work]
    Tool(*run, log=log).finish()
    newest = work / "iter_12.pth"
    newest.write_bytes(newest.read_bytes()[:-2000])
    said = Tool(*run, "--resume", log=log).finish()
    assert f"{newest} cannot be read as a checkpoint" in said
    assert f"goes on from the one before, {work}/iter_6.pth" in said
    same_as_unbroken(tmp_path, config, work)


def test_which_checkpoint_gives_way(tmp_path):
    for number, content in ((3, {"a": 1}), (9, {"b": 2}), (27, {"c": 3})):
        torch.save(content, tmp_path / f"iter_{number}.pth")
    said = []
    newest = find_latest(tmp_path)
    assert whole_or_before(newest, tmp_path, said.append) == newest
    raw = bytearray((tmp_path / "iter_27.pth").read_bytes())
    raw[raw.index(b"c", 60)] ^= 7  # only its checksum tells
    (tmp_path / "iter_27.pth").write_bytes(raw)
    (tmp_path / "iter_9.pth").write_bytes(b"")
    assert said == []
    before = whole_or_before(newest, tmp_path, said.append)
    assert before == str(tmp_path / "iter_3.pth")
    assert len(said) == 1
    older = str(tmp_path / "iter_9.pth")  # somebody's choice
    assert whole_or_before(older, tmp_path, said.append) == older
    (tmp_path / "iter_3.pth").unlink()
    assert whole_or_before(newest, tmp_path, said.append) == newest


@pytest.mark.parametrize(("number", "code"), [("SIGHUP", 129), ("SIGTERM", 143)])
def test_a_closed_terminal_ends_a_run_in_order(tmp_path, number, code):
    config, work = write_config(tmp_path), tmp_path / "run"
    arguments = ["train", config, "--work-dir", work]
    run = Tool(*arguments, log=tmp_path / "1", TOY_PAUSE=8)
    run.wait_for(work / "paused")
    os.kill(run.process.pid, getattr(signal, number))
    said = run.finish(code)
    assert "Ended by a signal from outside. Nothing is lost up to" in said
    assert "Traceback" not in said
    Tool(*arguments, "--resume", log=tmp_path / "2").finish()
    same_as_unbroken(tmp_path, config, work)


def children(pid: int) -> list[int]:
    found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(one) for one in found]


@pytest.mark.skipif(not os.path.isdir("/proc/self/task"), reason="looks into /proc")
def test_a_killed_loader_process_is_named(tmp_path):
    config, work = write_config(tmp_path, workers=1), tmp_path / "run"
    arguments = ["train", config, "--work-dir", work]
    run = Tool(*arguments, log=tmp_path / "1", TOY_PAUSE=8)
    run.wait_for(work / "paused")
    (worker,) = children(run.process.pid)
    os.kill(worker, signal.SIGKILL)
    (tmp_path / "go").touch()
    said = told(run.finish(2))
    assert "A process that loads data" in said
    assert str(worker) in said or "is gone" in said  # torch does not always know
    record = json.loads((work / "run.json").read_text())
    assert record["exit"].startswith("failed: A process that loads data")
    Tool(*arguments, "--resume", log=tmp_path / "2").finish()
    same_as_unbroken(tmp_path, config, work)


def test_a_dead_rank_is_named_by_the_others(tmp_path):
    config = write_config(tmp_path)
    first, second = pausing(tmp_path, config)
    first.wait_for(tmp_path / "run/paused")
    os.kill(second.process.pid, signal.SIGKILL)
    (tmp_path / "go").touch()
    said = told(first.finish(2))
    assert "Another process of this training does not answer any more" in said
    assert torch.load(tmp_path / "run/iter_6.pth", weights_only=True)


def pausing(tmp_path, config):
    """Two ranks that wait before iteration 8."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TOY_PAUSE", "8")
        return launch(tmp_path, config)


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 512 KiB that is really full at its end."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", str(place)]
    if shutil.which("mount") is None or subprocess.run(mount, check=False).returncode:
        pytest.skip("mounting needs root")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_disk_that_fills_keeps_the_last_checkpoint(tmp_path, small_disk):
    config, work = write_config(tmp_path), small_disk / "run"
    arguments = ["train", config, "--work-dir", work]
    run = Tool(*arguments, log=tmp_path / "1", TOY_PAUSE=8)
    run.wait_for(work / "paused")
    filler = small_disk / "filler"
    with open(filler, "wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))
    (small_disk / "go").touch()
    said = told(run.finish(2))
    assert "space" in said
    assert torch.load(work / "iter_6.pth", weights_only=True)["meta"]["iter"] == 6
    filler.unlink()
    Tool(*arguments, "--resume", log=tmp_path / "2").finish()
    same_as_unbroken(tmp_path, config, work)


def test_a_file_that_may_not_grow_is_a_full_disk(tmp_path):
    """Where nothing can be mounted: the limit of a file is below a checkpoint's."""
    config, work = write_config(tmp_path), tmp_path / "run"
    arguments = ["train", config, "--work-dir", work]
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (14_000, before[1]))
    try:
        run = Tool(*arguments, log=tmp_path / "1")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    said = told(run.finish(2))
    assert "iter_6.pth could not be written" in said
    assert not list(work.glob("*.pth"))
    Tool(*arguments, "--resume", log=tmp_path / "2").finish()
    same_as_unbroken(tmp_path, config, work)


def test_what_is_explained_and_what_is_a_bug(tmp_path):
    full = OSError(errno.ENOSPC, "No space left on device")
    assert "keeps its newest whole checkpoint" in explained(full, tmp_path).what
    gone = RuntimeError("DataLoader worker (pid(s) 31, 47) exited unexpectedly")
    assert "(pid 31, 47) is gone" in explained(gone, tmp_path).what
    ours = UserError("a", "b")
    assert explained(ours, tmp_path) is ours
    for bug in (
        RuntimeError("Connection closed by peer"),  # of one process alone
        FileNotFoundError(2, "x"),
        OSError(errno.EACCES, "x"),
        ValueError("broken pipe"),
    ):
        assert explained(bug, tmp_path) is None
