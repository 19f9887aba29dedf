"""Misspelt keys and numbers that mean nothing are refused, all others are not."""

import pytest
from mmengine.config import Config

from pld_mmdet.engine.config import configs as module
from pld_mmdet.engine.config.configs import (
    check_names,
    check_numbers,
    check_option,
    read_config,
)
from pld_mmdet.engine.run.stack import import_mmdet
from pld_mmdet.errors import UserError
from tests.engine.toy import write_config


@pytest.fixture(scope="module")
def cfg():
    import_mmdet()
    return Config.fromfile("configs/lpld/foggy_streets.py")


@pytest.mark.parametrize(
    ("key", "nearest"),
    [
        ("train_cfg.max_itres", "train_cfg.max_iters"),
        ("trian_cfg.max_iters", "train_cfg.max_iters"),
        ("load_form", "load_from"),
        ("optim_wraper.optimizer.lr", "optim_wrapper.optimizer.lr"),
        ("optim_wrapper.optimizer.momentun", "optim_wrapper.optimizer.momentum"),
        ("train_dataloader.batchsize", "train_dataloader.batch_size"),
        ("train_dataloader.dataset.dataset.data_rot", ".data_root"),
        ("model.hpl_treshold", "model.hpl_threshold"),
        ("model.detector.backbone.dept", "model.detector.backbone.depth"),
        ("model.detector.test_cfg.rcnn.score_th", "rcnn.score_thr"),
        ("default_hooks.checkpoint.max_keep_ckpt", "max_keep_ckpts"),
        ("custom_hooks.0.intervall", None),
        ("custom_hooks.77.keep", None),
        ("randomness.sed", "randomness.seed"),
    ],
)
def test_a_key_that_nothing_reads_is_refused_with_the_nearest(cfg, key, nearest):
    with pytest.raises(UserError) as refused:
        check_option(cfg, key)
    assert f"--cfg-options {key}" in refused.value.what
    if nearest is not None:
        words = nearest.split(".")
        assert refused.value.fix.startswith("Did you mean "), refused.value.fix
        assert refused.value.fix.endswith(f"{words[-1]}?")
        assert ".".join(words[:1]) in refused.value.fix


@pytest.mark.parametrize(
    "key",
    [
        "train_cfg.max_iters",
        "load_from",
        "fine_tune",
        "find_unused_parameters",
        "sync_bn",
        "randomness.deterministic",
        "train_dataloader.pin_memory",
        "train_dataloader.dataset.dataset.indices",
        "optim_wrapper.clip_grad.max_norm",
        "optim_wrapper.optimizer.nesterov",
        "optim_wrapper.accumulative_counts",
        "model.detector.backbone.frozen_stages",
        "model.detector.test_cfg.rcnn.score_thr",
        "model.detector.roi_head.bbox_head.loss_bbox.loss_weight",
        "default_hooks.checkpoint.save_best",
        "custom_hooks.0.priority",
        "visualizer.name",
    ],
)
def test_keys_that_are_read_are_accepted(cfg, key):
    check_option(cfg, key)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("train_cfg.max_iters", -3),
        ("train_cfg.max_iters", 2.5),
        ("train_cfg.val_interval", 0),
        ("train_dataloader.batch_size", 0),
        ("val_dataloader.num_workers", -1),
        ("optim_wrapper.optimizer.lr", -0.02),
        ("optim_wrapper.optimizer.lr", float("inf")),
        ("optim_wrapper.optimizer.momentum", 1.5),
        ("optim_wrapper.clip_grad.max_norm", 0),
        ("model.hpl_threshold", 7),
        ("randomness.seed", -1),
        ("model.anything.at.all", float("nan")),
    ],
)
def test_numbers_that_mean_nothing(cfg, key, value):
    other = cfg.copy()
    check_numbers(other)
    other.merge_from_dict({key: value})
    with pytest.raises(UserError, match=key.replace(".", "[.]")):
        check_numbers(other)


def test_a_config_says_its_line(tmp_path):
    path = tmp_path / "a.py"
    path.write_text("lr = 1\n\nmodel = dict(lr=lr, a=nothing)\n")
    with pytest.raises(UserError, match=r"NameError, line 3: name .nothing."):
        read_config(path)
    assert read_config(write_config(tmp_path), model=True).model.type == "ToyModel"


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ("ipc", 0),
        ("epochs", -1),
        ("num_classes", 2.5),
        ("label_temperature", 0.0),
        ("keep", 1.01),
        ("kl_weight", -0.1),
        ("student.dropout", 1.5),
    ],
)
def test_a_method_argument_that_counts_nothing_is_refused(place, value):
    cfg = Config({"model": {"student": {}}})
    cfg.merge_from_dict({f"model.{place}": value})
    with pytest.raises(UserError, match=f"model.{place}: "):
        check_numbers(cfg)
    near = dict(ipc=1, epochs=3, num_classes=2, kl_weight=0.0).get(place, 0.25)
    cfg.merge_from_dict({f"model.{place}": near})
    check_numbers(cfg)


def test_mmdets_weight_of_minus_one_means_all_alike():
    check_numbers(Config({"model": {"train_cfg": {"rpn": {"pos_weight": -1}}}}))


TOP = {
    "model": {"type": "A"},
    "optim_wrapper": {"type": "OptimWrapper"},
    "env_cfg": {"cudnn_benchmark": False},
    "default_hooks": {"logger": {"type": "LoggerHook"}},
}


@pytest.mark.parametrize(
    ("place", "value", "said"),
    [
        ("optim_wraper", {"optimizer": {"lr": 1}}, "Did you mean optim_wrapper?"),
        ("trian_cfg", {"max_iters": 7}, "Did you mean train_cfg?"),
        ("modle", {"tau": 3}, "Did you mean model?"),
        ("load_form", "a.pth", "Did you mean load_from?"),
        ("finetune", True, "Did you mean fine_tune?"),
        ("custom_hook", [{"type": "A"}], "Did you mean custom_hooks?"),
        ("env_cfg.cudnn_benchmrk", True, "Did you mean env_cfg.cudnn_benchmark?"),
        ("env_cfg.threads", 3, "It reads: cudnn_benchmark, mp_cfg"),
        ("auto_scale_lr.enabled", True, "Did you mean auto_scale_lr.enable?"),
        ("randomness.sede", 3, "Did you mean randomness.seed?"),
        ("default_hooks.loger", {"type": "A"}, "Did you mean default_hooks.logger?"),
    ],
)
def test_a_name_that_is_nearly_one_that_is_read_is_refused(place, value, said):
    cfg = Config(TOP)
    check_names(cfg)
    cfg.merge_from_dict({place: value})
    with pytest.raises(UserError) as caught:
        check_names(cfg)
    assert caught.value.what.startswith(f"{place}: nothing reads this name")
    assert caught.value.fix.startswith(said)


def test_names_of_mmdet_2_are_said(monkeypatch):
    said = []
    monkeypatch.setattr(module, "print_log", lambda text, *_: said.append(text))
    check_names(Config(dict(lr_config=dict(policy="step"), total_epochs=12, lr=0.1)))
    assert sorted(line.split()[-1] for line in said) == [
        "param_scheduler.",
        "train_cfg.max_epochs.",
    ]


def test_variables_of_a_configs_own_are_left_alone():
    mine = dict(
        _model=3,  # by its name
        finetune={"lr": 1},  # no value that fine_tune takes
        val_evaluator_abs={"type": "A"},
        models=["a", "b"],  # used below
        lr_config=dict(step=3),  # like nothing
        auto_scale_lr=dict(enable=True, base_batch_size=8, lr_rule="sqrt"),
        randomness=dict(seed=3, deterministic=True, diff_rank_seed=False),
    )
    cfg = Config(TOP | mine | dict(custom_hooks=[dict(names=["a", "b"])]))
    cfg.default_hooks.my_own = dict(type="A")
    check_names(cfg)
    cfg.custom_hooks[0].names = ["a"]
    with pytest.raises(UserError, match="models: nothing reads"):
        check_names(cfg)
