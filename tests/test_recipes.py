"""The functions that configs call, and what a row takes when it says nothing."""

import json

import pytest
from mmengine.config import Config

from pld_mmdet.experiments.rows import Experiment, recorded_seconds
from pld_mmdet.recipes import iterations, loader, loaders, optimizer


def test_a_training_loader_is_shuffled_resumed_and_seeded():
    made = loader(dict(type="D", part="train"), 7, train=True, seeded=True, workers=2)
    assert made["batch_size"] == 7
    assert made["sampler"] == dict(
        type="pld_mmdet.ResumableSampler", shuffle=True, infinite=True
    )
    assert made["dataset"] == dict(
        type="pld_mmdet.SeededDataset", dataset=dict(type="D", part="train")
    )
    assert made["persistent_workers"]
    passes = loader(dict(type="D"), 7, train=True, epochs=True)
    assert passes["sampler"]["infinite"] is False
    assert "persistent_workers" not in passes  # torch refuses it without workers


def test_parts_share_what_they_have_in_common():
    train, val, test = loaders(
        dict(type="D", size=8),
        5,
        train=dict(part="train", size=9),
        test=dict(part="test"),
        eval_batch=11,
    )
    assert train["dataset"] == dict(type="D", size=9, part="train")
    assert val is None
    assert (test["batch_size"], test["dataset"]["size"]) == (11, 8)
    assert test["sampler"] == dict(type="DefaultSampler", shuffle=False)


def test_an_optimizer_and_a_loop():
    made = optimizer("SGD", 0.3, momentum=0.8, clip_grad=dict(max_norm=2.0))
    assert made["optimizer"] == dict(type="SGD", lr=0.3, momentum=0.8)
    assert made["clip_grad"] == dict(max_norm=2.0)
    assert iterations(90)["val_interval"] == 90
    assert iterations(90, 30)["val_interval"] == 30


def test_the_digits_of_a_base_are_what_the_function_makes():
    cfg = Config.fromfile("configs/_base_/datasets/digits.py")
    made = loaders(
        dict(type="pld_mmdet.Digits"),
        64,
        train=dict(part="train"),
        val=dict(part="val"),
        test=dict(part="test"),
    )
    names = ("train_dataloader", "val_dataloader", "test_dataloader")
    assert [cfg[name].to_dict() for name in names] == list(made)


@pytest.fixture
def table(tmp_path):
    text = (
        "from pld_mmdet.recipes import row\n"
        "experiment = dict(name='mine', rows=[row('plain', 'P'), "
        "row('whole', 'W', 'a=3', init='plain')])\n"
    )
    base = tmp_path / "base.py"
    base.write_text("a = 1\n")
    config = tmp_path / "toy.py"
    config.write_text("_base_ = './base.py'\n" + text)
    (tmp_path / "plain.py").write_text("a = 2\n")
    return config


def test_a_row_finds_its_config_by_its_name(table):
    plain, whole = Experiment.load(str(table)).rows
    assert plain.config == str(table.with_name("plain.py"))
    assert whole.config == str(table)
    assert whole.options == ["a=3"]
    assert whole.init == "plain"
    assert plain.seconds == 60.0  # never recorded


def test_a_test_with_options_has_those_of_its_row_too(table, tmp_path):
    text = table.read_text()
    table.write_text(
        text + "experiment['rows'][1]['evaluate'] = dict(one=None, two=['b=5'])\n"
    )
    jobs = Experiment.load(str(table)).jobs([7], tmp_path / "out")
    by_name = {job.name: job for job in jobs}
    one = by_name["seed_7/whole/test_one"].command
    two = by_name["seed_7/whole/test_two"].command
    assert "--cfg-options" not in one
    assert two[two.index("--cfg-options") + 1 :] == ("a=3", "b=5")


def test_the_time_of_a_row_is_the_recorded_one(tmp_path):
    rows = [dict(name="plain", minutes=1.5), dict(name="whole")]
    (tmp_path / "mine.json").write_text(json.dumps(dict(rows=rows)))
    assert recorded_seconds("mine", "plain", tmp_path) == 90.0
    assert recorded_seconds("mine", "whole", tmp_path) == 60.0
    assert recorded_seconds("other", "plain", tmp_path) == 60.0
