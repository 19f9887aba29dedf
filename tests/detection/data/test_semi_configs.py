"""Configs of the semi-supervised methods: they build, step, save and resume."""

import copy
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from mmdet.registry import DATASETS, TRANSFORMS
from mmengine.config import Config
from mmengine.registry import init_default_scope

from pld_mmdet.cli import build_runner
from pld_mmdet.detection.data.coco_semi import write_folds
from pld_mmdet.experiments.rows import Experiment
from pld_mmdet.registry import MODELS

CONFIGS = Path(__file__).resolve().parents[3] / "configs"
ALL = sorted(
    str(p.relative_to(CONFIGS))
    for method in ("soft_teacher", "dual_polish")
    for p in (CONFIGS / method).glob("*.py")
)
HEIGHT = 192  # of a generated street


@pytest.mark.parametrize("name", ALL)
def test_model_is_built_and_settings_agree(name):
    cfg = Config.fromfile(CONFIGS / name)
    init_default_scope("mmdet")
    with torch.device("meta"):  # shapes without memory
        model = MODELS.build(copy.deepcopy(cfg.model))
    sampler = cfg.train_dataloader.sampler
    assert sampler.get("batch_size", cfg.train_dataloader.batch_size) == (
        cfg.train_dataloader.batch_size
    )
    averaged = {
        (h.get("teacher", "teacher"), h.get("student", "student"))
        for h in cfg.custom_hooks
        if h.type == "pld_mmdet.RampedEMAHook"
    }
    for teacher, student in averaged:
        assert hasattr(model, teacher)
        assert hasattr(model, student)
    drops = [d for s in cfg.param_scheduler for d in s.get("milestones", [])]
    assert max(drops, default=0) < cfg.train_cfg.max_iters
    if name.startswith("dual_polish"):
        assert ("polish_teacher", "polish_student") in averaged
        stops = [h.get("stop_after") for h in cfg.custom_hooks]
        assert [s for s in stops if s is not None] == [drops[0]]


def test_folds_are_chosen_by_the_environment(monkeypatch):
    monkeypatch.setenv("FOLD", "4")
    cfg = Config.fromfile(CONFIGS / "dual_polish/coco_1pct.py")
    files = [d.ann_file for d in cfg.train_dataloader.dataset.dataset.datasets]
    assert files == [
        "semi_anns/instances_train2017.4@1.json",
        "semi_anns/instances_train2017.4@1-unlabeled.json",
    ]


def test_all_rows_of_the_table_have_the_same_updates_and_labels():
    path = CONFIGS / "soft_teacher/streets_5pct.py"
    rows = {row.name: row for row in Experiment.load(str(path)).rows}
    updates, labels = set(), set()
    for row in rows.values():
        cfg = Config.fromfile(CONFIGS.parent / row.config)
        length = cfg.train_cfg.max_iters
        if row.init:
            length += Config.fromfile(
                CONFIGS.parent / rows[row.init].config
            ).train_cfg.max_iters
        if row.name != "burn_in":
            updates.add(length)
        data = cfg.train_dataloader.dataset.dataset
        labels.add(data.get("datasets", [data])[0].ann_file)
        assert bool(row.init) == bool(cfg.load_from), row.name
    assert len(updates) == 1
    assert labels == {"semi_anns/train.1@5.json"}


UNLIKE_ITS_RATIO = {"soft_teacher/coco_full.py": 2.0}  # the release: 2 at 1:1


@pytest.mark.parametrize("name", ALL)
def test_an_unlabelled_image_weighs_what_a_labelled_one_does(name):
    """Both branches are means over their own images: alpha is their ratio."""
    cfg = Config.fromfile(CONFIGS / name)
    weight = cfg.model.get("unsup_weight")
    if weight is None:
        assert any(word in name for word in ("supervised", "burn_in", "_start"))
        return
    labelled, unlabelled = cfg.train_dataloader.sampler.source_ratio
    assert weight == UNLIKE_ITS_RATIO.get(name, unlabelled / labelled)


def transforms(node):
    """All transform configs below ``node``, nested ones included."""
    if isinstance(node, dict):
        if "type" in node:
            yield node
        node = list(node.values())
    if isinstance(node, list | tuple):
        for value in node:
            yield from transforms(value)


FACTORS = {"Color", "Contrast", "Brightness", "Sharpness"}


@pytest.mark.parametrize("name", ALL)
def test_strong_views_are_the_released_ones(name):
    seen = set()
    for t in transforms(Config.fromfile(CONFIGS / name).train_dataloader.to_dict()):
        if t["type"] == "RandomErasing":
            assert t["n_patches"] == (1, 4)  # mmdet draws both ends
        elif t["type"] == "Posterize":
            assert (t["min_mag"], t["max_mag"]) == (1.0, 4.0)
        elif t["type"] in FACTORS:
            assert (t["min_mag"], t["max_mag"]) == (0.28, 1.72)
        seen.add(t["type"])
    assert seen > FACTORS | {"Posterize"}


def test_posterize_keeps_a_bit_and_factors_stay_in_the_released_range():
    cfg = Config.fromfile(CONFIGS / "soft_teacher/coco_10pct.py")
    init_default_scope("mmdet")
    image = np.full((2, 2, 3), 200, np.uint8)
    made = {c[0].type: TRANSFORMS.build(c[0]) for c in cfg.color.transforms[1:]}
    np.random.seed(0)
    values = {n: set() for n in ("Posterize", "Brightness")}
    for _ in range(300):
        for name, found in values.items():
            # a transform caches its draw within one call only
            out = made[name].transform(dict(img=image.copy()))["img"]
            found.add(int(out[0, 0, 0]))
    assert values["Posterize"] == {128, 192}  # 1, and 2 to 4 bits of 200; never 0
    assert 56 <= min(values["Brightness"]) < 70  # 0.28 of 200
    assert max(values["Brightness"]) == 255


@pytest.mark.parametrize("name", ["burn_in", "supervised"])
def test_labelled_images_keep_their_tight_boxes(name):
    """The labelled branch: a size, a flip, one colour operation; no hull boxes."""
    cfg = Config.fromfile(CONFIGS / f"soft_teacher/streets_5pct_{name}.py")
    semi = Config.fromfile(CONFIGS / "soft_teacher/streets_5pct.py")
    for data in (cfg.train_dataloader.dataset.dataset, semi.labelled):
        types = [t.type for t in data.pipeline]
        assert types[2:5] == ["RandomResize", "RandomFlip", "RandomChoice"]
        geometry = {"Rotate", "ShearX", "ShearY", "TranslateX", "RandomErasing"}
        assert not geometry & {t["type"] for t in transforms(data.pipeline)}


def test_each_view_draws_its_own_size(few_labels):
    cfg = Config.fromfile(CONFIGS / "soft_teacher/streets_5pct.py")
    init_default_scope("mmdet")
    data = moved(cfg.train_dataloader.dataset.dataset.datasets[1].to_dict(), few_labels)
    dataset = DATASETS.build(data)
    np.random.seed(0)
    sizes = [
        [dataset[0]["data_samples"][b].img_shape[0] for b in ("weak", "strong")]
        for _ in range(12)
    ]
    assert sum(a != b for a, b in sizes) >= 10
    assert 0.74 * HEIGHT < min(map(min, sizes)) < 0.9 * HEIGHT
    assert 1.3 * HEIGHT < max(map(max, sizes)) <= 1.5 * HEIGHT
    # a box goes from one view to the other and keeps its place in the picture
    sample = dataset[0]["data_samples"]
    weak, strong = sample["weak"], sample["strong"]
    assert weak.homography_matrix.shape == (3, 3)
    assert not np.allclose(weak.homography_matrix, strong.homography_matrix)


def test_ablations_differ_in_one_thing_only():
    """The threshold of the boxes is that of the row which is compared with."""
    ours = Config.fromfile(CONFIGS / "dual_polish/streets_5pct_categories_only.py")
    theirs = Config.fromfile(CONFIGS / "soft_teacher/streets_5pct.py")
    assert ours.model.reg_threshold == theirs.model.reg_threshold
    assert ours.model.unsup_weight == theirs.model.unsup_weight


def test_a_supervised_row_is_an_average_as_the_teacher_is(few_labels, tmp_path):
    done = runner("soft_teacher/streets_5pct_burn_in.py", few_labels, tmp_path, 3)
    done.train()
    file = torch.load(tmp_path / "iter_3.pth", weights_only=True)
    saved, key = file["state_dict"], "roi_head.bbox_head.fc_cls.weight"
    network = done.model.state_dict()[key]
    assert not torch.equal(saved[key], network)  # what rows start from, and is tested
    assert torch.equal(file["ema_state_dict"][f"module.{key}"], network)
    semi = Config.fromfile(CONFIGS / "soft_teacher/streets_5pct.py")
    keep = next(h.keep for h in semi.custom_hooks if h.type.endswith("RampedEMAHook"))
    for name in ("burn_in", "supervised", "supervised_strong"):
        cfg = Config.fromfile(CONFIGS / f"soft_teacher/streets_5pct_{name}.py")
        (ema,) = [h for h in cfg.custom_hooks if h.type == "EMAHook"]
        assert ema.momentum == pytest.approx(1 - keep)


def test_a_supervised_row_resumes_with_its_average(few_labels, tmp_path):
    name = "soft_teacher/streets_5pct_supervised.py"
    runner(name, few_labels, tmp_path / "whole", 3).train()
    (tmp_path / "part").mkdir()
    first = tmp_path / "part/iter_2.pth"
    shutil.copy(tmp_path / "whole/iter_2.pth", first)
    resumed = dict(resume=True, load_from=str(first))
    runner(name, few_labels, tmp_path / "part", 3, **resumed).train()
    a, b = (
        torch.load(tmp_path / d / "iter_3.pth", weights_only=True)
        for d in ("whole", "part")
    )
    for part in ("state_dict", "ema_state_dict"):
        for key, value in a[part].items():
            assert torch.equal(value, b[part][key]), key


def moved(node, root):
    """The config with its data below ``root`` and the test's fold."""
    if isinstance(node, dict):
        return {k: moved(v, root) for k, v in node.items()}
    if isinstance(node, list | tuple):
        return type(node)(moved(v, root) for v in node)
    if isinstance(node, str):
        node = node.replace("train.1@5", "train.1@25")
        return node.replace("data/foggy_streets/", f"{root}/")
    return node


def runner(name, root, work_dir, iters, changes=None, **top):
    cfg = Config.fromfile(CONFIGS / name)
    cfg = Config(moved(cfg.to_dict(), root))
    cfg.merge_from_dict(
        {
            "train_cfg.max_iters": iters,
            "train_cfg.val_interval": 100,
            "train_dataloader.num_workers": 0,
            "train_dataloader.persistent_workers": False,
            "val_dataloader.num_workers": 0,
            "val_dataloader.persistent_workers": False,
            "default_hooks.checkpoint.interval": 1,
            **(changes or {}),
        }
    )
    cfg.work_dir, cfg.load_from = str(work_dir), None
    cfg.update(top)
    return build_runner(cfg)


@pytest.fixture(scope="module")
def few_labels(street_tree, tmp_path_factory):
    """Two labelled images of eight."""
    root = tmp_path_factory.mktemp("few_labels") / "data"
    shutil.copytree(street_tree, root)
    write_folds(root, "annotations/train.json", [1], [25])
    return root


# A fresh network is sure of nothing: these thresholds let some of its boxes through.
EAGER = {
    "model.detector.test_cfg.rcnn.max_per_img": 8,
    "model.min_score": 0.05,
    "model.rpn_threshold": 0.05,
    "model.cls_threshold": 0.05,
}


def test_dual_polishing_resumes_bit_exactly(few_labels, tmp_path):
    name = "dual_polish/streets_5pct.py"
    changes = EAGER | {
        "train_dataloader.batch_size": 2,
        "train_dataloader.sampler.batch_size": 2,
        "model.box_jitters": (3, 0.2),
        "model.category_jitters": ((2, 0.06), (2, 0.2)),
        "model.polish_threshold": 0.05,
    }
    whole = runner(name, few_labels, tmp_path / "whole", 3, changes)
    whole.train()
    assert whole.model.pseudo_counts["high"].sum() > 0
    # What the run had written when it was killed after two iterations.
    (tmp_path / "part").mkdir()
    first = tmp_path / "part/iter_2.pth"
    shutil.copy(tmp_path / "whole/iter_2.pth", first)
    resumed = dict(resume=True, load_from=str(first))
    runner(name, few_labels, tmp_path / "part", 3, changes, **resumed).train()
    a, b = (
        torch.load(tmp_path / d / "iter_3.pth", weights_only=True)["state_dict"]
        for d in ("whole", "part")
    )
    assert a.keys() == b.keys()
    for key, value in a.items():
        assert torch.equal(value, b[key]), key
    for part in ("polish_teacher.box.fuse.weight", "teacher.backbone.conv1.weight"):
        other = part.replace("teacher", "student", 1)
        assert not torch.equal(a[part], a[other])


@pytest.mark.parametrize("name", ["soft_teacher", "dual_polish"])
def test_an_epoch_without_any_pseudo_box(name, few_labels, tmp_path):
    """Three batches see all six unlabelled images; a fresh network is sure of none."""
    done = runner(f"{name}/streets_5pct.py", few_labels, tmp_path, 3)
    done.train()
    truth = json.loads((tmp_path / "pseudo_truth.json").read_text())
    assert truth["images"] == 6
    assert truth["metrics"]["cls/per_image"] == 0
    assert truth["metrics"]["cls/recall"] == 0
    assert "cls/precision" not in truth["metrics"]  # a share of nothing
    assert torch.stack([i.isfinite().all() for i in done.model.parameters()]).all()
    assert (tmp_path / "iter_3.pth").is_file()


@pytest.mark.parametrize("name", ["streets_5pct", "streets_5pct_supervised_strong"])
def test_streets_take_a_step(name, few_labels, tmp_path):
    changes = EAGER | {"model.reg_threshold": 1.0} if name == "streets_5pct" else {}
    done = runner(f"soft_teacher/{name}.py", few_labels, tmp_path, 1, changes)
    done.train()
    assert (tmp_path / "iter_1.pth").is_file()
    if name == "streets_5pct":
        assert done.model.pseudo_counts["box"].sum() > 0
