"""The table of the room: every row is built, differs as it says, and can be tested."""

import copy
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope

from pld_mmdet.adaptation.compose import strong_view
from pld_mmdet.experiments.graph import jobs_of
from pld_mmdet.experiments.options import parse_options
from pld_mmdet.experiments.rows import Experiment
from pld_mmdet.registry import MODELS

ROOT = Path(__file__).resolve().parents[3]
EXPERIMENT = Experiment.load(str(ROOT / "configs/best/foggy_streets.py"))
ROWS = {row.name: row for row in EXPERIMENT.rows}
ADAPTED = [
    row.name
    for row in EXPERIMENT.rows
    if row.init and not row.command and row.name != "adabn"
]


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


def test_best_differs_from_mean_teacher_in_the_erasing_alone():
    best, base = (config(ROWS[n].config).to_dict() for n in ("best", "mean_teacher"))
    changed = {k for k in best if best[k] != base.get(k) and not k.startswith("_")}
    assert changed <= {"experiment", "train_pipeline", "train_dataloader", "views"}
    ours, theirs = (
        cfg["train_dataloader"]["dataset"]["dataset"]["pipeline"]
        for cfg in (best, base)
    )
    kept = [t for t in theirs[-1]["strong"] if "Erase" not in t["type"]]
    assert len(kept) == len(theirs[-1]["strong"]) - 3
    assert ours == [*theirs[:-1], {**theirs[-1], "strong": kept}]


def test_adapt_composes_the_strong_view_of_the_best_recipe():
    (views,) = config(ROWS["best"].config).train_pipeline[-1:]
    theirs = [dict(t) for t in views.strong[:-1]]
    for step in theirs:
        step.pop("channel_order", None)  # a quirk of the release's reader
    assert strong_view() == theirs


def test_the_command_makes_a_graph_of_all_rows():
    jobs = {
        job.name: job for job in jobs_of(EXPERIMENT, [0, 1], Path("out"), quick=True)
    }
    assert {f"seed_1/{name}/train" for name in ROWS} <= set(jobs)
    adapt = jobs["seed_1/adapted/train"].command
    assert adapt[1] == "tools/adapt.py"
    assert adapt[adapt.index("--method") + 1] == "lpld"
    assert adapt[adapt.index("--select") + 1] == "last"
