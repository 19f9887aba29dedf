"""A user's folder of images in the place of a toy's data."""

from argparse import Namespace
from pathlib import Path

import cv2
import numpy as np
import pytest
from mmengine.config import Config
from mmengine.registry import DATASETS, MODELS

from pld_mmdet.catalogue import ROOT, entries
from pld_mmdet.cli import load_config
from pld_mmdet.errors import UserError
from pld_mmdet.shared import Digits
from pld_mmdet.shared.data.class_images import class_files, part_files
from pld_mmdet.shared.data.own_images import use_image_folder
from tests.classification.helpers import load, train

TOYS = [e.files["toy config"] for e in entries() if e.family == "classification"]
TOYS = [path for path in TOYS if (ROOT / path).is_file()]


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    """Three classes of 25 images, each class of one grey and some noise."""
    root, dice = tmp_path_factory.mktemp("photos"), np.random.default_rng(0)
    for label, name in enumerate(("ash", "birch", "cedar")):
        (root / name).mkdir()
        for i in range(25):
            image = np.full((12, 20, 3), 60 + 70 * label, np.uint8)
            image += dice.integers(0, 20, image.shape, dtype=np.uint8)
            cv2.imwrite(str(root / name / f"{i:02d}.png"), image)
    return root


def datasets(node) -> list[dict]:
    if isinstance(node, list | tuple):
        return [one for part in node for one in datasets(part)]
    if not isinstance(node, dict):
        return []
    own = [node] if str(node.get("type")).endswith(("Digits", "StreetCrops")) else []
    return own + [one for part in node.values() for one in datasets(part)]


@pytest.mark.parametrize("config", TOYS)
def test_every_toy_reads_the_folder_everywhere(config, photos):
    cfg = Config.fromfile(ROOT / config)
    cfg.image_folder = str(photos)
    use_image_folder(cfg)
    found = datasets(cfg._cfg_dict)
    assert {node["data_root"] for node in found} == {str(photos)}
    assert len(found) > 2
    text = str(cfg.model)
    assert "num_classes': 10" not in text
    assert "32, 10" not in text
    part = next(node for node in found if node.get("part") == "val")
    part = {k: v for k, v in part.items() if k in ("type", "part", "data_root")}
    assert len(DATASETS.build(part)) == 12  # 4 of 25 a class


def test_digits_read_a_folder_in_fixed_parts(photos):
    parts = {part: Digits(part, data_root=str(photos)) for part in ("train", "val")}
    whole = Digits("all", data_root=str(photos))
    assert [len(d) for d in (parts["train"], parts["val"], whole)] == [45, 12, 75]
    assert whole.metainfo["classes"] == ("ash", "birch", "cedar")
    bright = [
        parts["train"].images[parts["train"].targets == c].mean() for c in range(3)
    ]
    assert np.allclose(bright, [(60 + 70 * c + 9.5) / 255 for c in range(3)], atol=0.01)
    assert parts["train"][3]["inputs"].shape == (1, 8, 8)
    few = Digits("train", classes=[2, 0], labelled=4, data_root=str(photos))
    assert np.bincount(few.targets).tolist() == [4, 4]
    assert few.metainfo["classes"] == ("ash", "cedar")
    with pytest.raises(UserError, match="Choose from 0 to 2"):
        Digits("train", classes=[7], data_root=str(photos))


@pytest.mark.parametrize("config", ["ps_kd/toy.py", "bd_kd/toy.py"])
def test_a_toy_learns_from_the_folder(config, photos, tmp_path):
    cfg = load(config, tmp_path, [f"image_folder={photos}"])
    for part in ("train", "val", "test"):
        cfg[f"{part}_dataloader"].dataset.pop("labelled", None)
    if "num_samples" in cfg.model:
        cfg.model.num_samples = 45
    use_image_folder(cfg)
    runner = train(cfg)
    x = next(iter(runner.train_dataloader))["inputs"]
    assert runner.model.eval().outputs(x).shape[1] == 3


def test_one_option_of_the_command_line(photos):
    args = Namespace(
        config=ROOT / "configs/ssld/toy.py",
        cfg_options=[f"image_folder={photos}"],
        launcher="none",
        work_dir="none",
        local_rank=0,
    )
    cfg = load_config(args)
    assert cfg.test_dataloader.dataset.data_root == str(photos)
    assert cfg.model.student.sizes == [64, 32, 3]
    assert MODELS.build(cfg.model.student)[-1].out_features == 3


def test_a_file_that_is_linked_twice_is_in_one_part(tmp_path):
    for name in ("ash", "birch"):
        (tmp_path / name).mkdir()
        for i in range(4):
            (tmp_path / name / f"{i}.png").write_bytes(b"1")
    (tmp_path / "ash/a.png").symlink_to("3.png")
    (tmp_path / "ash/b.png").symlink_to("gone.png")
    (tmp_path / "ash/._0.png").write_bytes(b"1")
    found = class_files(tmp_path)["ash"]
    assert [path.name for path in found] == ["0.png", "1.png", "2.png", "3.png"]
    parts = [part_files(tmp_path, part)["ash"] for part in ("train", "val", "test")]
    names = [path.name for part in parts for path in part]
    assert sorted(names) == ["0.png", "1.png", "2.png", "3.png"]


def test_what_is_wrong_is_said(tmp_path, photos):
    cfg = Config.fromfile(ROOT / "configs/taid/toy.py")
    cfg.image_folder = str(photos)
    with pytest.raises(UserError, match="neither digits nor street crops"):
        use_image_folder(cfg)
    cfg = Config.fromfile(ROOT / "configs/ps_kd/toy.py")
    cfg.image_folder = str(tmp_path / "none")
    with pytest.raises(UserError, match="There is no folder"):
        use_image_folder(cfg)
    (tmp_path / "alone").mkdir()
    cfg.image_folder = str(tmp_path)
    with pytest.raises(UserError, match="one class alone"):
        use_image_folder(cfg)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="has no images"):
        use_image_folder(cfg)
    for name in ("alone", "empty"):
        for i in range(3):
            (tmp_path / name / f"{i}.png").write_bytes(b"no image")
    with pytest.raises(UserError, match="cannot be read"):
        Digits("train", data_root=str(tmp_path))
