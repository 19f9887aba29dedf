"""Configs of DeFRCN, PS-TTL and MarvelOVD: class lists, built models, real steps."""

import json
from pathlib import Path

import pytest
import torch
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.structures import InstanceData

from pld_mmdet.detection.data import fewshot, fewshot_files, ov_coco, ov_files
from pld_mmdet.detection.ps_ttl import PSTTL
from pld_mmdet.engine.run.runner import SafeRunner
from pld_mmdet.experiments.graph import jobs_of
from pld_mmdet.experiments.jobs import JobGraph
from pld_mmdet.experiments.rows import Experiment

CONFIGS = Path(__file__).resolve().parents[3] / "configs"
NAMES = sorted(
    str(path.relative_to(CONFIGS))
    for folder in ("defrcn", "ps_ttl", "marvel_ovd")
    for path in (CONFIGS / folder).glob("*.py")
)
SHOTS = {1: 1000, 2: 1500, 3: 2000, 5: 2500, 10: 4000}


def classes_of(name: str) -> list[str]:
    """What the modules say the label order of a config is."""
    if "voc" in name:
        split = int(name.split("split")[1][0])
        base, novel = fewshot.base_then_novel(fewshot.VOC, fewshot.VOC_NOVEL[split])
    elif name.startswith("marvel_ovd"):
        if "coco" in name:
            return ov_coco.BASE + ov_coco.NOVEL
        return ov_coco.STREETS_BASE + ov_coco.STREETS_NOVEL
    elif "coco" in name:
        return []
    else:
        base, novel = fewshot.base_then_novel(fewshot.STREETS, fewshot.STREETS_NOVEL)
    return base if "base.py" in name else base + novel


@pytest.mark.parametrize("name", NAMES)
def test_class_lists_and_files_agree(name):
    cfg = Config.fromfile(CONFIGS / name)
    head = cfg.model.get("detector", cfg.model).roi_head.bbox_head
    data = [cfg.train_dataloader.dataset.dataset, cfg.test_dataloader.dataset]
    evaluators = [cfg.test_evaluator]
    if cfg.train_cfg.type == "pld_mmdet.OnlineLoop":
        loop = cfg.train_cfg
        data += [
            loop.score_dataloader.dataset.dataset,
            loop.support_dataloader.dataset.dataset,
        ]
        evaluators.append(loop.evaluator)
        # the checkpoint that the stream starts from fits
        k_shot = CONFIGS / "defrcn" / f"{Path(cfg.load_from).parent.name}.py"
        assert cfg.model.detector == Config.fromfile(k_shot).model
        shots = name.split("shot")[0].split("_")[-1]
        assert f"_{shots}shot_" in data[-1].ann_file
        assert f"_{shots}shot/" in cfg.load_from
        assert data[0].ann_file == data[2].ann_file
        assert bool(cfg.model.get("sup_weight")) == loop.merge_support
    lists = [list(d.metainfo.classes) for d in data]
    assert all(len(names) == head.num_classes for names in lists)
    assert all(names == lists[0] for names in lists)
    expected = classes_of(name)
    if name == "marvel_ovd/ov_coco.py":
        assert sorted(lists[0]) == sorted(expected)
        novel = [lists[0][i] for i in cfg.model.novel]
        assert sorted(novel) == sorted(ov_coco.NOVEL)
    elif expected:
        assert lists[0] == expected
    for evaluator in evaluators:
        groups = evaluator.get("groups")
        if groups:
            assert sorted(groups.base + groups.novel) == sorted(lists[0])
            assert evaluator.ann_file.endswith(data[1].ann_file)


def test_coco_has_60_base_and_20_novel_classes_and_reports_nap():
    for name in ("defrcn/coco_1shot.py", "ps_ttl/coco_10shot.py"):
        cfg = Config.fromfile(CONFIGS / name)
        classes = list(cfg.classes)
        assert classes[60:] == fewshot.COCO_NOVEL
        assert len(set(classes)) == 80
        assert set(ov_coco.BASE) < set(classes)
        assert cfg.test_evaluator.average
        assert cfg.test_evaluator.report == "coco/AP"


@pytest.mark.parametrize(("shots", "length"), SHOTS.items())
def test_lengths_of_k_shot_training(shots, length):
    cfg = Config.fromfile(CONFIGS / f"defrcn/voc_split2_{shots}shot.py")
    assert cfg.train_cfg.max_iters == length
    assert cfg.param_scheduler[0].milestones == [length * 4 // 5]


def test_the_released_recipe():
    cfg = Config.fromfile(CONFIGS / "ps_ttl/voc_split1_1shot.py")
    assert cfg.optim_wrapper.optimizer.lr == 6.25e-4
    assert cfg.model.sup_weight == 0
    assert cfg.model.teacher_train_mode
    ema = next(h for h in cfg.custom_hooks if h.type == "pld_mmdet.TeacherEMAHook")
    assert (ema.keep, ema.moment) == (0.9998, "before")


def test_r101_c4_takes_a_step():
    """The real detector on one small image: frozen parts, sizes, gradients."""
    init_default_scope("mmdet")
    cfg = Config.fromfile(CONFIGS / "defrcn/voc_split1_1shot.py")
    cfg.model.train_cfg.rpn_proposal.max_per_img = 50
    torch.manual_seed(0)
    model = MODELS.build(cfg.model).train()
    truth = InstanceData(
        bboxes=torch.tensor([[10.0, 10, 90, 80]]), labels=torch.tensor([19])
    )
    sample = DetDataSample(
        metainfo=dict(img_shape=(128, 128), pad_shape=(128, 128)), gt_instances=truth
    )
    losses = model.loss(torch.randn(1, 3, 128, 128), [sample])
    total, _ = model.parse_losses(losses)
    total.backward()
    trained = {n for n, p in model.named_parameters() if p.grad is not None}
    assert {n.split(".")[1] for n in trained if n.startswith("backbone")} == {"layer3"}
    assert not any("shared_head" in n for n in trained)
    assert model.roi_head.bbox_head.fc_cls.weight.shape == (21, 2048)
    assert model.rpn_head.num_base_priors == 15


def prepared(name: str, streets: Path, work_dir: Path) -> Config:
    """A config on the fixture's data, without worker processes."""

    def moved(value):
        if isinstance(value, dict):
            return {k: moved(v) for k, v in value.items()}
        if isinstance(value, (list, tuple)):
            return type(value)(moved(v) for v in value)
        if isinstance(value, str):
            return value.replace("data/foggy_streets/", f"{streets}/")
        return value

    cfg = moved(Config.fromfile(CONFIGS / name).to_dict())
    loaders = [cfg["train_dataloader"], cfg["val_dataloader"], cfg["test_dataloader"]]
    loaders += [cfg["train_cfg"].get(f"{k}_dataloader") for k in ("score", "support")]
    for loader in filter(None, loaders):
        loader.update(num_workers=0, persistent_workers=False)
    cfg.update(work_dir=str(work_dir), load_from=None, log_level="WARNING")
    return Config(cfg)


@pytest.mark.parametrize(
    ("name", "first", "count"),
    [
        ("ps_ttl/streets_3shot.py", "base", 10),
        ("marvel_ovd/streets.py", "start", 7),
    ],
)
def test_every_row_of_a_table_starts_from_the_same_detector(
    name, first, count, monkeypatch
):
    monkeypatch.chdir(CONFIGS.parent)
    experiment = Experiment.load(f"configs/{name}")
    rows = {row.name: row for row in experiment.rows}
    assert len(rows) == count
    for row in experiment.rows:
        while row.init:
            row = rows[row.init]
        assert row.name == first
    jobs = jobs_of(experiment, [0, 1], Path("out"))
    assert set(JobGraph(jobs, Path("out")).jobs) >= {"data", "seed_1/data"}
    # the seed reaches the shots, or the simulated errors, of every training but base's
    for job in jobs:
        if job.name.startswith("seed_1/") and job.name.endswith("/train"):
            assert "seed1.json" in " ".join(job.command) or first == "base"
            assert "{seed}" not in job.key


def test_ps_ttl_on_the_embedded_data(streets, tmp_path):
    list(fewshot_files.write("streets", streets, [1]))
    cfg = prepared("ps_ttl/streets_1shot.py", streets, tmp_path)
    runner = SafeRunner.from_cfg(cfg)
    runner.train()
    model = runner.model
    assert isinstance(model, PSTTL)
    assert runner.train_loop.iter == 3
    assert model.memory.counts.min() >= 1
    assert (tmp_path / "online.json").is_file()
    truth = json.loads((tmp_path / "pseudo_truth.json").read_text())
    assert truth["images"] == 3
    assert {"known/per_image", "unknown/per_image"} <= truth["metrics"].keys()
    assert (tmp_path / "iter_3.pth").is_file()


def test_the_k_shot_step_leaves_features_alone(streets, tmp_path):
    """What makes a RoI's features is frozen; RPN, affines and both outputs learn."""
    list(fewshot_files.write("streets", streets, [1]))
    cfg = prepared("defrcn/streets_1shot.py", streets, tmp_path)
    cfg.train_cfg.update(max_iters=2, val_interval=100)
    cfg.default_hooks.checkpoint.interval = 1
    runner = SafeRunner.from_cfg(cfg)
    runner.train()
    before, after = (
        torch.load(tmp_path / f"iter_{n}.pth", weights_only=True)["state_dict"]
        for n in (1, 2)
    )
    moved = {n for n, p in after.items() if not torch.equal(p, before[n])}
    frozen = ("backbone.", "neck.", "roi_head.bbox_head.shared_fcs.")
    assert not [n for n in moved if n.startswith(frozen)]
    assert any(n.startswith("neck.") for n in before)
    assert {n.rpartition(".")[0] for n in moved} >= {
        "roi_head.bbox_head.fc_cls",
        "roi_head.bbox_head.fc_reg",
        "roi_head.bbox_roi_extractor.decouple",
        "rpn_head.rpn_cls",
    }
    assert type(runner.optim_wrapper.optimizer) is torch.optim.SGD
    assert runner.model.roi_head.bbox_head.fc_cls.p == 0.5


def test_marvel_ovd_on_the_embedded_data(streets, tmp_path):
    list(ov_files.write("streets", streets))
    cfg = prepared("marvel_ovd/streets.py", streets, tmp_path)
    cfg.train_cfg.update(max_iters=3, val_interval=3)
    cfg.model.burn_in = 0
    cfg.param_scheduler = []
    runner = SafeRunner.from_cfg(cfg)
    runner.train()
    assert runner.model.steps.item() == 3
    metrics = runner.message_hub.log_scalars
    assert "val/coco/AP50_novel" in metrics


def test_candidates_are_measured_against_the_hidden_truth(streets, tmp_path):
    list(ov_files.write("streets", streets))
    cfg = prepared("marvel_ovd/streets_vl_plm.py", streets, tmp_path)
    cfg.train_cfg.update(max_iters=2, val_interval=100)
    cfg.param_scheduler = []
    for hook in cfg.custom_hooks:
        if hook.type == "pld_mmdet.PseudoTruthHook":
            hook.begin = 0
    SafeRunner.from_cfg(cfg).train()
    found = json.loads((tmp_path / "pseudo_truth.json").read_text())
    assert found["images"] == 4
    assert found["counts"]["novel/boxes"] > 0
    # all candidates are labels, whatever they really are, and no base box is
    kinds = {name: value for name, value in found["metrics"].items() if "kept" in name}
    assert kinds
    assert set(kinds.values()) == {1.0}
    assert "novel/precision_base" not in found["metrics"]
