"""Designs that are committed before they are run: every row is built."""

import copy
import shutil
from functools import cache
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope

from pld_mmdet.cli import build_runner
from pld_mmdet.detection.data import fewshot_files, ov_files
from pld_mmdet.detection.data.coco_semi import write_folds
from pld_mmdet.experiments.graph import jobs_of
from pld_mmdet.experiments.options import parse_options
from pld_mmdet.experiments.rows import Experiment
from pld_mmdet.registry import MODELS

ROOT = Path(__file__).resolve().parents[2]
EXPERIMENTS = (
    "_base_/experiments/foggy_streets_guard",
    "_base_/experiments/foggy_streets_fresh",
    "best/ingredients",
    "best/retinanet",
    "lpld/streets_a",
    "soft_teacher/streets_s",
    "ps_ttl/streets_stream_10shot",
    "marvel_ovd/streets_v2",
)


def rows() -> list:
    found = []
    for name in EXPERIMENTS:
        experiment = Experiment.load(str(ROOT / f"configs/{name}.py"))
        for row in experiment.rows:
            if not row.command:
                found.append(pytest.param(row, id=f"{name}-{row.name}"))
    return found


@cache
def read(path: str) -> Config:
    return Config.fromfile(ROOT / path)


def resolved(path: str, options=()) -> Config:
    cfg = copy.deepcopy(read(path))
    cfg.merge_from_dict(parse_options([o for o in options if "{seed}" not in o]))
    return cfg


def built(cfg: Config):
    init_default_scope("mmdet")
    model = copy.deepcopy(cfg.model)
    model.pop("truth", None)
    if model.type == "pld_mmdet.CeilingMeanTeacher":  # reads the labels of real data
        model.type = "pld_mmdet.MeanTeacherSFOD"
        model.pop("kind")
    # shapes without memory; a text classifier looks at the values of its vectors
    with torch.device("cpu" if "TextEmbedding" in str(model) else "meta"):
        return MODELS.build(model)


@pytest.mark.parametrize("row", rows())
def test_a_row_is_built_and_its_checkpoint_fits_what_tests_it(row):
    trained = built(resolved(row.config, row.options))
    ours = set(trained.state_dict())
    for config in row.evaluate.values():
        path = config if isinstance(config, str) else row.config
        tested = set(built(resolved(path)).state_dict())
        plain = {k for k in ours if not k.startswith(("student.", "teacher."))}
        assert ours == tested or {f"student.{k}" for k in plain} <= tested


GATED = {
    "soft_teacher/streets_s": ({"start"}, 2),
    "ps_ttl/streets_stream_10shot": ({"base", "frozen"}, 6),
    "marvel_ovd/streets_v2": ({"mining"}, 2),
}


@pytest.mark.parametrize("name", sorted({*EXPERIMENTS} - {"best/ingredients"}))
def test_a_design_makes_a_graph_and_its_gates_ask_about_its_rows(name, monkeypatch):
    monkeypatch.chdir(ROOT)
    experiment = Experiment.load(f"configs/{name}.py")
    jobs = jobs_of(experiment, [10], Path("out"), quick=True)
    assert len(jobs) > len(experiment.rows)
    assert not any("{seed}" in " ".join(job.command) for job in jobs)
    assert "data/foggy_streets_quick" in " ".join(w for j in jobs for w in j.command)
    rows, count = GATED.get(name, (set(), 0))
    assert {n for gate in experiment.gates for n in gate.rows()} == rows
    assert len(experiment.gates) == count


# Short forms on tiny data.


def moved(node, roots: list[str], to: str):
    """A config whose data lies below ``to``, without worker processes."""
    if isinstance(node, dict):
        node = {k: moved(v, roots, to) for k, v in node.items()}
        if "num_workers" in node:
            node |= dict(num_workers=0, persistent_workers=False)
        return node
    if isinstance(node, list | tuple):
        return type(node)(moved(v, roots, to) for v in node)
    if isinstance(node, str):
        for root in roots:
            node = node.replace(root, f"{to}/")
        return node.replace("train.1@5", "train.1@25").replace("10shot", "1shot")
    return node


@pytest.fixture(scope="module")
def tiny(street_tree, tmp_path_factory):
    root = tmp_path_factory.mktemp("lab") / "data"
    shutil.copytree(street_tree, root)
    write_folds(root, "annotations/train.json", [1], [25])
    list(fewshot_files.write("streets", root, [1]))
    list(ov_files.write("streets", root, versions=(1, 2)))
    return root


EAGER = [
    "model.detector.test_cfg.rcnn.max_per_img=8",
    "model.min_score=0.05",
    "model.rpn_threshold=0.05",
    "model.cls_threshold=0.05",
    "train_dataloader.batch_size=4",
]
SHORT = {
    "best/ingredients": ["model.hpl_threshold=0.05"],
    "lpld/streets_clean": ["model.hpl_threshold=0.05"],
    "lpld/streets_b": ["model.hpl_threshold=0.05"],
    "mean_teacher/streets_frozen_norm": ["model.hpl_threshold=0.05"],
    "soft_teacher/streets_s_start": [],
    "soft_teacher/streets_s_supervised_strong": [],
    "soft_teacher/streets_s": [
        *EAGER,
        "model.reg_threshold=None",
        "model.refine_boxes=True",
    ],
    "dual_polish/streets_s": [*EAGER, "model.polish_threshold=0.05"],
    "defrcn/streets_stream_base": [],
    "defrcn/streets_stream_10shot": [],
    "ps_ttl/streets_stream_10shot": [
        "model.known_threshold=0.3",
        "model.unknown_threshold=0.05",
        "model.ignore_unknown=True",
    ],
    "marvel_ovd/streets_v2_start": [],
    "marvel_ovd/streets_v2": [],
}


@pytest.mark.parametrize("name", SHORT)
def test_a_short_form_runs(name, tiny, tmp_path):
    cfg = resolved(f"configs/{name}.py", SHORT[name])
    roots = ["data/foggy_streets_3200/", "data/foggy_streets_stream/"]
    cfg = Config(moved(cfg.to_dict(), [*roots, "data/foggy_streets/"], str(tiny)))
    cfg.update(work_dir=str(tmp_path), load_from=None, log_level="WARNING")
    if cfg.train_cfg.type == "IterBasedTrainLoop":
        cfg.train_cfg.update(max_iters=2, val_interval=100)
        cfg.default_hooks.checkpoint.interval = 2
    cfg.param_scheduler = []
    cfg.custom_hooks = [h for h in cfg.custom_hooks if "AdaBN" not in h.type]
    runner = build_runner(cfg)
    runner.train()
    parameters = [p.isfinite().all() for p in runner.model.parameters()]
    assert torch.stack(parameters).all()
    assert list(tmp_path.glob("iter_*.pth"))
