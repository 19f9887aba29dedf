"""A killed run that goes on ends with the bits of a run that was never killed."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from tests.engine.toy import write_config

ROOT = Path(__file__).resolve().parents[2]
# what tells the time, names the folder, or counts the starts
RUN_BOUND = ("time", "experiment_name", "last_ckpt", "best_ckpt", "cfg")


def train(config: Path, work_dir: Path, *options: str, pause: int | None = None):
    environment = dict(os.environ, OMP_NUM_THREADS="1")
    if pause is not None:
        environment["TOY_PAUSE"] = str(pause)
    command = [sys.executable, "tools/train.py", str(config), "--work-dir", work_dir]
    return subprocess.Popen(
        [*map(str, command), *options],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def finish(process: subprocess.Popen) -> str:
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 0, output
    return output


def kill_when_paused(process: subprocess.Popen, work_dir: Path) -> None:
    end = time.time() + 60
    while not (work_dir / "paused").exists():
        assert time.time() < end
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)  # the loader processes, too
    process.wait(timeout=10)


def differences(a, b, where="") -> list[str]:
    if isinstance(a, torch.Tensor):
        return [] if torch.equal(a, b) else [where]
    if isinstance(a, dict):
        if a.keys() != b.keys():
            return [f"{where}: keys {sorted(map(str, a.keys() ^ b.keys()))}"]
        return [
            d
            for k in a
            if not any(word in str(k).split("/")[-1] for word in RUN_BOUND)
            for d in differences(a[k], b[k], f"{where}.{k}")
        ]
    if isinstance(a, list | tuple):
        assert len(a) == len(b), where
        pairs = enumerate(zip(a, b, strict=True))
        return [d for i, (x, y) in pairs for d in differences(x, y, f"{where}[{i}]")]
    return [] if a == b else [f"{where}: {a} != {b}"]


@pytest.mark.parametrize(
    ("workers", "epochs", "last", "pause"),
    [
        (0, False, "iter_12.pth", 8),
        (2, False, "iter_12.pth", 8),
        (2, True, "epoch_2.pth", 9),
    ],
)
def test_kill_and_resume_is_bit_exact(tmp_path, workers, epochs, last, pause):
    config = write_config(tmp_path, workers=workers, epochs=epochs)
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    runs = [train(config, whole), train(config, killed, pause=pause)]
    kill_when_paused(runs[1], killed)
    assert not (killed / last).exists()
    assert json.loads((killed / "run.json").read_text())["exit"] == "running"
    finish(runs[0])
    finish(train(config, killed, "--resume"))
    a = torch.load(whole / last, weights_only=True)
    b = torch.load(killed / last, weights_only=True)
    assert set(a) == {
        "meta",
        "state_dict",
        "message_hub",
        "optimizer",
        "param_schedulers",
    }
    assert differences(a, b) == []
    one, two = (json.loads((d / "run.json").read_text()) for d in (whole, killed))
    assert one["init_sha256"] == two["init_sha256"]
    assert two["exit"] == "finished"
    assert len(two["resumed"]) == 1


def test_number_of_loader_processes_changes_nothing(tmp_path):
    results = []
    for workers in (0, 2):
        folder = tmp_path / str(workers)
        folder.mkdir()
        finish(train(write_config(folder, workers=workers), folder / "run"))
        results.append(torch.load(folder / "run/iter_12.pth", weights_only=True))
    assert differences(results[0]["state_dict"], results[1]["state_dict"]) == []
