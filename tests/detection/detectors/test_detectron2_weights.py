"""Conversion of detectron2's weights: names, anchors, equal outputs, safe reading."""

import pickle
import subprocess

import numpy as np
import pytest
import torch
from mmengine.config import Config

from pld_mmdet.catalogue import ROOT
from pld_mmdet.detection.detectors.detectron2_reference import largest_difference
from pld_mmdet.detection.detectors.detectron2_weights import convert, load_detectron2
from pld_mmdet.detection.detectors.stock import build_detector
from pld_mmdet.engine.state.weights import report_mismatch
from pld_mmdet.errors import UserError
from tests.engine.processes import Tool


def stage(weights, name, blocks, before, inner, out, generator):
    """Random weights of one bottleneck stage under detectron2's names."""
    for i in range(blocks):
        shapes = {
            "conv1": (inner, before if i == 0 else out, 1, 1),
            "conv2": (inner, inner, 3, 3),
            "conv3": (out, inner, 1, 1),
        }
        if i == 0:
            shapes["shortcut"] = (out, before, 1, 1)
        for conv, shape in shapes.items():
            layer(weights, f"{name}.{i}.{conv}", shape, generator)


def layer(weights, name, shape, generator, norm=True):
    fan = int(np.prod(shape[1:]))
    weights[f"{name}.weight"] = torch.randn(shape, generator=generator) / fan**0.5
    if not norm:
        weights[f"{name}.bias"] = torch.randn(shape[0], generator=generator) * 0.1
        return
    for part in ("weight", "bias", "running_mean", "running_var"):
        value = torch.rand(shape[0], generator=generator) + 0.5
        weights[f"{name}.norm.{part}"] = value


def detectron2(fpn: bool, classes: int, anchors: int) -> dict:
    generator = torch.Generator().manual_seed(0)
    weights, body = {}, "backbone.bottom_up" if fpn else "backbone"
    layer(weights, f"{body}.stem.conv1", (64, 3, 7, 7), generator)
    blocks = {2: 3, 3: 4, 4: 6, 5: 3}
    for number, count in blocks.items():
        name = f"{body}.res{number}"
        if number == 5 and not fpn:
            name = "roi_heads.res5"
        width = 64 * 2 ** (number - 2)
        before = 64 if number == 2 else 2 * width
        stage(weights, name, count, before, width, 4 * width, generator)
    depth = 256 if fpn else 1024
    if fpn:
        for number in (2, 3, 4, 5):
            shape = (256, 256 * 2 ** (number - 2), 1, 1)
            layer(weights, f"backbone.fpn_lateral{number}", shape, generator, False)
            shape = (256, 256, 3, 3)
            layer(weights, f"backbone.fpn_output{number}", shape, generator, False)
        layer(weights, "roi_heads.box_head.fc1", (1024, 256 * 49), generator, False)
        layer(weights, "roi_heads.box_head.fc2", (1024, 1024), generator, False)
    head = "proposal_generator.rpn_head"
    layer(weights, f"{head}.conv", (depth, depth, 3, 3), generator, False)
    layer(
        weights, f"{head}.objectness_logits", (anchors, depth, 1, 1), generator, False
    )
    layer(
        weights, f"{head}.anchor_deltas", (4 * anchors, depth, 1, 1), generator, False
    )
    last = 1024 if fpn else 2048
    predictor = "roi_heads.box_predictor"
    layer(weights, f"{predictor}.cls_score", (classes + 1, last), generator, False)
    layer(weights, f"{predictor}.bbox_pred", (4 * classes, last), generator, False)
    weights["pixel_mean"] = torch.zeros(3, 1, 1)
    return weights


@pytest.fixture(scope="module", params=["c4", "fpn"])
def case(request):
    fpn = request.param == "fpn"
    name = "faster_rcnn_r50_fpn_caffe" if fpn else "faster_rcnn_r50_c4_caffe"
    cfg = Config.fromfile(ROOT / f"configs/_base_/models/{name}.py").detector
    classes = cfg.roi_head.bbox_head.num_classes
    weights = detectron2(fpn, classes, 3 if fpn else 9)
    return build_detector(cfg).eval(), weights, 1 if fpn else 3


def test_outputs_are_equal_on_a_fixed_image(case):
    detector, weights, sizes = case
    made = convert(weights, sizes)
    assert made.left_over == []
    assert report_mismatch(detector, made.state, "a file") is None
    assert largest_difference(detector, weights) < 1e-4


def test_a_wrong_anchor_order_is_seen(case):
    """The check is no formality: without the reordering it fails (C4 has 3 sizes)."""
    detector, weights, sizes = case
    made = convert(weights, sizes)
    made.state["rpn_head.rpn_cls.weight"] = weights[
        "proposal_generator.rpn_head.objectness_logits.weight"
    ].flip(0)
    report_mismatch(detector, made.state, "a file")
    assert largest_difference(detector, weights) > 0.1


def test_anchors_go_from_sizes_outside_to_ratios_outside():
    name = "proposal_generator.rpn_head.objectness_logits.bias"
    deltas = "proposal_generator.rpn_head.anchor_deltas.bias"
    made = convert({name: torch.arange(6.0), deltas: torch.arange(24.0)}, 2)
    # (size 0; ratios 0 1 2), (size 1; ...) -> (ratio 0; sizes 0 1), ...
    assert made.state["rpn_head.rpn_cls.bias"].tolist() == [0, 3, 1, 4, 2, 5]
    assert made.state["rpn_head.rpn_reg.bias"][:8].tolist() == [
        0, 1, 2, 3, 12, 13, 14, 15,
    ]  # fmt: skip
    with pytest.raises(UserError, match="6 anchors a cell"):
        convert({name: torch.arange(6.0)}, 3)


def test_what_no_rule_knows_is_reported():
    made = convert({"extra.layer.weight": torch.zeros(1)}, 1)
    assert made.left_over == ["extra.layer.weight"]
    assert made.state == {}


def test_pickles_of_arrays_are_read_and_others_are_refused(tmp_path):
    path = tmp_path / "model.pkl"
    content = {"model": {"pixel_mean": np.zeros(3, np.float32)}, "__author__": "zoo"}
    path.write_bytes(pickle.dumps(content, protocol=2))
    assert load_detectron2(path)["pixel_mean"].shape == (3,)
    path.write_bytes(pickle.dumps({"model": subprocess.Popen}))
    with pytest.raises(UserError, match=r"not executed.*subprocess\.Popen"):
        load_detectron2(path)
    path.write_bytes(b"no pickle")
    with pytest.raises(UserError, match=r"model\.pkl"):
        load_detectron2(path)


def test_a_prefix_chooses_the_network(tmp_path):
    path = tmp_path / "both.pth"
    state = {f"model{n}.pixel_mean": torch.full((1,), i) for i, n in enumerate("TS")}
    torch.save({"model": state}, path)
    assert load_detectron2(path, "modelS.")["pixel_mean"].item() == 1
    with pytest.raises(UserError, match="no weights that begin with 'x'"):
        load_detectron2(path, "x")


def test_the_tool_writes_a_checkpoint_that_loads_strictly(tmp_path):
    weights = detectron2(False, 8, 9)
    source, out = tmp_path / "d2.pth", tmp_path / "out.pth"
    torch.save({"model": weights}, source)
    config = ROOT / "configs/source/cityscapes.py"
    options = ["--cfg-options", "model.backbone.init_cfg=None"]
    options += ["model.roi_head.shared_head.init_cfg=None"]
    words = (source, config, out, *options)
    said = Tool("convert_detectron2", *words, log=tmp_path / "log").finish()
    assert "Largest relative difference" in said
    saved = torch.load(out, weights_only=True)
    assert saved["meta"]["dataset_meta"]["classes"][2] == "car"
    detector = build_detector(Config.fromfile(config).model)
    detector.load_state_dict(saved["state_dict"], strict=True)
