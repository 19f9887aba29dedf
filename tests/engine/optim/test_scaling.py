"""The scaling rule: hand numbers, and a config in which everything moves together."""

import runpy
import sys
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import PARAM_SCHEDULERS

from pld_mmdet.engine.optim.scaling import (
    Schedule,
    describe,
    rescale,
    scale_config,
    world_size,
)
from pld_mmdet.errors import UserError
from tests.engine.toy import write_config

ROOT = Path(__file__).resolve().parents[3]


def test_hand_numbers_for_a_quarter_of_the_batch():
    new = rescale(Schedule(8, 0.01, 1000, 0.996005996001, 100), 2)
    assert new.lr == pytest.approx(0.0025)
    assert new.iterations == 4000
    assert new.warm_up == 400
    # 0.999^4 = 0.996005996001, so one step of 8 images is four steps of 2
    assert new.keep == pytest.approx(0.999, abs=1e-12)


def test_the_students_share_is_one_minus_one_minus_m_to_the_k():
    m, k = 0.001, 4
    new = rescale(Schedule(1, 1.0, 0, 1 - m), k)
    assert 1 - new.keep == pytest.approx(1 - (1 - m) ** k)
    assert 1 - new.keep == pytest.approx(0.003994003999)


def test_there_and_back_again_is_the_same_training():
    old = Schedule(4, 1e-3, 400, 0.995, 20)
    back = rescale(rescale(old, 16), 4)
    assert back.lr == pytest.approx(old.lr)
    assert back.keep == pytest.approx(old.keep)
    assert (back.iterations, back.warm_up) == (400, 20)
    # images seen and what is left of the start stay as they were
    other = rescale(old, 16)
    assert other.iterations * other.batch == old.iterations * old.batch
    assert other.keep**other.iterations == pytest.approx(old.keep**old.iterations)


def test_square_root_rule_and_unknown_rule():
    assert rescale(Schedule(16, 0.1), 4, "sqrt").lr == pytest.approx(0.05)
    with pytest.raises(UserError, match="'cube' is not known"):
        rescale(Schedule(16, 0.1), 4, "cube")
    with pytest.raises(UserError, match="0 images"):
        rescale(Schedule(16, 0.1), 0)


def test_nothing_becomes_zero_steps_and_nothing_appears():
    new = rescale(Schedule(1, 0.1, 3, None, 1), 64)
    assert (new.iterations, new.warm_up, new.keep) == (1, 1, None)
    assert rescale(Schedule(1, 0.1), 64).iterations == 0


def config(**auto) -> Config:
    return Config(
        dict(
            train_dataloader=dict(batch_size=1),
            optim_wrapper=dict(optimizer=dict(type="SGD", lr=0.01)),
            train_cfg=dict(type="IterBasedTrainLoop", max_iters=1000, val_interval=500),
            param_scheduler=[
                dict(type="LinearLR", by_epoch=False, begin=0, end=100),
                dict(type="MultiStepLR", by_epoch=False, milestones=[600, 800]),
                dict(type="StepLR", by_epoch=True, step_size=1),
            ],
            custom_hooks=[
                dict(type="pld_mmdet.TeacherEMAHook", keep=0.9**4),
                dict(type="pld_mmdet.TeacherEMAHook", keep=0.75, unit="epoch"),
                dict(type="pld_mmdet.CollapseGuardHook", interval=50, silent_for=600),
            ],
            default_hooks=dict(checkpoint=dict(by_epoch=False, interval=250)),
            auto_scale_lr=dict(enable=True, base_batch_size=8, **auto),
        )
    )


def test_config_of_eight_images_on_two_processes():
    cfg = config()
    line = scale_config(cfg, processes=2)
    assert line == (
        "batch 8 -> 2: lr 0.01 -> 0.0025, EMA keep 0.6561 -> 0.9 a step, "
        "1000 -> 4000 iterations, warm-up 100 -> 400"
    )
    assert cfg.optim_wrapper.optimizer.lr == pytest.approx(0.0025)
    assert cfg.train_cfg.max_iters == 4000
    assert cfg.train_cfg.val_interval == 2000
    assert cfg.param_scheduler[0].begin == 0
    assert cfg.param_scheduler[0].end == 400
    assert cfg.param_scheduler[1].milestones == [2400, 3200]
    assert cfg.param_scheduler[2].step_size == 1  # counts epochs
    assert cfg.custom_hooks[0].keep == pytest.approx(0.9)
    assert cfg.custom_hooks[1].keep == 0.75  # an epoch is an epoch
    assert (cfg.custom_hooks[2].interval, cfg.custom_hooks[2].silent_for) == (200, 2400)
    assert cfg.default_hooks.checkpoint.interval == 1000
    # off afterwards: mmengine must not scale the learning rate a second time
    assert cfg.auto_scale_lr.enable is False
    assert scale_config(cfg, processes=2) is None
    assert cfg.train_cfg.max_iters == 4000


def test_eight_iterations_that_make_one_step_of_the_base_batch():
    """All that moves weights stays; all that counts iterations grows eightfold."""
    cfg = config()
    cfg.optim_wrapper.accumulative_counts = 8
    cfg.custom_hooks += [dict(type="pld_mmdet.RampedEMAHook", keep=0.9, stop_after=600)]
    cfg.model = dict(type="pld_mmdet.MarvelOVD", burn_in=500)
    assert scale_config(cfg, processes=1) == (
        "batch 8 -> 8 (accumulated from 8 iterations): lr 0.01 -> 0.01, "
        "EMA keep 0.6561 -> 0.6561 a step, 1000 -> 8000 iterations, warm-up 100 -> 800"
    )
    assert cfg.optim_wrapper.optimizer.lr == 0.01
    assert (cfg.train_cfg.max_iters, cfg.train_cfg.val_interval) == (8000, 4000)
    # full rate at iteration 792, the first one of step 99, as at iteration 99 before
    assert cfg.param_scheduler[0].end == 793
    assert cfg.param_scheduler[1].milestones == [4800, 6400]
    assert cfg.default_hooks.checkpoint.interval == 2000
    assert cfg.custom_hooks[0].keep == 0.9**4  # at an optimizer step
    assert cfg.custom_hooks[2].interval == 400
    assert (cfg.custom_hooks[3].keep, cfg.custom_hooks[3].stop_after) == (0.9, 4800)
    # iterations 0..500 are the first 501 steps, hence 0..4007
    assert cfg.model.burn_in == 4007
    assert cfg.auto_scale_lr.enable is False


def test_accumulation_and_another_batch_together():
    """Steps of 16 images from 4 batches of 2 on 2 processes; the base has 8."""
    cfg = config()
    cfg.train_dataloader.batch_size = 2
    cfg.optim_wrapper.accumulative_counts = 4
    assert scale_config(cfg, processes=2).startswith(
        "batch 8 -> 16 (accumulated from 4 iterations): lr 0.01 -> 0.02"
    )
    assert cfg.custom_hooks[0].keep == pytest.approx(0.9**8)
    assert cfg.train_cfg.max_iters * 4 == 1000 * 8  # images seen: as many as before
    assert cfg.param_scheduler[0].end == 200 - 3


@pytest.mark.parametrize(("batch", "accumulate"), [(1024, 1), (256, 4)])
def test_a_warm_up_of_one_step_ends(batch, accumulate):
    """512 times the images: 100 warm-up iterations are less than one step."""
    cfg = config()
    cfg.train_dataloader.batch_size = batch
    cfg.optim_wrapper.accumulative_counts = accumulate
    scale_config(cfg, processes=4)
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.4)
    ramp = dict(cfg.param_scheduler[0])
    ramp.update(type="LinearLR", start_factor=0.1, optimizer=optimizer)
    schedule = PARAM_SCHEDULERS.build(ramp)
    rates = []
    for _ in range(accumulate + 1):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert rates[0] == pytest.approx(0.04)
    assert rates[accumulate] == pytest.approx(0.4)  # at the second step


@pytest.mark.parametrize(
    ("config", "processes", "batch", "accumulate"),
    [
        ("configs/sf_ut/foggy_cityscapes.py", 8, 1, 1),
        ("configs/lpld/foggy_streets.py", 1, 1, 4),
    ],
)
def test_the_lines_of_the_docs(config, processes, batch, accumulate):
    cfg = Config.fromfile(ROOT / config)
    cfg.auto_scale_lr.enable = True
    cfg.train_dataloader.batch_size = batch
    cfg.optim_wrapper.accumulative_counts = accumulate
    text = (ROOT / "docs/cluster.md").read_text(encoding="utf-8")
    assert f"    {scale_config(cfg, processes)}\n" in text


def test_nothing_ends_in_the_middle_of_a_step():
    cfg = config()
    cfg.train_dataloader.batch_size = 3
    cfg.optim_wrapper.accumulative_counts = 5
    cfg.train_cfg.max_iters = 777
    scale_config(cfg, processes=1)
    counts = [cfg.train_cfg.max_iters, cfg.train_cfg.val_interval]
    counts += [cfg.default_hooks.checkpoint.interval]
    counts += cfg.param_scheduler[1].milestones
    assert [count % 5 for count in counts] == [0] * 5


def test_accumulation_without_the_rule_is_said_not_changed():
    cfg = config()
    cfg.auto_scale_lr.enable = False
    cfg.optim_wrapper.accumulative_counts = 4
    assert scale_config(cfg, processes=2) == (
        "4 iterations make a step of 8 images: 1000 iterations are 250 steps"
    )
    assert cfg.train_cfg.max_iters == 1000


@pytest.mark.parametrize(
    "change",
    [
        dict(train_cfg=dict(_delete_=True, stages=[dict(name="a", max_iters=1)])),
        dict(optim_wrapper=dict(_delete_=True, net=dict(optimizer=dict(lr=0.1)))),
    ],
)
def test_stages_and_several_optimizers_are_not_guessed_at(change):
    cfg = config()
    cfg.merge_from_dict(change)
    with pytest.raises(UserError, match="one optimizer and one stage"):
        scale_config(cfg, processes=2)


def test_epochs_stay_epochs():
    cfg = config()
    cfg.train_cfg = dict(type="EpochBasedTrainLoop", max_epochs=10, val_interval=1)
    cfg.default_hooks.checkpoint = dict(by_epoch=True, interval=1)
    scale_config(cfg, processes=4)
    assert cfg.train_cfg == dict(
        type="EpochBasedTrainLoop", max_epochs=10, val_interval=1
    )
    assert cfg.default_hooks.checkpoint.interval == 1
    assert cfg.param_scheduler[0].end == 200


def test_disabled_and_absent_change_nothing():
    cfg = config()
    cfg.auto_scale_lr.enable = False
    before = cfg.pretty_text
    assert scale_config(cfg, 4) is None
    assert cfg.pretty_text == before
    assert scale_config(Config(dict(a=1)), 4) is None


def test_world_size_is_what_the_launcher_says(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "8")
    monkeypatch.setenv("SLURM_NTASKS", "16")
    assert world_size("pytorch") == 8
    assert world_size("slurm") == 16
    assert world_size("none") == 1


def test_sentence_leaves_out_what_is_not_there():
    old = Schedule(4, 0.1)
    assert describe(old, rescale(old, 2)) == "batch 4 -> 2: lr 0.1 -> 0.05"


def test_train_tool_scales_once_and_says_so(tmp_path, monkeypatch, capsys):
    path = write_config(tmp_path, more="auto_scale_lr = dict(base_batch_size=8)")
    command = ["train.py", str(path), "--auto-scale-lr", "--work-dir", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", command)
    tool = runpy.run_path(str(ROOT / "tools" / "train.py"))
    tool["main"](tool["parse_args"]())
    assert "batch 8 -> 4: lr 0.05 -> 0.025, 12 -> 24 iterations, warm-up 8 -> 16" in (
        capsys.readouterr().out
    )
    assert (tmp_path / "iter_24.pth").is_file()
    written = Config.fromfile(str(tmp_path / "config.py"))
    assert written.optim_wrapper.optimizer.lr == 0.025
    assert written.auto_scale_lr.enable is False
    path.write_text(path.read_text().replace("auto_scale_lr", "nothing"))
    with pytest.raises(UserError, match="does not say which batch"):
        tool["main"](tool["parse_args"]())
