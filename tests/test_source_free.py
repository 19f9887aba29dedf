"""No label of the target can reach the adapted weights."""

import json
from pathlib import Path

import torch
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.registry import init_default_scope

from tests.engine.processes import Tool

ROOT = Path(__file__).resolve().parents[1]
CONFIG = ROOT / "configs/lpld/foggy_streets.py"


def adapt(work_dir, data, source):
    """Adapt for three iterations with the real command; return the checkpoint."""
    options = [
        f"load_from={source}",
        "train_cfg.max_iters=3",
        "train_cfg.val_interval=3",
        "train_dataloader.num_workers=0",
        "train_dataloader.persistent_workers=False",
        f"train_dataloader.dataset.dataset.data_root={data}",
        f"val_dataloader.dataset.data_root={data}",
        f"test_dataloader.dataset.data_root={data}",
        f"val_evaluator.ann_file={data}/annotations/val_foggy_beta_0.02.json",
        f"test_evaluator.ann_file={data}/annotations/test_foggy_beta_0.02.json",
        "model.hpl_threshold=0.05",
        "default_hooks.checkpoint.interval=3",
        "model.lpl_min_certainty=0.1",
    ]
    words = [CONFIG, "--work-dir", work_dir, "--cfg-options", *options]
    Tool("train", *words, log=work_dir.with_suffix(".log")).finish()
    return torch.load(work_dir / "iter_3.pth", weights_only=True)


def test_adapting_with_noise_for_annotations_gives_the_same_weights(streets, tmp_path):
    init_default_scope("mmdet")
    cfg = Config.fromfile(CONFIG)
    torch.manual_seed(0)
    detector = MODELS.build(cfg.model.detector)
    detector.init_weights()
    torch.nn.init.normal_(detector.roi_head.bbox_head.fc_cls.weight, std=0.5)
    source = tmp_path / "source.pth"
    torch.save(dict(state_dict=detector.state_dict(), meta={}), source)

    with_truth = adapt(tmp_path / "truth", streets, source)
    noisy = tmp_path / "noisy"
    noisy.mkdir()
    (noisy / "leftImg8bit_foggy").symlink_to(streets / "leftImg8bit_foggy")
    (noisy / "annotations").mkdir()
    for path in (streets / "annotations").glob("*.json"):
        annotations = json.loads(path.read_text())
        for n, box in enumerate(annotations["annotations"]):
            box.update(
                bbox=[n % 7, n % 5, 9 + n % 50, 8 + n % 40], category_id=1 + n % 8
            )
        (noisy / "annotations" / path.name).write_text(json.dumps(annotations))
    with_noise = adapt(tmp_path / "noise", noisy, source)

    assert with_truth["state_dict"].keys() == with_noise["state_dict"].keys()
    for name, value in with_truth["state_dict"].items():
        assert torch.equal(value, with_noise["state_dict"][name]), name
    # and the run was not idle: the student moved away from the source
    moved = [
        not torch.equal(value, detector.state_dict()[name.removeprefix("student.")])
        for name, value in with_truth["state_dict"].items()
        if name.startswith("student.") and name.endswith("weight")
    ]
    assert any(moved)
