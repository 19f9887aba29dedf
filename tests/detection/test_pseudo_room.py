"""The table of the room: every row is built, differs as it says, and can be tested."""

import copy
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope

from pld_mmdet.engine.experiment import Experiment, parse_options
from pld_mmdet.registry import MODELS

ROOT = Path(__file__).resolve().parents[2]
EXPERIMENT = Experiment.load(
    str(ROOT / "configs/mean_teacher/foggy_streets_combined.py")
)
ROWS = {row.name: row for row in EXPERIMENT.rows}
ADAPTED = [row.name for row in EXPERIMENT.rows if row.init and row.name != "adabn"]


def config(path: str, options=()) -> Config:
    cfg = Config.fromfile(ROOT / path)
    cfg.merge_from_dict(parse_options(options))
    return cfg


def entries(cfg: Config) -> set:
    init_default_scope("mmdet")
    with torch.device("meta"):  # shapes without memory
        return set(MODELS.build(copy.deepcopy(cfg.model)).state_dict())


@pytest.mark.parametrize("name", ADAPTED)
def test_a_rows_checkpoint_fits_the_config_that_tests_it(name):
    row = ROWS[name]
    trained = config(row.config, row.options)
    (evaluation,) = row.evaluate.values()
    assert entries(trained) == entries(config(evaluation or row.config))
    assert row.init == "source"


def test_all_adapted_rows_have_one_length_and_one_data_set():
    seen = set()
    for name in ADAPTED:
        cfg = config(ROWS[name].config, ROWS[name].options)
        data = cfg.train_dataloader.dataset.dataset
        seen.add((cfg.train_cfg.max_iters, cfg.train_dataloader.batch_size, data.type))
        assert "ann_file" not in data
        assert cfg.model.predict_on == "teacher"
    assert seen == {(400, 4, "pld_mmdet.ImageFolder")}


def test_an_ablation_changes_only_what_its_name_says():
    base = config(ROWS["mean_teacher"].config).to_dict()
    for name in (
        "ignore_band",
        "class_thresholds",
        "large_view",
        "two_views",
        "combined",
    ):
        cfg = config(ROWS[name].config, ROWS[name].options).to_dict()
        changed = {key for key in cfg if cfg[key] != base.get(key)}
        # what a config computes with, and the table itself, change no number
        changed = {key for key in changed if not key.startswith("_")}
        assert changed - {"experiment"} == {"model"}, name
        more = {k for k in cfg["model"] if cfg["model"][k] != base["model"].get(k)}
        assert more <= {"ignore_above", "class_thresholds", "teacher_scales"}, name
        assert more, name


def test_the_command_makes_a_graph_of_all_rows():
    jobs = EXPERIMENT.jobs([0, 1], Path("out"), quick=True)
    names = {job.name for job in jobs}
    assert {f"seed_1/{name}/train" for name in ROWS} <= names
    (band,) = [job for job in jobs if job.name == "seed_0/ignore_band/train"]
    assert "model.ignore_above=0.3" in band.command
