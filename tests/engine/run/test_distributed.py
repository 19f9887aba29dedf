"""Two real processes over gloo: same weights, common decisions, no hang."""

import torch

from tests.engine.processes import Tool, free_port
from tests.engine.toy import write_config


def launch(tmp_path, config, *arguments):
    port = free_port()
    ranks = [
        Tool(
            "train",
            config,
            "--work-dir",
            tmp_path / "run",
            "--launcher",
            "pytorch",
            *arguments,
            log=tmp_path / f"log{rank}",
            RANK=rank,
            LOCAL_RANK=rank,
            WORLD_SIZE=2,
            MASTER_ADDR="127.0.0.1",
            MASTER_PORT=port,
        )
        for rank in (0, 1)
    ]
    return ranks


def hashes(tmp_path):
    return [(tmp_path / f"run/rank{r}.txt").read_text().split() for r in (0, 1)]


def test_two_processes_agree_also_about_a_bad_sample(tmp_path):
    """Sample 5 is NaN: one process sees it, both skip; DDP does not wait for it."""
    config = write_config(
        tmp_path, more="train_dataloader['dataset']['dataset']['bad'] = (5,)\n"
    )
    for rank in launch(tmp_path, config):
        rank.finish()
    one, two = hashes(tmp_path)
    assert one == two
    assert int(one[1]) == 4  # 12 iterations x 8 samples = 4 passes over 24 samples
    saved = torch.load(tmp_path / "run/iter_12.pth", weights_only=True)
    assert all(torch.isfinite(v).all() for v in saved["state_dict"].values())


def test_two_processes_stop_together(tmp_path):
    config = write_config(
        tmp_path,
        more="train_dataloader['dataset']['dataset']['bad'] = tuple(range(24))\n"
        "optim_wrapper['max_skipped_in_a_row'] = 8\n",
    )
    for rank in launch(tmp_path, config):
        output = rank.finish(code=2)
        assert "NaN or infinite for 8 steps in a row, last at iteration 8" in output
        assert "iter_6.pth" in output
        assert "Traceback" not in output
