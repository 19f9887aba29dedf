"""LPLD on two gloo processes: no hang, equal networks, one teacher."""

import os
import subprocess
import sys
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[2]


def test_two_processes_adapt(streets, tmp_path):
    options = [
        "load_from=None",
        "train_cfg.max_iters=2",
        "train_cfg.val_interval=10",
        "train_dataloader.batch_size=2",
        "train_dataloader.num_workers=0",
        "train_dataloader.persistent_workers=False",
        f"train_dataloader.dataset.dataset.data_root={streets}",
        f"val_dataloader.dataset.data_root={streets}",
        f"val_evaluator.ann_file={streets}/annotations/val_foggy_beta_0.02.json",
        "model.hpl_threshold=0.05",
        "model.lpl_min_certainty=0.1",
        "model.mine_without_high=True",
        "custom_hooks.3.num_images=4",
    ]
    command = ["bash", "tools/dist_train.sh", "configs/lpld/foggy_streets.py", "2"]
    command += ["--work-dir", str(tmp_path), "--cfg-options", *options]
    done = subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, "PYTHON": sys.executable, "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    checkpoint = torch.load(tmp_path / "iter_2.pth", weights_only=True)
    assert checkpoint["pld_teacher_ema"] == dict(updates=2)
    weights = checkpoint["state_dict"]
    for name, value in weights.items():
        assert torch.isfinite(value.float()).all(), name
    assert any(
        not torch.equal(weights[n], weights[n.replace("student.", "teacher.", 1)])
        for n in weights
        if n.startswith("student.")
    )
