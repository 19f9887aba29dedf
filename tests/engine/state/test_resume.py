"""A killed run that goes on ends with the bits of a run that was never killed."""

import json

import pytest
import torch

from tests.engine.processes import Tool
from tests.engine.toy import write_config

# what tells the time or names the folder
RUN_BOUND = ("time", "experiment_name", "last_ckpt", "best_ckpt", "cfg")


def differences(a, b, where="") -> list[str]:
    if isinstance(a, torch.Tensor):
        return [] if torch.equal(a, b) else [where]
    if isinstance(a, dict):
        extra = [k for k in a.keys() ^ b.keys() if "time" not in str(k)]
        if extra:
            return [f"{where}: keys {extra}"]
        return [
            d
            for k in a.keys() & b.keys()
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
    [(2, False, "iter_12.pth", 8), (0, True, "epoch_2.pth", 9)],
)
def test_kill_and_resume_is_bit_exact(tmp_path, workers, epochs, last, pause):
    """The whole run also has another number of loader processes: it changes nothing."""
    config = write_config(tmp_path, workers=workers, epochs=epochs)
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    others = f"train_dataloader.num_workers={2 - workers}"
    log = tmp_path / "log"
    run = Tool("train", config, "--work-dir", killed, log=log, TOY_PAUSE=pause)
    run.wait_for(killed / "paused")
    run.kill()
    assert not (killed / last).exists()
    assert json.loads((killed / "run.json").read_text())["exit"] == "running"
    Tool("train", config, "--work-dir", killed, "--resume", log=log).finish()
    Tool(
        "train", config, "--work-dir", whole, "--cfg-options", others, log=log
    ).finish()
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
