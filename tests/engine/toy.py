"""A toy project for runner tests: tiny data, model with BN and dropout, one config."""

import hashlib
import os
import random
import time
from pathlib import Path

import numpy as np
import torch
from mmengine.evaluator import BaseMetric
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.registry import DATASETS, HOOKS, METRICS, MODELS
from torch import nn
from torch.utils.data import Dataset

CLASSES = ("cat", "dog")


@DATASETS.register_module(force=True)
class ToyData(Dataset):
    """24 vectors of 6 numbers; each look at one adds noise from three generators."""

    def __init__(
        self, bad: tuple = (), classes=CLASSES, length: int = 24, data_root: str = ""
    ):
        fixed = np.random.RandomState(7)
        self.x = fixed.randn(length, 6).astype(np.float32)
        self.y = (self.x.sum(1) > 0).astype(np.int64)
        self.metainfo = {"classes": tuple(classes)}
        self.bad = bad

    def __len__(self):
        return len(self.x)

    def __getitem__(self, index):
        noise = np.random.randn(6) * 0.1 + random.random() * 0.1
        x = torch.from_numpy(self.x[index] + noise.astype(np.float32))
        x = x + torch.rand(6) * 0.1
        if index in self.bad:
            x = x * float("nan")
        return {"inputs": x, "data_samples": torch.tensor(self.y[index])}


@MODELS.register_module(force=True)
class ToyModel(BaseModel):
    def __init__(self, width: int = 8, init_cfg=None):
        super().__init__(init_cfg=init_cfg)
        self.net = nn.Sequential(
            nn.Linear(6, width),
            nn.BatchNorm1d(width),
            nn.ReLU(),
            nn.Dropout(0.3),
            nn.Linear(width, 2),
        )

    def forward(self, inputs, data_samples=None, mode="tensor"):
        logits = self.net(inputs)
        if mode == "loss":
            return {"loss": nn.functional.cross_entropy(logits, data_samples)}
        return [(a, b) for a, b in zip(logits.argmax(1), data_samples, strict=True)]


@HOOKS.register_module(force=True)
class PauseHook(Hook):
    """Sleeps before iteration TOY_PAUSE, so that a test can kill the process there.

    It goes on when the test writes the file ``go``.
    """

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if runner.iter == int(os.environ.get("TOY_PAUSE", -1)):
            folder = Path(runner.work_dir)
            (folder / "paused").write_text(str(os.getpid()))
            end = time.time() + 120
            while not (folder.parent / "go").exists() and time.time() < end:
                time.sleep(0.02)


@HOOKS.register_module(force=True)
class RankHashHook(Hook):
    """Leaves the hash of each process's parameters in the work dir."""

    def after_train(self, runner):
        weights = [p.detach().flatten() for p in runner.model.parameters()]
        digest = hashlib.sha256(torch.cat(weights).numpy().tobytes()).hexdigest()
        path = Path(runner.work_dir) / f"rank{runner.rank}.txt"
        path.write_text(f"{digest} {runner.optim_wrapper.skipped_steps}")


@METRICS.register_module(force=True)
class ToyAccuracy(BaseMetric):
    def process(self, data_batch, data_samples):
        self.results += [float(a == b) for a, b in data_samples]

    def compute_metrics(self, results):
        return {"accuracy": sum(results) / len(results)}


CONFIG = """
custom_imports = dict(imports=['tests.engine.toy'])
default_scope = 'mmengine'
runner_type = 'pld_mmdet.SafeRunner'
randomness = dict(seed=3)
model = dict(type='ToyModel')
train_dataloader = dict(
    dataset=dict(type='pld_mmdet.SeededDataset', dataset=dict(type='ToyData')),
    sampler=dict(type='pld_mmdet.ResumableSampler', infinite={infinite}),
    collate_fn=dict(type='default_collate'), batch_size=4, num_workers={workers})
val_dataloader = dict(
    dataset=dict(type='pld_mmdet.SeededDataset', dataset=dict(type='ToyData')),
    sampler=dict(type='DefaultSampler', shuffle=False),
    collate_fn=dict(type='default_collate'), batch_size=8, num_workers=0)
test_dataloader = val_dataloader
val_evaluator = dict(type='ToyAccuracy')
test_evaluator = val_evaluator
val_cfg = dict()
test_cfg = dict()
optim_wrapper = dict(
    type='pld_mmdet.FiniteOptimWrapper', accumulative_counts=1,
    optimizer=dict(type='SGD', lr=0.05, momentum=0.9))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, begin=0, end=8, by_epoch=False),
    dict(type='MultiStepLR', milestones=[10], by_epoch=False)]
custom_hooks = [
    dict(type='pld_mmdet.IterationSeedHook'),
    dict(type='pld_mmdet.RunRecordHook', seconds=0), dict(type='PauseHook'),
    dict(type='RankHashHook')]
{loop}
"""

ITERS = """
train_cfg = dict(type='IterBasedTrainLoop', max_iters=12, val_interval=5)
log_processor = dict(by_epoch=False)
default_hooks = dict(checkpoint=dict(
    type='pld_mmdet.SafeCheckpointHook', interval=6, by_epoch=False, max_keep_ckpts=2))
"""

EPOCHS = """
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=2)
default_hooks = dict(checkpoint=dict(
    type='pld_mmdet.SafeCheckpointHook', interval=1, max_keep_ckpts=2))
"""


def write_config(folder: Path, workers: int = 0, epochs: bool = False, more="") -> Path:
    """Write the toy config into a folder and return its path."""
    loop = (EPOCHS if epochs else ITERS) + more
    path = Path(folder) / "toy.py"
    path.write_text(CONFIG.format(workers=workers, infinite=not epochs, loop=loop))
    return path
