"""The offline stage: formulas, crops, files that go on, and a tiny CLIP end to end."""

import json
import runpy
import sys
from pathlib import Path

import mmcv
import numpy as np
import pytest
import torch

from pld_mmdet.detection.data.ov_coco import (
    BASE,
    NOVEL,
    STREETS_BASE,
    STREETS_NOVEL,
    keep_classes,
    ov_coco_classes,
)
from pld_mmdet.detection.data.simulated_candidates import simulate_candidates
from pld_mmdet.detection.open_vocabulary.candidates import check_candidates
from pld_mmdet.detection.open_vocabulary.clip_candidates import (
    TEMPLATES,
    PartFile,
    crop_windows,
    name_probabilities,
    propose,
    select_candidates,
    training_file,
)
from pld_mmdet.errors import UserError
from pld_mmdet.shared.networks.clip import load_clip

ROOT = Path(__file__).resolve().parents[3]


def test_softmax_of_two_cosines():
    found = name_probabilities(torch.tensor([0.30, 0.27]))
    assert torch.allclose(found, torch.tensor([0.952574, 0.047426]), atol=1e-6)


def test_crop_windows_are_scaled_clipped_and_never_empty():
    boxes = torch.tensor([[10.0, 10, 30, 20], [39.5, 29.5, 39.9, 29.9]])
    assert crop_windows(boxes, 1.0, 30, 40)[0] == (10, 10, 30, 20)
    assert crop_windows(boxes, 1.5, 30, 40)[0] == (5, 7, 35, 23)
    assert crop_windows(boxes, 1.5, 30, 40)[1] == (39, 29, 40, 30)


def test_selection_is_strict_and_class_wise():
    boxes = torch.tensor([[0.0, 0, 10, 10]] * 4 + [[50.0, 0, 60, 10]])
    probabilities = torch.tensor(
        [[0.8, 0.2], [0.9, 0.1], [0.3, 0.7], [0.5, 0.5], [0.51, 0.49]]
    )
    rows, scores, labels = select_candidates(boxes, probabilities)
    assert rows.tolist() == [1, 2, 4]
    assert labels.tolist() == [0, 1, 0]
    assert torch.allclose(scores, torch.tensor([0.9, 0.7, 0.51]))
    assert len(select_candidates(torch.zeros(0, 4), torch.zeros(0, 2))[0]) == 0


def test_templates():
    assert len(set(TEMPLATES)) == 63
    assert all("{name}" in t for t in TEMPLATES)


def test_ov_coco_names():
    assert len(set(BASE)) == 48
    assert len(set(NOVEL)) == 17
    assert not set(BASE) & set(NOVEL)
    listed = [dict(id=i, name=n) for i, n in enumerate(["tie", "kite", "banjo"])]
    content = dict(
        categories=listed,
        images=[],
        annotations=[dict(category_id=0), dict(category_id=1)],
    )
    assert ov_coco_classes(content) == ["tie", "kite"]
    kept = keep_classes(content, ["kite", "tie"], annotated=["kite"])
    assert [c["name"] for c in kept["categories"]] == ["kite", "tie"]
    assert kept["annotations"] == [dict(category_id=1)]


class TestPartFile:
    def test_goes_on_after_a_torn_line(self, tmp_path):
        path = tmp_path / "parts.jsonl"
        PartFile(path, dict(a=1)).add(dict(image_id=4, boxes=[]))
        with path.open("a") as file:
            file.write('{"image_id": 5, "bo')
        again = PartFile(path, dict(a=1))
        assert 4 in again
        assert 5 not in again
        again.add(dict(image_id=5, boxes=[1]))
        assert PartFile(path, dict(a=1)).rows["5"] == dict(image_id=5, boxes=[1])

    def test_other_settings_are_refused(self, tmp_path):
        PartFile(tmp_path / "parts.jsonl", dict(a=1))
        with pytest.raises(UserError, match="other settings"):
            PartFile(tmp_path / "parts.jsonl", dict(a=2))


def test_training_file_hides_peoples_novel_boxes():
    base = dict(
        images=[dict(id=1, width=40, height=30)],
        categories=[dict(id=3, name="cat"), dict(id=5, name="bus")],
        annotations=[
            dict(id=7, image_id=1, category_id=3, bbox=[0, 0, 5, 5]),
            dict(id=9, image_id=1, category_id=5, bbox=[0, 0, 5, 5]),
        ],
    )
    row = dict(
        image_id=1, boxes=[[1, 2, 11, 22]], scores=[0.7], rpn_scores=[0.4], labels=[0]
    )
    result = training_file(base, [row], ["bus"])
    kept, candidate = result["annotations"]
    assert kept == base["annotations"][0]
    assert candidate["id"] == 10
    assert candidate["bbox"] == [1, 2, 10, 20]
    assert candidate["confidence"] == candidate["clip_score"] == 0.7
    assert candidate["rpn_score"] == 0.4
    assert candidate["thing_isBase"] is False
    check_candidates(result, "memory")
    with pytest.raises(UserError, match="novel class 'tie'"):
        training_file(base, [], ["tie"])


def test_simulated_candidates(streets):
    content = json.loads((streets / "annotations/train.json").read_text())
    rows = simulate_candidates(content, STREETS_BASE, STREETS_NOVEL, seed=1)
    assert rows == simulate_candidates(content, STREETS_BASE, STREETS_NOVEL, seed=1)
    kinds = [kind for row in rows for kind in row["kinds"]]
    true = sum(kind in ("true", "confused") for kind in kinds)
    assert true > 0
    assert 0.7 < 1 - true / len(kinds) < 0.8
    listed = keep_classes(
        content, [*STREETS_BASE, *STREETS_NOVEL], annotated=STREETS_BASE
    )
    file = training_file(listed, rows, STREETS_NOVEL)
    check_candidates(file, "memory")
    written = [row.get("kind") for row in file["annotations"]]
    assert written == [None] * (len(written) - len(kinds)) + kinds
    scores = [s for row in rows for s in row["scores"]]
    assert 0.5 < min(scores) <= max(scores) < 1


def test_proposals_are_refined_and_inside_the_image():
    from mmdet.registry import MODELS
    from mmdet.structures import DetDataSample

    from tests.helpers import tiny_faster_rcnn

    cfg = tiny_faster_rcnn(1, norm="frozen")
    cfg.roi_head.bbox_head.reg_class_agnostic = True
    torch.manual_seed(0)
    detector = MODELS.build(cfg).eval()
    detector.init_weights()
    samples = [DetDataSample(metainfo=dict(img_shape=(64, 64)))]
    images = torch.randn(1, 3, 64, 64)
    ((boxes, scores),) = propose(detector, images, samples, limit=20)
    ((first, _),) = propose(detector, images, samples, times=0, limit=20)
    assert 0 < len(boxes) == len(scores) <= 20
    assert boxes.min() >= 0
    assert boxes.max() <= 64
    assert ((boxes[:, 2:] - boxes[:, :2]) >= 5).all()
    assert first.shape != boxes.shape or not torch.equal(first, boxes)
    three = MODELS.build(tiny_faster_rcnn(3))
    with pytest.raises(UserError, match="of its own for each class"):
        propose(three, images, samples)


def test_without_transformers_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(UserError, match="pld-mmdet\\[language\\]"):
        load_clip("anything")


@pytest.fixture(scope="module")
def tiny_clip(tmp_path_factory):
    """A random CLIP of a few thousand weights with a tokenizer of letters, on disk."""
    from transformers import CLIPConfig, CLIPModel

    folder = tmp_path_factory.mktemp("clip")
    letters = "abcdefghijklmnopqrstuvwxyz.-"
    words = [*letters, *(f"{c}</w>" for c in letters)]
    words += ["<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({w: i for i, w in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    (folder / "tokenizer_config.json").write_text(
        json.dumps(dict(tokenizer_class="CLIPTokenizer", model_max_length=48))
    )
    small = dict(
        hidden_size=16, intermediate_size=16, num_attention_heads=2, num_hidden_layers=1
    )
    torch.manual_seed(0)
    config = CLIPConfig(
        text_config=dict(
            small,
            vocab_size=len(words),
            max_position_embeddings=48,
            bos_token_id=len(words) - 2,
            eos_token_id=len(words) - 1,
        ),
        vision_config=dict(small, image_size=16, patch_size=8),
        projection_dim=8,
    )
    CLIPModel(config).save_pretrained(folder)
    return folder


def test_offline_stage_end_to_end(tiny_clip, tmp_path, capsys):
    """Crops -> scores -> training file; interrupted in between, missing image, text."""
    tool = runpy.run_path(str(ROOT / "tools/make_clip_candidates.py"), run_name="tool")
    generator = np.random.RandomState(0)
    for name in ("a.png", "b.png"):
        pixels = generator.randint(0, 256, (30, 40, 3)).astype(np.uint8)
        mmcv.imwrite(pixels, str(tmp_path / name))
    categories = [dict(id=i + 1, name=n) for i, n in enumerate(["cat", "bus", "tie"])]
    images = [
        dict(id=i + 1, file_name=n, width=40, height=30)
        for i, n in enumerate(["a.png", "b.png"])
    ]
    ann = tmp_path / "base.json"
    content = dict(images=images, categories=categories, annotations=[])
    ann.write_text(json.dumps(content))
    proposals = tmp_path / "proposals.json"
    boxes = [[2, 2, 20, 20], [15, 5, 39, 29]]
    rows = {i: dict(boxes=boxes, scores=[0.9, 0.4]) for i in ("1", "2")}
    out = tmp_path / "train.json"
    arguments = ["boxes", "--clip", tiny_clip, "--ann", ann, "--images", tmp_path]
    arguments += ["--novel", "bus", "tie", "--proposals", proposals, "--out", out]
    arguments = list(map(str, arguments))
    for wrong in (
        dict(boxes=[[2, 2, 20], [15, 5, 39, 29]], scores=[0.9, 0.4]),
        dict(boxes=[[2, 2, 20, 20], [15, 5, 9, 29]], scores=[0.9, 0.4]),
        dict(boxes=boxes, scores=[0.9]),
    ):
        proposals.write_text(json.dumps(rows | {"2": wrong}))
        with pytest.raises(UserError, match="image id 2 are no boxes with a score"):
            tool["main"](tool["parse_args"](arguments))
    proposals.write_text(json.dumps(rows))

    (tmp_path / "b.png").rename(tmp_path / "later.png")
    with pytest.raises(UserError, match=r"b\.png is missing"):
        tool["main"](tool["parse_args"](arguments))
    parts = Path(f"{out}.parts.jsonl")
    done = parts.read_text()
    assert len(done.splitlines()) == 2  # settings and the first image
    (tmp_path / "b.png").write_text("no image")
    with pytest.raises(UserError, match="cannot be read"):
        tool["main"](tool["parse_args"](arguments))
    (tmp_path / "later.png").rename(tmp_path / "b.png")
    tool["main"](tool["parse_args"](arguments))
    assert parts.read_text().startswith(done)
    result = json.loads(out.read_text())
    check_candidates(result, str(out))
    assert {row["image_id"] for row in result["annotations"]} == {1, 2}
    assert all(0.5 < row["confidence"] <= 1 for row in result["annotations"])

    text = tmp_path / "text.npz"
    arguments = ["text", "--clip", tiny_clip, "--ann", ann, "--out", text]
    tool["main"](tool["parse_args"](list(map(str, arguments))))
    assert "3 names, 8 numbers each" in capsys.readouterr().out
    stored = np.load(text)
    assert stored["names"].tolist() == ["cat", "bus", "tie"]
    assert np.allclose(np.linalg.norm(stored["embeddings"], axis=1), 1, atol=1e-5)

    with pytest.raises(UserError, match="No CLIP model"):
        load_clip(str(tmp_path))
