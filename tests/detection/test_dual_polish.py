"""Dual polishing: hand-worked numbers, crops per image, gradient stops."""

import copy
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from mmengine.structures import InstanceData

from pld_mmdet.detection.dual_polish import (
    DualPolishTeacher,
    context_boxes,
    polish_labels,
)
from pld_mmdet.detection.pseudo_labels.polishers import (
    BoxPolisher,
    CategoryPolisher,
    Polishers,
)
from tests.detection.helpers import fresh, give_confidence
from tests.detection.semi import semi_batch, without_boxes
from tests.helpers import tiny_faster_rcnn


class TestContext:
    BOX = torch.tensor([[100.0, 200.0, 300.0, 260.0]])
    EXPECTED = torch.tensor(
        [
            [88.0, 196.4, 288.0, 256.4],
            [112.0, 196.4, 312.0, 256.4],
            [88.0, 203.6, 288.0, 263.6],
            [112.0, 203.6, 312.0, 263.6],
            [88.0, 196.4, 312.0, 263.6],
            [76.0, 192.8, 324.0, 267.2],
        ]
    )

    def test_hand_worked_box(self):
        assert torch.allclose(context_boxes(self.BOX), self.EXPECTED, atol=1e-4)

    def test_pattern_major_with_further_columns(self):
        boxes = torch.cat([self.BOX, self.BOX + 7])
        boxes = torch.cat([boxes, torch.tensor([[0.3], [0.4]])], 1)
        out = context_boxes(boxes)
        assert out.shape == (12, 5)
        assert torch.allclose(out[::2, :4], self.EXPECTED, atol=1e-4)
        assert torch.allclose(out[1::2, :4], self.EXPECTED + 7, atol=1e-4)
        assert torch.allclose(out[:, 4], torch.tensor([0.3, 0.4]).repeat(6))

    def test_small_and_no_boxes(self):
        out = context_boxes(torch.tensor([[5.0, 5.0, 5.5, 5.5]]))
        assert torch.allclose(out[4], torch.tensor([4.94, 4.94, 5.56, 5.56]))
        assert context_boxes(torch.zeros(0, 4)).shape == (0, 4)


class TestLabels:
    def test_hand_worked_rows(self):
        f = torch.tensor([0.95, 0.5, 0.5, 0.95])
        probs = torch.stack([f, (1 - f) / 2, (1 - f) / 2], 1)  # k = 0
        scores = torch.tensor([0.6, 0.6, 0.95, 0.95])
        labels = torch.ones(4, dtype=torch.long)
        new, keep = polish_labels(probs, scores, labels)
        assert new.tolist() == [0, 1, 1, 1]
        assert keep.tolist() == [True, False, True, True]
        assert labels.tolist() == [1, 1, 1, 1]

    def test_a_score_of_exactly_the_threshold(self):
        scores = torch.tensor([0.9, 0.9])
        probs = torch.tensor([[0.95, 0.0, 0.05], [0.2, 0.1, 0.7]])
        new, keep = polish_labels(probs, scores, torch.tensor([1, 1]))
        assert new.tolist() == [1, 1]  # not below: no new class
        assert keep.tolist() == [True, False]  # not above: kept by f alone

    def test_background_is_in_the_denominator_but_never_the_class(self):
        new, keep = polish_labels(
            torch.tensor([[0.02, 0.01, 0.97]]), torch.tensor([0.6]), torch.tensor([1])
        )
        assert new.tolist() == [1]
        assert not keep.item()

    def test_no_box(self):
        nothing = torch.zeros(0), torch.zeros(0, dtype=torch.long)
        new, keep = polish_labels(torch.zeros(0, 4), *nothing)
        assert new.shape == keep.shape == (0,)
        assert keep.dtype == torch.bool


def test_parameters_of_the_released_layers():
    with torch.device("meta"):
        box = BoxPolisher(256, (7, 7))
        category = CategoryPolisher(256, (7, 7), num_classes=80)
    assert sum(p.numel() for p in box.parameters()) == 14_358_788
    assert sum(p.numel() for p in category.parameters()) == 13_978_705
    kinds = [type(m).__name__ for m in category.layers]
    assert kinds == ["Linear", "ReLU", "Linear", "Linear"]


def test_layers_of_a_box_polisher_by_hand():
    """Crops side by side, 1x1, ReLU, three layers with a ReLU after two of them."""
    torch.manual_seed(0)
    polisher = BoxPolisher(2, (1, 3), crops=4, hidden_channels=5)
    crops = torch.randn(6, 4, 2, 1, 3)
    weight = polisher.fuse.weight.view(2, 4, 2)  # out, crop, channel
    fused = torch.einsum("okc,nkchw->nohw", weight, crops)
    hidden = (fused + polisher.fuse.bias.view(2, 1, 1)).clamp(min=0).reshape(6, 6)
    layers = [m for m in polisher.layers if isinstance(m, torch.nn.Linear)]
    for layer in layers:
        hidden = F.linear(hidden, layer.weight, layer.bias)
        hidden = hidden if layer is layers[-1] else hidden.clamp(min=0)
    assert len(layers) == 3
    assert torch.allclose(polisher(crops), hidden, atol=1e-6)
    found = polisher.bfloat16()(crops.bfloat16())
    assert (found.shape, found.dtype) == ((6, 4), torch.float32)


def test_layers_of_a_category_polisher_by_hand():
    torch.manual_seed(0)
    polisher = CategoryPolisher(2, (1, 3), num_classes=3, hidden_channels=5)
    crop = torch.randn(6, 2, 1, 3)
    first, _, second, last = polisher.layers
    hidden = F.linear(crop.reshape(6, 6), first.weight, first.bias).clamp(min=0)
    hidden = F.linear(hidden, second.weight, second.bias)  # no ReLU
    expected = F.linear(hidden, last.weight, last.bias)
    assert torch.allclose(polisher(crop), expected, atol=1e-6)
    found = polisher.bfloat16()(crop.bfloat16())
    assert (found.shape, found.dtype) == ((6, 4), torch.float32)


def test_polishers_fit_the_extractor_and_each_may_be_left_out():
    layer = SimpleNamespace(output_size=(2, 5))
    extractor = SimpleNamespace(out_channels=3, roi_layers=[layer])
    both = Polishers(extractor, 4, crops=6, hidden_channels=7)
    assert both.box.fuse.weight.shape == (3, 18, 1, 1)
    assert both.box.layers[0].weight.shape == (7, 30)
    assert both.category.layers[0].weight.shape == (7, 30)
    assert both.category.layers[-1].weight.shape == (5, 7)
    layer.output_size = 4  # a square
    alone = Polishers(extractor, 4, box=False)
    assert alone.box is None
    assert alone.category.layers[0].weight.shape == (1024, 48)
    alone = Polishers(extractor, 4, category=False)
    assert alone.category is None
    assert alone.box.fuse.weight.shape == (3, 21, 1, 1)


def build(seed=0, **kwargs):
    torch.manual_seed(seed)
    kwargs = (
        dict(
            hidden_channels=32,
            box_jitters=(20, 0.2),
            category_jitters=((8, 0.06), (8, 0.2)),
        )
        | kwargs
    )
    model = DualPolishTeacher(tiny_faster_rcnn(norm="frozen"), **kwargs)
    model.init_weights()
    give_confidence(model)
    return model.train()


def prepared(model, **kwargs):
    data = model.data_preprocessor(semi_batch(**kwargs), training=True)
    return data["inputs"], data["data_samples"]


def detections(*counts):
    generator = torch.Generator().manual_seed(7)
    found = []
    for count in counts:
        corner = torch.rand(count, 2, generator=generator) * 25
        size = torch.rand(count, 2, generator=generator) * 25 + 8
        found.append(
            InstanceData(
                bboxes=torch.cat([corner, corner + size], 1),
                scores=torch.rand(count, generator=generator) * 0.5 + 0.5,
                labels=torch.randint(0, 3, (count,), generator=generator),
            )
        )
    return found


def test_three_images_equal_one_at_a_time():
    """The release mixes crops across images here."""
    model = build(polish_threshold=0.3)
    inputs, samples = prepared(model, unlabelled=3)
    found = detections(4, 0, 3)
    features = model.teacher.extract_feat(inputs["weak"])
    polished, relabelled = model.polish(features, found, samples["weak"])
    assert sum(len(i) for i in relabelled) > 0
    for n in range(3):
        one = tuple(level[n : n + 1] for level in features)
        alone = model.polish(one, [found[n]], samples["weak"][n : n + 1])
        for together, single in zip((polished, relabelled), alone, strict=True):
            assert len(together[n]) == len(single[0])
            assert torch.allclose(together[n].bboxes, single[0].bboxes, atol=1e-3)
            assert torch.equal(together[n].labels, single[0].labels)


def test_a_box_is_followed_by_its_own_context():
    model = build()
    inputs, _ = prepared(model, unlabelled=2)
    features = model.teacher.extract_feat(inputs["weak"])
    rois = torch.tensor([[1.0, 5, 5, 40, 30], [0.0, 10, 20, 50, 60], [1.0, 0, 0, 9, 9]])
    crops = model._crops(features, rois)
    assert crops.shape == (3, 7, 16, 3, 3)
    extractor = model.teacher.roi_head.bbox_roi_extractor
    for n, roi in enumerate(rois):
        looks = torch.cat([roi[None, 1:], context_boxes(roi[None, 1:])])
        looks = torch.cat([roi[:1].expand(7, 1), looks], 1)
        expected = extractor(features[:4], looks)
        assert torch.allclose(crops[n], expected, atol=1e-5)


def test_context_reaches_the_box_head_only():
    model = build()
    inputs, samples = prepared(model, unlabelled=1)
    features = model.teacher.extract_feat(inputs["weak"])
    found = detections(5)
    original = model._crops

    def noisy(*args, **kwargs):
        crops = original(*args, **kwargs).clone()
        crops[:, 1:] = torch.randn_like(crops[:, 1:])
        return crops

    model.polish_threshold, seen = 0.0, []  # keep all, so that rows can be compared
    model.polish_teacher.category.register_forward_pre_hook(
        lambda _, inputs: seen.append(inputs[0].clone())
    )
    before = model.polish(features, found, samples["weak"])
    model._crops = noisy
    after = model.polish(features, found, samples["weak"])
    assert torch.equal(before[1][0].labels, after[1][0].labels)
    assert torch.equal(*seen)
    assert not torch.allclose(before[0][0].bboxes, after[0][0].bboxes)


def test_zero_deltas_leave_boxes_and_sets_are_disentangled():
    model = build(polish_threshold=0.9)
    last = model.polish_teacher.box.layers[-1]
    torch.nn.init.zeros_(last.weight)
    torch.nn.init.zeros_(last.bias)
    last = model.polish_teacher.category.layers[-1]
    torch.nn.init.zeros_(last.weight)
    last.bias.data = torch.tensor([0.0, 9.0, 0.0, 0.0])  # sure of class 1
    inputs, samples = prepared(model, unlabelled=1)
    features = model.teacher.extract_feat(inputs["weak"])
    found = detections(6)
    found[0].scores = torch.tensor([0.6, 0.7, 0.95, 0.9, 0.55, 0.99])
    truth = model._select(features, found, samples["weak"])
    assert torch.allclose(truth.reg[0].bboxes, found[0].bboxes, atol=1e-4)
    assert torch.equal(truth.reg[0].labels, found[0].labels)  # the original ones
    assert len(truth.cls[0]) == 6
    assert torch.equal(truth.cls[0].bboxes, found[0].bboxes)
    expected = torch.where(found[0].scores < 0.9, 1, found[0].labels)
    assert torch.equal(truth.cls[0].labels, expected)
    last.bias.data = torch.zeros(4)  # sure of nothing: the score decides
    truth = model._select(features, found, samples["weak"])
    assert len(truth.reg[0]) == 6
    assert truth.cls[0].scores.tolist() == pytest.approx([0.95, 0.99])


def test_polished_boxes_stay_in_the_image():
    model = build()
    model.polish_teacher.box.layers[-1].bias.data.fill_(3.0)
    inputs, samples = prepared(model, unlabelled=1)
    features = model.teacher.extract_feat(inputs["weak"])
    polished, _ = model.polish(features, detections(5), samples["weak"])
    assert polished[0].bboxes.min() >= 0
    assert polished[0].bboxes.max() <= 64


def test_losses_of_the_polishers_reach_the_polishers_only():
    model = build()
    losses = fresh(model, semi_batch(labelled=2))
    assert losses["loss_polish_box"] > 0
    assert losses["loss_polish_cls"] > 0
    (losses["loss_polish_box"] + losses["loss_polish_cls"]).backward()
    for name, parameter in model.named_parameters():
        learns = name.startswith("polish_student")
        assert (parameter.grad is not None) == learns, name
    total, _ = model.parse_losses(fresh(model, semi_batch(labelled=2)))
    total.backward()
    assert torch.isfinite(total)
    assert model.student.backbone.conv1.weight.grad is not None
    assert all(p.grad is None for p in model.teacher.parameters())
    assert all(p.grad is None for p in model.polish_teacher.parameters())


def test_box_loss_of_a_polisher_that_does_nothing_is_the_jitters_giou(monkeypatch):
    model = build(box_jitters=(1, 1.0))
    for layer in (model.polish_student.box.layers[-1],):
        torch.nn.init.zeros_(layer.weight)
        torch.nn.init.zeros_(layer.bias)
    inputs, samples = prepared(model)
    samples["sup"][0].gt_instances = InstanceData(
        bboxes=torch.tensor([[5.0, 0.0, 15.0, 10.0]]), labels=torch.tensor([1])
    )
    features = model.teacher.extract_feat(inputs["sup"])
    # The jitter (0, 0, 10, 10) has GIoU 1/3 with its object, the object itself 1.
    noise = torch.tensor([[[-0.5, 0.0, -0.5, 0.0]]])
    monkeypatch.setattr(torch, "randn", lambda *a, **k: noise)
    loss = model._box_loss(features, samples["sup"])
    assert loss.item() == pytest.approx((1 - 1 / 3 + 0) / 2, abs=1e-5)
    # A jitter that is no box any more is left out: only the object remains.
    noise = torch.tensor([[[1.0, 0.0, 0.0, 0.0]]])
    assert model._box_loss(features, samples["sup"]).item() == pytest.approx(
        0, abs=1e-5
    )


def test_box_loss_takes_the_nearest_object_of_its_own_image(monkeypatch):
    model = build(box_jitters=(1, 1.0))
    last = model.polish_student.box.layers[-1]
    torch.nn.init.zeros_(last.weight)
    torch.nn.init.zeros_(last.bias)
    inputs, samples = prepared(model, labelled=3)
    objects = (
        [[44.0, 0.0, 64.0, 20.0]],
        [],
        [[0.0, 0.0, 20.0, 20.0], [30.0, 30.0, 50.0, 50.0]],
    )
    for sample, boxes in zip(samples["sup"], objects, strict=True):
        sample.gt_instances = InstanceData(
            bboxes=torch.tensor(boxes).reshape(-1, 4),
            labels=torch.zeros(len(boxes), dtype=torch.long),
        )
    noises = [torch.zeros(1, len(boxes), 4) for boxes in objects]
    noises[0][0, 0] = torch.tensor([0.5, 0.0, 0.5, 0.0])  # cut: half of its object
    noises[2][0, 0] = 1.5  # the first object's jitter lies on the second
    draws = iter(noises)
    monkeypatch.setattr(torch, "randn", lambda *a, **k: next(draws))
    features = model.teacher.extract_feat(inputs["sup"])
    loss = model._box_loss(features, samples["sup"])
    assert loss.item() == pytest.approx(0.5 / 6, abs=1e-5)


def test_polishers_learn_from_the_teachers_features_and_are_weighed(monkeypatch):
    weights = dict(box_weight=2.0, category_weight=0.25)
    values = []
    for kwargs in ({}, weights):
        torch.manual_seed(4)
        losses = fresh(build(**kwargs), semi_batch(labelled=2))
        values.append([losses[f"loss_polish_{name}"].item() for name in ("box", "cls")])
    (box, category), weighed = values
    assert weighed == pytest.approx([2 * box, 0.25 * category], rel=1e-5)
    model = build()
    with torch.no_grad():
        for parameter in model.student.parameters():
            parameter.fill_(0.01)
    inputs, samples = prepared(model, labelled=2)
    expected, seen = model.teacher.extract_feat(inputs["sup"]), {}
    for name in ("_box_loss", "_category_loss"):
        monkeypatch.setattr(
            model, name, lambda f, s, name=name: seen.update({name: f}) or f[0].sum()
        )
    model.loss(inputs, samples)
    for features in (seen["_box_loss"], seen["_category_loss"]):
        assert torch.allclose(features[0], expected[0], atol=1e-5)
    assert not torch.allclose(
        expected[0], model.student.extract_feat(inputs["sup"])[0], atol=1e-3
    )
    proposals = model._test_proposals(expected, samples["sup"])
    theirs = model.teacher.rpn_head.predict(expected, samples["sup"], rescale=False)
    for ours, found in zip(proposals, theirs, strict=True):
        assert torch.equal(ours, found.bboxes)


def test_numbers_of_the_config_reach_their_place():
    model = build(context_fraction=0.3, polish_threshold=0.6)
    inputs, samples = prepared(model, unlabelled=1)
    features = model.teacher.extract_feat(inputs["weak"])
    roi = torch.tensor([[0.0, 20, 20, 40, 30]])
    around = torch.cat([roi[:, :1].expand(6, 1), context_boxes(roi[:, 1:], 0.3)], 1)
    extractor = model.teacher.roi_head.bbox_roi_extractor
    crops = model._crops(features, roi)
    assert torch.allclose(crops[0, 1:], extractor(features[:4], around), atol=1e-5)
    last = model.polish_teacher.category.layers[-1]
    torch.nn.init.zeros_(last.weight)
    last.bias.data = torch.tensor([0.0, 1.9, 0.0, 0.0])  # 0.69 for class 1
    found = detections(3)
    found[0].scores = torch.tensor([0.55, 0.65, 0.59])
    found[0].labels = torch.tensor([2, 2, 0])
    (judged,) = model.judge(features, found, samples["weak"])
    assert judged.new_labels.tolist() == [1, 2, 1]
    assert judged.keep.tolist() == [True] * 3
    model.polish_threshold = 0.7
    (judged,) = model.judge(features, found, samples["weak"])
    assert judged.new_labels.tolist() == [2, 2, 0]
    assert not judged.keep.any()
    assert "new_labels" not in found[0]


def test_category_pairs(monkeypatch):
    model = build(category_jitters=((1, 1.0),))
    inputs, samples = prepared(model)
    truth = torch.tensor([[0.0, 0, 20, 20], [30.0, 30, 50, 50]])
    samples["sup"][0].gt_instances = InstanceData(
        bboxes=truth, labels=torch.tensor([0, 2])
    )
    noise = torch.zeros(1, 2, 4)
    noise[0, 0, 0] = 0.5  # half of the first object: IoU .5, background
    monkeypatch.setattr(torch, "randn", lambda *a, **k: noise)
    proposals = torch.tensor([[0.0, 0, 20, 14], [0.0, 0, 20, 13.9]])  # IoU .7, .695
    monkeypatch.setattr(model, "_test_proposals", lambda *a: [proposals])
    seen = {}

    def record(logits, labels):
        seen["labels"] = labels.tolist()
        return logits.sum() * 0

    monkeypatch.setattr(torch.nn.functional, "cross_entropy", record)
    model._category_loss(model.teacher.extract_feat(inputs["sup"]), samples["sup"])
    # objects, jitters (first spoilt, second exact), proposals
    assert seen["labels"] == [0, 2, 3, 2, 0, 3]


def test_labelled_images_without_boxes_give_zero_losses():
    model = build()
    losses = fresh(model, without_boxes(semi_batch()))
    assert losses["loss_polish_box"] == 0
    assert losses["loss_polish_cls"] == 0
    model.parse_losses(losses)[0].backward()
    assert model.polish_student.box.fuse.weight.grad.abs().sum() == 0
    mixed = semi_batch(labelled=2)
    mixed["data_samples"]["sup"][0].gt_instances = InstanceData(
        bboxes=torch.zeros(0, 4), labels=torch.zeros(0, dtype=torch.long)
    )
    assert fresh(model, mixed)["loss_polish_cls"] > 0


def test_no_pseudo_box():
    model = build(min_score=1.0)
    inputs, samples = prepared(model, unlabelled=1)
    model.num_classes = 1  # the polisher would have two columns
    features = model.teacher.extract_feat(inputs["weak"])
    for said in model.polish(features, detections(0), samples["weak"]):
        assert [len(i) for i in said] == [0]
    model.num_classes = 3
    losses = fresh(model, semi_batch())
    assert losses["unsup_loss_bbox"] == 0
    model.parse_losses(losses)[0].backward()


@pytest.mark.parametrize("off", ["polish_boxes", "polish_categories"])
def test_ablations_fall_back_to_soft_teacher(off):
    model = build(**{off: False}, cls_threshold=0.9, rpn_threshold=0.9)
    losses = fresh(model, semi_batch())
    name = "loss_polish_box" if off == "polish_boxes" else "loss_polish_cls"
    assert name not in losses
    model.parse_losses(losses)[0].backward()
    assert not any(
        k.startswith(f"polish_student.{'box' if off == 'polish_boxes' else 'category'}")
        for k in model.state_dict()
    )


def test_polishers_travel_in_the_checkpoint_and_a_detector_leaves_them():
    model, other = build(seed=1), build(seed=2)
    with torch.no_grad():
        model.polish_student.box.fuse.weight.add_(1.0)  # student and teacher differ
    other.load_state_dict(copy.deepcopy(model.state_dict()), strict=True)
    for name, value in model.state_dict().items():
        assert torch.equal(value, other.state_dict()[name]), name
    detector = {k: v.clone() for k, v in build(seed=3).student.state_dict().items()}
    before = copy.deepcopy(other.polish_teacher.state_dict())
    other.load_state_dict(copy.deepcopy(detector), strict=True)
    assert torch.equal(
        other.teacher.backbone.conv1.weight, detector["backbone.conv1.weight"]
    )
    for name, value in before.items():
        assert torch.equal(value, other.polish_teacher.state_dict()[name])


def test_one_backbone_pass_of_the_teacher_serves_both_branches():
    model, calls = build(), []
    model.teacher.backbone.register_forward_hook(lambda *_: calls.append(1))
    fresh(model, semi_batch())
    assert len(calls) == 1
