"""StagedLoop: order of calls, fresh optimizers, and a killed run that goes on."""

import json
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, RUNNERS

from pld_mmdet.engine.hooks import ProgressHook
from pld_mmdet.engine.run.progress import Progress
from pld_mmdet.errors import UserError
from tests.engine.processes import Tool
from tests.engine.state.test_resume import differences
from tests.engine.toy import CONFIG, ToyModel

STAGES = """
work = dict(
    dataset=dict(type='pld_mmdet.SeededDataset', dataset=dict(type='ToyData')),
    sampler=dict(type='DefaultSampler', shuffle=False),
    collate_fn=dict(type='default_collate'), batch_size=8, num_workers=0)
model = dict(type='StagedToy')
custom_imports = dict(imports=['tests.engine.loops.test_staged'])
train_cfg = dict(_delete_=True, type='pld_mmdet.StagedLoop', val_interval=5, stages=[
    dict(name='warm', max_iters=5),
    dict(name='label', max_iters=0, work_dataloader=work),
    dict(name='main', max_iters=9, dataloader=dict(
        dataset=dict(type='pld_mmdet.SeededDataset',
                     dataset=dict(type='ToyData', length=10)),
        sampler=dict(type='pld_mmdet.ResumableSampler'),
        collate_fn=dict(type='default_collate'), batch_size=4, num_workers=0),
        optim_wrapper=dict(type='pld_mmdet.FiniteOptimWrapper',
                           optimizer=dict(type='Adam', lr=0.01)),
        param_scheduler=[dict(type='LinearLR', start_factor=0.5, by_epoch=False)])])
log_processor = dict(by_epoch=False)
default_hooks = dict(checkpoint=dict(
    type='pld_mmdet.SafeCheckpointHook', interval=3, by_epoch=False))
"""


@MODELS.register_module(force=True)
class StagedToy(ToyModel):
    """Counts what it is told; labels in a buffer, a file beside it."""

    def __init__(self, width: int = 8, init_cfg=None):
        super().__init__(width, init_cfg)
        self.calls = []
        self.register_buffer("labels", torch.zeros(24))

    def enter_stage(self, name):
        self.calls.append(f"enter {name}")

    def start_stage(self, name, loader, folder):
        self.calls.append(f"start {name}")
        assert self.calls[-2] == f"enter {name}"
        if loader is not None:
            self.eval()
            with torch.no_grad():
                found = [self.net(batch["inputs"]).argmax(1) for batch in loader]
            self.labels.copy_(torch.cat(found))
            (Path(folder) / "labels.json").write_text(json.dumps(self.labels.tolist()))


def write(folder: Path, stages: str = STAGES) -> Path:
    base = CONFIG.format(workers=0, infinite=True, loop="")
    base = base.replace("model = dict(type='ToyModel')\n", "")
    base = base.replace("custom_imports = dict(imports=['tests.engine.toy'])\n", "")
    path = folder / "staged.py"
    path.write_text(base + stages.replace("_delete_=True, ", ""))
    return path


def run(config: Path, folder: Path, **changes):
    cfg = Config.fromfile(config)
    cfg.merge_from_dict({"work_dir": str(folder), "log_level": "WARNING", **changes})
    runner = RUNNERS.build(cfg)
    runner.train()
    return runner


def test_stages_in_order_with_their_own_data_and_optimizer(tmp_path):
    runner = run(write(tmp_path), tmp_path / "run")
    names = ("warm", "label", "main")
    calls = [f"{verb} {name}" for name in names for verb in ("enter", "start")]
    assert runner.model.calls == calls
    assert type(runner.optim_wrapper.optimizer).__name__ == "Adam"
    steps = {int(s["step"]) for s in runner.optim_wrapper.optimizer.state.values()}
    assert steps == {9}  # nothing of the warm stage is in it
    # the ramp ends with its stage
    assert runner.optim_wrapper.get_lr()["lr"] == pytest.approx([0.01])
    assert len(runner.train_dataloader.dataset) == 10
    assert (tmp_path / "run/stages/01_label/labels.json").is_file()
    assert runner.iter == runner.max_iters == 14


@pytest.mark.parametrize("pause", [4, 11])
def test_killed_in_a_stage_and_resumed_is_bit_exact(tmp_path, pause):
    config = write(tmp_path)
    whole, killed, log = tmp_path / "whole", tmp_path / "killed", tmp_path / "log"
    process = Tool("train", config, "--work-dir", killed, log=log, TOY_PAUSE=pause)
    process.wait_for(killed / "paused")
    process.kill()
    Tool("train", config, "--work-dir", killed, "--resume", log=log).finish()
    run(config, whole)
    a, b = (torch.load(d / "iter_14.pth", weights_only=True) for d in (whole, killed))
    assert a["state_dict"]["labels"].any()
    assert differences(a, b) == []


def test_two_runs_of_one_second_keep_numbers_of_their_own(tmp_path):
    config, same = write(tmp_path), {"experiment_name": "staged_20261128_193251"}
    runs = [run(config, tmp_path / name, **same) for name in "ab"]
    hubs = [one.message_hub for one in runs]
    values = [hub.get_scalar("train/loss").data[0] for hub in hubs]
    assert len(values[0]) == len(values[1]) == 14
    assert hubs[0] is not hubs[1]
    assert runs[0].visualizer is not runs[1].visualizer
    files = [Path(one.logger.handlers[1].baseFilename) for one in runs]
    assert [file.relative_to(tmp_path).parts[0] for file in files] == ["a", "b"]


def test_resumed_at_a_boundary_does_the_offline_work_that_belongs_there(tmp_path):
    config, folder = write(tmp_path), tmp_path / "run"
    keep = {"default_hooks.checkpoint.interval": 5}
    whole = run(config, folder, **keep)
    again = run(
        config,
        tmp_path / "again",
        load_from=str(folder / "iter_5.pth"),
        resume=True,
        **keep,
    )
    assert again.model.calls[0] == "enter warm"  # its optimizer is in the file
    assert again.model.calls[1:3] == ["enter label", "start label"]
    for a, b in zip(
        whole.model.state_dict().values(),
        again.model.state_dict().values(),
        strict=True,
    ):
        assert torch.equal(a, b)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ("name='main', max_iter=9", "unknown entries"),
        ("name='warm', max_iters=9", "Stages need names"),
        ("name='main', max_iters=-1", "max_iters=-1"),
    ],
)
def test_wrong_stages_are_named(tmp_path, change, match):
    text = STAGES.replace("name='main', max_iters=9", change)
    with pytest.raises(UserError, match=match):
        run(write(tmp_path, text), tmp_path / "run")


def test_what_a_late_stage_lacks_is_said_before_the_first_begins(tmp_path, monkeypatch):
    asked = {}

    def check_work(self, stage, loader):
        asked[stage] = loader is not None
        if stage == "main":
            raise UserError("main has nothing to work on.", "Give it something.")

    monkeypatch.setattr(StagedToy, "check_work", check_work, raising=False)
    with pytest.raises(UserError, match="main has nothing"):
        run(write(tmp_path), tmp_path / "run")
    assert asked == {"warm": False, "label": True, "main": False}
    assert not (tmp_path / "run/stages").exists()


def test_a_sampler_that_cannot_skip_is_refused_on_resume(tmp_path):
    text = STAGES.replace(
        "sampler=dict(type='pld_mmdet.ResumableSampler')",
        "sampler=dict(type='DefaultSampler', shuffle=True)",
    )
    config, folder = write(tmp_path, text), tmp_path / "run"
    run(config, folder)
    with pytest.raises(UserError, match="cannot be resumed in its middle"):
        run(config, folder, load_from=str(folder / "iter_9.pth"), resume=True)


def test_a_model_that_nobody_tells_its_stage_is_refused(tmp_path):
    """As under another runner, which does not register ProgressHook."""
    config = write(tmp_path)
    cfg = Config.fromfile(config)
    cfg.work_dir, cfg.log_level = str(tmp_path / "run"), "WARNING"
    runner = RUNNERS.build(cfg)
    runner.model.progress = Progress()
    runner._hooks = [h for h in runner._hooks if not isinstance(h, ProgressHook)]
    with pytest.raises(UserError, match="Nobody tells StagedToy of stage warm"):
        runner.train()
