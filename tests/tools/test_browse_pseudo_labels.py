"""Pictures of pseudo labels: which images, which colours, what the page says."""

import importlib.util

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope

from pld_mmdet.catalogue import ROOT
from pld_mmdet.errors import UserError
from pld_mmdet.report.browse import KINDS, Labelled, draw, write_page


@pytest.fixture
def browse(monkeypatch):
    path = ROOT / "tools/browse_pseudo_labels.py"
    spec = importlib.util.spec_from_file_location("browse_pseudo_labels", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    def run(*arguments):
        monkeypatch.setattr("sys.argv", ["browse", *map(str, arguments)])
        module.main(module.parse_args())

    return run


def test_colours_tell_the_kinds_apart(tmp_path):
    path = tmp_path / "a.png"
    cv2.imwrite(str(path), np.zeros((40, 60, 3), np.uint8))
    boxes = {
        "kept": np.array([[5.0, 12, 20, 30]]),
        "mined": np.array([[30.0, 5, 50, 20]]),
    }
    found = Labelled(path, boxes, {"kept": ["car 90"], "mined": ["bus 3"]})
    image = draw(found)
    assert image[30, 12].tolist() == list(KINDS["kept"][0])
    assert image[20, 40].tolist() == list(KINDS["mined"][0])
    without = draw(found, hide=("mined",))
    assert without[20, 40].tolist() == [0, 0, 0]
    assert found.counts == {"kept": 1, "mined": 1}


def test_the_page_escapes_and_counts(tmp_path):
    page = write_page(tmp_path, [("a&b.png", {"kept": 2, "mined": 7})], "<title>")
    text = page.read_text()
    assert "a&amp;b.png: 2 kept, 7 mined" in text
    assert "<h1>&lt;title&gt;</h1>" in text


def test_the_tool_on_a_folder(browse, street_tree, tmp_path, capsys):
    config = ROOT / "configs/lpld/foggy_streets.py"
    cfg = Config.fromfile(config)
    init_default_scope("mmdet")  # an earlier test's run may have left its own
    torch.manual_seed(0)
    path = tmp_path / "model.pth"
    torch.save({"state_dict": MODELS.build(cfg.model).state_dict()}, path)
    images = street_tree / "leftImg8bit_foggy/train"
    browse(config, path, images, "--out", tmp_path / "out", "--limit", 2)
    said = capsys.readouterr().out
    assert said.count(" mined, ") == 2
    pictures = sorted((tmp_path / "out").glob("*.png"))
    assert len(pictures) == 2
    assert cv2.imread(str(pictures[0])) is not None
    assert (tmp_path / "out/index.html").is_file()
    with pytest.raises(UserError, match="nowhere does not exist"):
        browse(config, path, tmp_path / "nowhere", "--out", tmp_path / "new")
    with pytest.raises(UserError, match="holds files already; nothing was written"):
        browse(config, path, images, "--out", tmp_path / "out")
    mixed = tmp_path / "mixed"  # one bad file does not end it
    mixed.mkdir()
    (mixed / "b.png").write_bytes(pictures[0].read_bytes())
    (mixed / "a.png").write_bytes(pictures[0].read_bytes()[:99])
    browse(config, path, mixed, "--out", tmp_path / "out", "--overwrite")
    said = capsys.readouterr().out
    assert "Skipped 1 unreadable images: a.png (truncated)" in said
    assert "001_b.png: " in said
    (mixed / "b.png").unlink()
    with pytest.raises(UserError, match=r"1 of 1 images .* cannot be read: a.png"):
        browse(config, path, mixed, "--out", tmp_path / "empty")


def test_a_plain_detector_has_none(browse, street_tree, tmp_path):
    config = ROOT / "configs/source/foggy_streets.py"
    with pytest.raises(UserError, match="makes no pseudo labels"):
        browse(config, "x.pth", street_tree, "--out", tmp_path)
