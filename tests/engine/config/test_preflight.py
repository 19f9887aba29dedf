"""Missing files are said before anything is built, with the commands that make them."""

import json
from pathlib import Path

import pytest
from mmengine.config import Config
from mmengine.registry import RUNNERS

from pld_mmdet.engine.config.preflight import (
    _check_gradient_scales,
    _gradient_scales,
    check_config,
)
from pld_mmdet.errors import UserError
from tests.engine.toy import write_config

DATA, CHECKPOINT = "python tools/prepare.py toy", "python tools/train.py source.py"


def make_data(root: Path) -> None:
    (root / "img").mkdir(parents=True)
    (root / "img/0.png").write_bytes(b"0")
    annotations = {"images": [{"id": 1, "file_name": "0.png"}], "annotations": []}
    (root / "train.json").write_text(json.dumps(annotations))


def config(tmp_path, **changes) -> Config:
    root = str(tmp_path / "data")
    leaf = {"data_root": root, "ann_file": "train.json", "data_prefix": {"img": "img/"}}
    nested = {
        "type": "pld_mmdet.SeededDataset",
        "dataset": {"type": "ConcatDataset", "datasets": [leaf]},
    }
    content = {
        "train_dataloader": {"dataset": nested},
        "val_dataloader": {"dataset": dict(leaf)},
        "test_dataloader": {"dataset": dict(leaf, ann_file="test.json")},
        "work_dir": str(tmp_path / "work"),
        "how_to_get": {"data": DATA, "checkpoint": CHECKPOINT},
        "model": {"backbone": {"type": "ResNet"}},
    }
    content.update(changes)
    return Config(content)


def problem(cfg, stages=("train", "val")) -> UserError:
    with pytest.raises(UserError) as caught:
        check_config(cfg, stages)
    assert len(str(caught.value).splitlines()) == 2
    return caught.value


def test_all_there(tmp_path):
    make_data(tmp_path / "data")
    check_config(config(tmp_path))
    assert (tmp_path / "work").is_dir()


def test_a_misspelt_name_is_refused_before_anything_is_built(tmp_path):
    make_data(tmp_path / "data")
    said = problem(config(tmp_path, optim_wraper={"optimizer": {"lr": 3}}))
    assert said.what.startswith("optim_wraper: nothing reads this name")
    assert "Did you mean optim_wrapper?" in said.fix


def test_data_and_checkpoint_missing_are_two_lines(tmp_path):
    error = problem(config(tmp_path, load_from=str(tmp_path / "a.pth")))
    assert error.what.count(str(tmp_path / "data")) == 1  # not once per loader
    assert str(tmp_path / "a.pth") in error.what
    assert DATA in error.fix
    assert CHECKPOINT in error.fix
    assert not (tmp_path / "work").exists()


def test_each_missing_piece_is_named(tmp_path):
    root = tmp_path / "data"
    make_data(root)
    error = problem(config(tmp_path), ("test",))
    assert f"the annotation file {root / 'test.json'}" in error.what
    assert CHECKPOINT not in error.fix
    (root / "img/0.png").rename(root / "img/1.png")
    assert "the images of" in problem(config(tmp_path)).what
    assert "0.png" in problem(config(tmp_path)).what
    (root / "img/1.png").unlink()
    assert "(it is empty)" in problem(config(tmp_path)).what
    (root / "img").rmdir()
    assert f"the folder {root}/img/" in problem(config(tmp_path)).what
    (root / "train.json").write_text("")
    assert "train.json (it is empty)" in problem(config(tmp_path)).what


def test_loaders_inside_train_cfg(tmp_path):
    root = tmp_path / "data"
    make_data(root)
    leaf = {"data_root": str(root), "ann_file": "shots.json"}
    loop = {"type": "pld_mmdet.OnlineLoop", "support_dataloader": {"dataset": leaf}}
    cfg = config(tmp_path, train_cfg=loop)
    assert f"the annotation file {root / 'shots.json'}" in problem(cfg).what
    check_config(cfg, ("val",))  # nothing is trained
    loop["support_dataloader"] = None
    check_config(config(tmp_path, train_cfg=loop))


def test_checkpoints(tmp_path):
    make_data(tmp_path / "data")
    init = {"type": "Pretrained", "checkpoint": "nowhere.pth"}
    model = {"backbone": {"type": "ResNet", "init_cfg": init}}
    error = problem(config(tmp_path, model=model))
    assert "the initial weights nowhere.pth" in error.what
    init["checkpoint"] = "torchvision://resnet50"  # looked at when it is fetched
    check_config(config(tmp_path, model=model, load_from="https://host/a.pth"))


def test_without_how_to_get_the_config_keys_are_named(tmp_path):
    error = problem(config(tmp_path, how_to_get={}))
    assert "data_root" in error.fix


def scaled(tmp_path, optimizer, scale):
    make_data(tmp_path / "data")
    head = {"bbox_roi_extractor": {"gradient_scale": scale}}
    return config(
        tmp_path,
        model={"detector": {"roi_head": head}},
        optim_wrapper={"optimizer": {"type": optimizer}},
    )


@pytest.mark.parametrize("optimizer", ["AdamW", "torch.optim.RMSprop", "NAdam"])
def test_a_gradient_scale_that_the_optimizer_divides_out(tmp_path, optimizer):
    error = problem(scaled(tmp_path, optimizer, 0.001))
    assert "bbox_roi_extractor.gradient_scale=0.001 has no effect" in error.what
    assert optimizer.rpartition(".")[2] in error.what
    assert "SGD" in error.fix


@pytest.mark.parametrize(
    ("optimizer", "scale"), [("SGD", 0.001), ("AdamW", 0.0), ("AdamW", 1.0)]
)
def test_gradient_scales_that_work(tmp_path, optimizer, scale):
    check_config(scaled(tmp_path, optimizer, scale))


ONE_CYCLE = {"type": "mmengine.OneCycleLR", "eta_max": 0.3, "total_steps": 70}
STAGES = {
    "type": "pld_mmdet.StagedLoop",
    "stages": [{}, {"param_scheduler": ONE_CYCLE}],
}
STEPS = {"type": "MultiStepLR", "milestones": [40]}


@pytest.mark.parametrize(
    ("place", "changes"),
    [
        ("param_scheduler", {"param_scheduler": ONE_CYCLE}),
        ("param_scheduler.1", {"param_scheduler": [STEPS, ONE_CYCLE]}),
        ("param_scheduler.critic.0", {"param_scheduler": {"critic": [ONE_CYCLE]}}),
        (
            "train_cfg.stages.1.param_scheduler",
            {"train_cfg": STAGES},
        ),
    ],
)
def test_a_schedule_that_no_checkpoint_can_hold(tmp_path, place, changes):
    make_data(tmp_path / "data")
    error = problem(config(tmp_path, **changes))
    assert error.what.startswith(f"{place}.type='mmengine.OneCycleLR'")
    assert "CosineAnnealingLR" in error.fix
    check_config(config(tmp_path, **changes), ("val",))
    hooks = {"checkpoint": {"save_param_scheduler": False}}
    check_config(config(tmp_path, default_hooks=hooks, **changes))


def test_schedules_that_a_checkpoint_can_hold(tmp_path):
    make_data(tmp_path / "data")
    check_config(config(tmp_path, param_scheduler=[STEPS]))
    check_config(config(tmp_path, param_scheduler=None))


def test_the_checkpoint_hook_refuses_before_the_first_step(tmp_path):
    """A run that no tool started: its first checkpoint was a TypeError once."""
    cfg = Config.fromfile(write_config(tmp_path))
    cfg.work_dir, cfg.log_level = str(tmp_path / "run"), "ERROR"
    cfg.param_scheduler = [dict(ONE_CYCLE, type="OneCycleLR", by_epoch=False)]
    runner = RUNNERS.build(cfg)
    with pytest.raises(UserError, match=r"param_scheduler\.0\.type='OneCycleLR'"):
        runner.train()
    assert runner.iter == 0


def test_no_config_of_this_repository_scales_in_vain(tmp_path):
    configs = Path(__file__).resolve().parents[3] / "configs"
    seen = 0
    for path in sorted((configs / "defrcn").glob("*.py")):
        cfg = Config.fromfile(path)
        _check_gradient_scales(cfg)
        seen += any(True for _ in _gradient_scales(cfg.model, "model"))
    assert seen > 20
