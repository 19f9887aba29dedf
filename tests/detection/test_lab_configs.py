"""Designs that are committed before they are run: every row is built."""

import copy
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope

from pld_mmdet.experiments.rows import Experiment, parse_options
from pld_mmdet.registry import MODELS

ROOT = Path(__file__).resolve().parents[2]
EXPERIMENTS = ("best/ingredients",)


def rows() -> list:
    found = []
    for name in EXPERIMENTS:
        experiment = Experiment.load(str(ROOT / f"configs/{name}.py"))
        for row in experiment.rows:
            if not row.command:
                found.append(pytest.param(row, id=f"{name}-{row.name}"))
    return found


def resolved(path: str, options=()) -> Config:
    cfg = Config.fromfile(ROOT / path)
    cfg.merge_from_dict(parse_options([o for o in options if "{seed}" not in o]))
    return cfg


def built(cfg: Config):
    init_default_scope("mmdet")
    model = copy.deepcopy(cfg.model)
    model.pop("truth", None)
    if model.type == "pld_mmdet.CeilingMeanTeacher":  # reads the labels of real data
        model.type = "pld_mmdet.MeanTeacherSFOD"
        model.pop("kind")
    with torch.device("meta"):  # shapes without memory
        return MODELS.build(model)


@pytest.mark.parametrize("row", rows())
def test_a_row_is_built_and_its_checkpoint_fits_what_tests_it(row):
    trained = built(resolved(row.config, row.options))
    ours = set(trained.state_dict())
    for config in row.evaluate.values():
        tested = set(built(resolved(config or row.config)).state_dict())
        plain = {k for k in ours if not k.startswith(("student.", "teacher."))}
        assert ours == tested or {f"student.{k}" for k in plain} <= tested


def test_the_ablation_has_each_part_alone_and_left_out(monkeypatch):
    monkeypatch.chdir(ROOT)
    experiment = Experiment.load("configs/best/ingredients.py")
    names = [row.name for row in experiment.rows]
    alone = {n.removeprefix("with_") for n in names if n.startswith("with_")}
    without = {n.removeprefix("no_") for n in names if n.startswith("no_")}
    assert alone == without
    assert len(alone) == 8
    rows = {row.name: row for row in experiment.rows}
    whole = resolved("configs/best/ingredients.py").model
    base = resolved("configs/best/long.py").model
    on = built(resolved("configs/best/ingredients.py")).ingredients.given()
    assert len(on) == 6
    for name in alone - {"plain_mosaic"}:
        one = resolved(rows[f"with_{name}"].config, rows[f"with_{name}"].options).model
        assert {k for k in one if one[k] != base.get(k)} == {name}
        rest = resolved(rows[f"no_{name}"].config, rows[f"no_{name}"].options).model
        assert {k for k in rest if rest[k] != whole[k]} == {name}
        assert not rest[name]
    jobs = {job.name for job in experiment.jobs([10], Path("out"))}
    assert {f"seed_10/{name}/test_val" for name in names} <= jobs
