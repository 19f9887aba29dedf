"""One run in a folder, one process at a time; what killed writers left is swept."""

import multiprocessing
import os
import signal
import time

import pytest

from pld_mmdet.engine.state.files import sweep, write_atomic
from pld_mmdet.engine.state.outfolder import INHERITED, claimed, locked
from pld_mmdet.errors import UserError
from tests.engine.processes import Tool, forked
from tests.engine.toy import write_config

FORK = multiprocessing.get_context("fork")


def hold(folder) -> None:
    with locked(folder):
        pass


def test_a_second_process_and_a_second_call_are_refused(tmp_path):
    with locked(tmp_path):
        assert forked(lambda: hold(tmp_path)) == 2
        with pytest.raises(UserError, match="Another process is working"):
            hold(tmp_path)
        assert forked(lambda: hold(tmp_path)) == 2  # the refusal gave nothing away
    assert forked(lambda: hold(tmp_path)) == 0


def test_a_lock_of_another_name_is_another_lock(tmp_path):
    def hold_part() -> None:
        with locked(tmp_path, name=".part.lock"):
            pass

    with locked(tmp_path, name=".part.lock"):
        hold(tmp_path)
        assert forked(hold_part) == 2
    hold_part()


def test_a_loader_process_that_is_left_behind_holds_no_lock(tmp_path):
    def run() -> None:
        with locked(tmp_path):
            child = FORK.Process(target=time.sleep, args=(60,))
            child.start()
            (tmp_path / "child").write_text(str(child.pid))
            time.sleep(60)

    owner = FORK.Process(target=run)
    owner.start()
    end = time.time() + 60
    while not (tmp_path / "child").is_file() or not (tmp_path / "child").read_text():
        assert time.time() < end
        time.sleep(0.01)
    assert forked(lambda: hold(tmp_path)) == 2
    os.kill(owner.pid, signal.SIGKILL)
    owner.join()
    child = int((tmp_path / "child").read_text())
    os.kill(child, 0)  # it lives
    try:
        assert forked(lambda: hold(tmp_path)) == 0
    finally:
        os.kill(child, signal.SIGKILL)


def test_a_process_that_a_holder_starts_is_let_in(tmp_path, monkeypatch):
    with locked(tmp_path):
        monkeypatch.setenv(INHERITED, os.path.realpath(tmp_path))
        hold(tmp_path)
        monkeypatch.setenv(INHERITED, str(tmp_path / "another"))
        with pytest.raises(UserError):
            hold(tmp_path)


def test_half_files_of_killed_writers_are_swept_and_no_others(tmp_path):
    def die(file) -> None:
        file.write(b"half")
        file.flush()
        os.kill(os.getpid(), signal.SIGKILL)

    folder = tmp_path / "inner"
    for name in ("a.json", "iter_4.pth"):
        killed = forked(lambda: write_atomic(folder / name, die))  # noqa: B023
        assert killed == -signal.SIGKILL
    assert len(list(folder.iterdir())) == 2
    kept = [folder / ".notes.tmp", folder / ".x.elsewhere-1.abc.tmp", folder / "b.tmp"]
    for path in kept:
        path.write_text("of somebody else")

    def look(file) -> None:
        file.write(b"whole")
        file.flush()
        assert sweep(tmp_path) == []  # its own file is being written

    with locked(tmp_path):
        assert sorted(folder.iterdir()) == sorted(kept)
        write_atomic(folder / "c.json", look)
    assert (folder / "c.json").read_bytes() == b"whole"


def test_weights_or_an_end_make_a_run_and_an_interruption_before_them_none(tmp_path):
    with claimed(tmp_path, resume=False) as there:
        assert not there
    (tmp_path / "run.json").write_text('{"exit": "interrupted"}')
    with claimed(tmp_path, resume=False) as there:
        assert not there  # nothing would be lost
    (tmp_path / "iter_3.pth").write_bytes(b"weights")
    with (
        pytest.raises(UserError, match=r"already holds a run \(interrupted\)") as error,
        claimed(tmp_path, resume=False),
    ):
        pass
    assert "--work-dir" in error.value.fix
    assert "--resume" in error.value.fix
    with claimed(tmp_path, resume=True) as there:
        assert there
    (tmp_path / "iter_3.pth").unlink()
    (tmp_path / "run.json").write_text('{"exit": "finished"}')
    with pytest.raises(UserError, match="finished"), claimed(tmp_path, resume=False):
        pass
    (tmp_path / "run.json").write_text("[broken")  # a state file that says nothing
    with claimed(tmp_path, resume=False) as there:
        assert not there


def test_train_overwrites_no_run_and_mixes_no_recipes(tmp_path):
    """Finished: refused. --resume with another seed or rate: refused; longer: fine."""
    config, log = write_config(tmp_path), tmp_path / "log"
    run = ["train", config, "--work-dir", tmp_path / "run"]
    Tool(*run, log=log).finish()
    weights = (tmp_path / "run" / "iter_12.pth").read_bytes()
    said = Tool(*run, log=log).finish(2)
    assert "already holds a run (finished); nothing was overwritten." in said
    other = ["--seed", 5, "--cfg-options", "optim_wrapper.optimizer.lr=0.3"]
    said = Tool(*run, "--resume", *other, log=log).finish(2)
    assert "optim_wrapper.optimizer.lr=0.3 (the run has 0.05)" in said
    assert "randomness.seed=5 (the run has 3)" in said
    assert (tmp_path / "run" / "iter_12.pth").read_bytes() == weights
    longer = ["--cfg-options", "train_cfg.max_iters=18", "val_dataloader.num_workers=1"]
    Tool(*run, "--resume", *longer, log=log).finish()
    assert (tmp_path / "run" / "iter_18.pth").is_file()


def test_two_trainings_never_share_a_folder(tmp_path):
    config, folder = write_config(tmp_path, workers=1), tmp_path / "run"
    first = Tool("train", config, "--work-dir", folder, log=tmp_path / "1", TOY_PAUSE=2)
    first.wait_for(folder / "paused")
    second = Tool("train", config, "--work-dir", folder, log=tmp_path / "2")
    assert "Another process is working in" in second.finish(2)
    os.kill(first.process.pid, signal.SIGKILL)  # its loader process stays for a while
    first.process.join(60)
    Tool("train", config, "--work-dir", folder, log=tmp_path / "3").finish()
