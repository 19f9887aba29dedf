"""tools/measure_pseudo_labels.py: what it measures, and what it does not take."""

import json

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope

from pld_mmdet.catalogue import ROOT
from tests.tools.test_bad_input import call, sentence

CONFIG = ROOT / "configs/lpld/foggy_streets.py"
TRAIN = "annotations/train_foggy_beta_0.02.json"


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    cfg = Config.fromfile(CONFIG)
    init_default_scope("mmdet")  # an earlier test's run may have left its own
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("measure") / "model.pth"
    torch.save({"state_dict": MODELS.build(cfg.model).state_dict()}, path)
    return path


def line(root, *more):
    option = f"val_dataloader.dataset.data_root={root}/"
    return [*more, "--images", 2, "--cfg-options", option]


def test_numbers_of_two_images(street_tree, weights, tmp_path, capsys):
    out = tmp_path / "out.json"
    more = line(street_tree, "--ann", TRAIN, "--out", out)
    assert call("measure_pseudo_labels", CONFIG, weights, *more) == 0
    result = json.loads(out.read_text())
    assert result["images"] == 2
    truth = json.loads((street_tree / TRAIN).read_text())
    first = {image["id"] for image in truth["images"][:2]}
    objects = [a for a in truth["annotations"] if a["image_id"] in first]
    counted = [a for a in objects if not a.get("iscrowd")]
    assert result["numbers"]["objects/count"] == len(counted) > 0


def test_a_truth_that_is_none_of_these_images(streets, weights, capsys):
    truth = json.loads((streets / TRAIN).read_text())
    other = streets / "other.json"
    tool = ("measure_pseudo_labels", CONFIG, weights)
    for change, words in (
        (lambda t: [i.update(file_name=f"x{i['id']}.png") for i in t["images"]], "of"),
        (lambda t: t["categories"][0].update(name="zebra"), "has no category"),
    ):
        content = json.loads(json.dumps(truth))
        change(content)
        other.write_text(json.dumps(content))
        said = sentence(capsys, *tool, *line(streets, "--ann", TRAIN, "--truth", other))
        assert f"{other} " in said
        assert words in said
    name = truth["images"][0]["file_name"].rpartition("/")[2]
    (image,) = (streets / "leftImg8bit_foggy/train").rglob(name)
    image.write_bytes(image.read_bytes()[:50])
    said = sentence(capsys, *tool, *line(streets, "--ann", TRAIN))
    assert "images cannot be read, for example" in said


@pytest.mark.parametrize("tool", ["measure_pseudo_labels", "browse_pseudo_labels"])
def test_a_config_whose_settings_nothing_reads(
    tool, street_tree, weights, tmp_path, capsys
):
    cfg = Config.fromfile(CONFIG)
    cfg.model.detector.test_cfg.rcnn.score_th = 0.3
    cfg.dump(tmp_path / "c.py")
    more = [street_tree] if tool.startswith("browse") else []
    said = sentence(capsys, tool, tmp_path / "c.py", weights, *more)
    assert "Did you mean model.detector.test_cfg.rcnn.score_thr?" in said


def test_a_detector_without_pseudo_labels(street_tree, weights, capsys):
    config = ROOT / "configs/source/foggy_streets.py"
    said = sentence(
        capsys, "measure_pseudo_labels", config, weights, *line(street_tree)
    )
    assert "FasterRCNN makes no pseudo labels" in said
