"""Soft Teacher: hand-worked numbers, gradient stops, whole steps."""

import copy

import pytest
import torch
from mmdet.models.detectors import SoftTeacher as PortedSoftTeacher
from mmengine.config import ConfigDict
from mmengine.structures import InstanceData

from pld_mmdet.detection.boxes.views import project_boxes
from pld_mmdet.detection.detectors.two_stage import from_score, run_box_head
from pld_mmdet.detection.soft_teacher import (
    BoxJitterSoftTeacher,
    box_uncertainty,
    jitter_boxes,
    weighted_cls_loss,
)
from pld_mmdet.errors import UserError
from tests.detection.helpers import (
    fresh,
    give_confidence,
    tiny_c4,
    tiny_cascade,
    unlike_the_teacher,
)
from tests.detection.semi import semi_batch, without_boxes
from tests.helpers import tiny_faster_rcnn


class TestJitter:
    def test_hand_worked_box_and_further_columns(self):
        boxes = torch.tensor([[100.0, 200.0, 140.0, 280.0, 0.7, 3.0]])
        noise = torch.tensor([[[1.0, -1.0, 0.5, 2.0]], [[0.0, 0.0, 0.0, 0.0]]])
        out = jitter_boxes(boxes, noise, 0.06)
        assert out.shape == (2, 1, 6)
        expected = torch.tensor([102.4, 195.2, 141.2, 289.6, 0.7, 3.0])
        assert torch.allclose(out[0, 0], expected)
        assert torch.equal(out[1, 0], boxes[0])

    def test_sides_count_as_one_pixel_at_least(self):
        out = jitter_boxes(torch.tensor([[5.0, 5.0, 5.5, 9.0]]), torch.ones(1, 1, 4))
        assert torch.allclose(out[0, 0], torch.tensor([5.06, 5.24, 5.56, 9.24]))

    def test_no_box(self):
        assert jitter_boxes(torch.zeros(0, 4), torch.zeros(3, 0, 4)).shape == (3, 0, 4)


class TestUncertainty:
    def test_hand_worked_draws(self):
        refined = torch.tensor([[[0.0, 0, 10, 20]], [[2.0, 2, 12, 24]]])
        u = box_uncertainty(refined, torch.tensor([0]))
        expected = torch.tensor([[0.141421, 0.067344, 0.141421, 0.134687]])
        assert torch.allclose(u, expected, atol=1e-6)
        assert u.mean().item() == pytest.approx(0.121218, abs=1e-6)

    def test_identical_draws_are_certain(self):
        refined = torch.rand(1, 5, 4).expand(7, -1, -1)
        assert box_uncertainty(refined, torch.zeros(5).long()).max() < 1e-6

    def test_class_specific_boxes_take_the_label(self):
        torch.manual_seed(0)
        refined = torch.rand(6, 4, 3 * 4) * 50
        labels = torch.tensor([2, 0, 1, 1])
        chosen = torch.stack(
            [refined[:, n, 4 * c : 4 * c + 4] for n, c in enumerate(labels)], 1
        )
        expected = box_uncertainty(chosen, labels)
        assert torch.equal(box_uncertainty(refined, labels), expected)

    def test_one_draw_is_refused(self):
        with pytest.raises(ValueError, match="two draws"):
            box_uncertainty(torch.zeros(1, 2, 4), torch.zeros(2).long())


class TestClsLoss:
    def logits(self, *losses):
        """Two-class logits whose cross-entropy for label 1 or 0 has given values."""
        return torch.tensor(
            [[0.0, -torch.log(torch.tensor(v).exp() - 1)] for v in losses]
        )

    def test_hand_worked_value(self):
        logits = self.logits(0.5, 1.0, 2.0)  # cross-entropy when column 1 is right
        logits[0] = logits[0].flip(0)  # the first row is foreground, column 0
        labels = torch.tensor([0, 1, 1])
        probs = torch.tensor([[0.3, 0.7], [0.2, 0.8], [0.9, 0.1]])
        loss = weighted_cls_loss(logits, labels, probs)
        assert loss.item() == pytest.approx(1.5 / 1.9, abs=1e-6)

    def test_divisor_is_one_at_least(self):
        logits, labels = self.logits(1.0, 2.0), torch.tensor([1, 1])
        probs = torch.tensor([[0.98, 0.02], [0.96, 0.04]])
        loss = weighted_cls_loss(logits, labels, probs)
        assert loss.item() == pytest.approx(0.02 + 0.08, abs=1e-6)

    def test_certain_background_is_the_plain_mean_and_none_leaves_foreground(self):
        torch.manual_seed(0)
        logits, labels = torch.randn(40, 4), torch.randint(0, 4, (40,))
        probs = torch.zeros(40, 4)
        plain = torch.nn.functional.cross_entropy
        foreground = labels < 3
        loss = weighted_cls_loss(logits, labels, probs)
        assert torch.allclose(loss, plain(logits[foreground], labels[foreground]))
        probs[:, 3] = 1.0
        loss = weighted_cls_loss(logits, labels, probs)
        assert torch.allclose(loss, plain(logits, labels), atol=1e-6)

    def test_background_rows_scale_and_the_teacher_gets_no_gradient(self):
        torch.manual_seed(0)
        labels = torch.tensor([0, 1, 2, 2])  # two of background
        gradients = []
        for weight in (0.25, 0.5):
            logits = torch.zeros(4, 3, requires_grad=True)
            probs = torch.full((4, 3), weight, requires_grad=True)
            loss = weighted_cls_loss(logits, labels, probs)
            (loss * (2 + 2 * weight)).backward()  # undo the divisor
            assert probs.grad is None
            gradients.append(logits.grad)
        assert torch.allclose(gradients[1][2:], 2 * gradients[0][2:])
        assert torch.allclose(gradients[1][:2], gradients[0][:2])

    def test_no_roi_is_zero_with_a_gradient(self):
        logits = torch.zeros(0, 3, requires_grad=True)
        loss = weighted_cls_loss(logits, torch.zeros(0).long(), torch.zeros(0, 3))
        loss.backward()
        assert loss.item() == 0.0
        assert logits.grad.shape == (0, 3)


def test_flip_there_and_back_is_the_identity():
    flip = torch.tensor([[-0.5, 0, 320], [0, 0.5, 0], [0, 0, 1.0]])
    turn = torch.tensor([[0.8, 0.1, 4], [-0.1, 0.9, 30], [0, 0, 1.0]])
    turn[:2, :2] = torch.diag(turn[:2, :2].diagonal())  # a hull of a turn grows
    boxes = torch.tensor([[40.0, 50.0, 90.0, 120.0], [100.0, 30.0, 160.0, 70.0]])
    there = project_boxes(boxes, flip, turn, (10**4, 10**4))
    assert torch.allclose(
        project_boxes(there, turn, flip, (320, 320)), boxes, atol=1e-3
    )


def build(detector=None, norm="frozen", seed=0, **kwargs):
    torch.manual_seed(seed)
    kwargs = {"cls_threshold": 0.8, "rpn_threshold": 0.8, "reg_threshold": 0.5} | kwargs
    model = BoxJitterSoftTeacher(detector or tiny_faster_rcnn(norm=norm), **kwargs)
    model.init_weights()
    give_confidence(model)
    return model.train()


NAMES = {
    f"{part}_{name}"
    for part in ("sup", "unsup")
    for name in ("loss_rpn_cls", "loss_rpn_bbox", "loss_cls", "loss_bbox")
}


@pytest.mark.parametrize("kind", ["frozen", "BN", "c4", "agnostic"])
def test_step_on_faster_rcnns(kind):
    detector = tiny_c4() if kind == "c4" else tiny_faster_rcnn(norm=kind)
    detector.roi_head.bbox_head.reg_class_agnostic = kind == "agnostic"
    model = build(detector)
    losses = fresh(model, semi_batch(flip_strong=True, poison=True))
    assert set(losses) >= NAMES
    assert losses["unsup_loss_cls"] > 0
    assert losses["unsup_loss_bbox"] > 0
    total, _ = model.parse_losses(losses)
    total.backward()
    assert torch.isfinite(total)
    assert all(p.grad is None for p in model.teacher.parameters())
    head = model.student.roi_head.bbox_head
    assert head.fc_reg.weight.grad.abs().sum() > 0
    for kind in ("found", "high", "box"):
        assert model.pseudo_counts[kind].sum() > 0
    boxes = sum(len(i) for i in model.pseudo_boxes["cls"])
    assert boxes == 2 * model.pseudo_counts["high"].sum()  # two images
    assert head.with_cls
    assert head.with_reg


def ported(model, detector):
    """mmdet's SoftTeacher with the same weights, brought to the authors' settings."""
    cfg = dict(
        freeze_teacher=True,
        unsup_weight=4.0,
        pseudo_label_initial_score_thr=0.5,
        rpn_pseudo_thr=0.65,
        cls_pseudo_thr=0.8,
        reg_pseudo_thr=0.5,
        jitter_times=10,
        jitter_scale=0.06,
        min_pseudo_bbox_wh=(0.0, 0.0),
    )
    other = PortedSoftTeacher(
        detector, semi_train_cfg=ConfigDict(cfg), semi_test_cfg=ConfigDict()
    )
    other.load_state_dict(model.state_dict())
    other.train()
    other.teacher.eval()  # (h) of docs/soft_teacher.md
    return other


def variant(kind):
    """A detector whose losses are weighed, and one thing more."""
    detector = tiny_faster_rcnn(norm="frozen")
    head = detector.roi_head.bbox_head
    head.loss_cls.loss_weight, head.loss_bbox.loss_weight = 0.7, 1.3
    if kind == "decoded":
        head.update(
            reg_decoded_bbox=True, loss_bbox=dict(type="mmdet.GIoULoss", loss_weight=2)
        )
    if kind == "live batch norm":
        head.update(
            type="mmdet.ConvFCBBoxHead",
            num_shared_convs=1,
            num_shared_fcs=1,
            conv_out_channels=16,
            norm_cfg=dict(type="BN"),
        )
    return detector


@pytest.mark.parametrize("kind", ["plain", "flip", "decoded", "live batch norm"])
def test_same_losses_as_mmdets_port_where_both_say_the_same(kind):
    """Random draws agree because every sampler is made to take all proposals."""
    detector = variant(kind)
    model = build(copy.deepcopy(detector), share_features=False, rpn_threshold=0.65)
    unlike_the_teacher(model)
    model.student.roi_head.bbox_head.fc_reg.weight.data *= 100  # deltas that count
    other = ported(model, copy.deepcopy(detector))
    for network in (model, other):
        for part in (network.student, network.teacher):
            part.roi_head.bbox_sampler.num = 10**6
            part.roi_head.bbox_sampler.pos_fraction = 1.0
            part.rpn_head.sampler.num = 10**6
            part.rpn_head.sampler.pos_fraction = 1.0
    assert detector.train_cfg.rpn_proposal == detector.test_cfg.rpn  # (c)
    batch = semi_batch(flip_strong=kind == "flip")
    data = model.data_preprocessor(batch, training=True)
    inputs, samples = data["inputs"], data["data_samples"]
    torch.manual_seed(1)
    ours = model.loss(inputs, copy.deepcopy(samples))
    names = dict(sup="sup", weak="unsup_teacher", strong="unsup_student")
    torch.manual_seed(1)
    theirs = other.loss(
        {names[k]: v for k, v in inputs.items()},
        {names[k]: copy.deepcopy(v) for k, v in samples.items()},
    )
    assert ours["unsup_loss_bbox"] > 0
    for name in NAMES:
        a, b = ours[name], theirs[name]
        a, b = (torch.stack(list(v)) if isinstance(v, list) else v for v in (a, b))
        assert torch.allclose(a, b, rtol=2e-4, atol=1e-5), name


def test_shared_backbone_pass_changes_nothing():
    batch = semi_batch(labelled=1, unlabelled=2)
    results, calls = [], []
    for share in (False, True):
        model = build(share_features=share)
        count = []
        model.student.backbone.register_forward_hook(
            lambda *_, count=count: count.append(1)
        )
        torch.manual_seed(4)
        losses = fresh(model, batch)
        results.append(torch.stack([model.parse_losses(losses)[1][n] for n in NAMES]))
        calls.append(len(count))
    assert calls == [2, 1]
    assert torch.allclose(results[0], results[1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("reason", ["size", "backbone's norm", "neck's norm"])
def test_backbone_pass_is_not_shared_where_that_would_change_numbers(reason):
    detector = tiny_faster_rcnn(norm="BN" if reason == "backbone's norm" else "frozen")
    if reason == "neck's norm":
        detector.neck.norm_cfg = dict(type="BN")
    model, count = build(detector), []
    model.student.backbone.register_forward_hook(lambda *_: count.append(1))
    fresh(model, semi_batch(sup_size=96 if reason == "size" else 64))
    assert len(count) == 2


def test_nothing_is_computed_twice():
    """Heads: teacher detections, jitter, background; student sup, cls, positives."""
    model, calls = build(), []
    for name in ("student", "teacher"):
        network = getattr(model, name)
        network.backbone.register_forward_hook(
            lambda *_, name=name: calls.append(f"{name} backbone")
        )
        network.roi_head.bbox_head.register_forward_hook(
            lambda m, i, o, name=name: calls.append(
                (name, o[0] is not None, o[1] is not None)
            )
        )
    fresh(model, semi_batch(unlabelled=3))
    assert calls == [
        "teacher backbone",
        ("teacher", True, True),
        ("teacher", False, True),  # jittered boxes of three images at once
        "student backbone",
        ("student", True, True),
        ("student", True, False),
        ("teacher", True, False),
        ("student", False, True),
    ]


def test_low_detections_need_not_take_part_in_suppression():
    model = build(min_score=0.75)
    data = model.data_preprocessor(semi_batch(unlabelled=3), training=True)
    features = model.teacher.extract_feat(data["inputs"]["weak"])
    weak, cfg = data["data_samples"]["weak"], model.teacher.test_cfg.rcnn
    assert cfg.score_thr < 0.75
    found = model._detect(features, weak)
    cfg.nms.type = "soft_nms"  # a low box may matter there: its setting is kept
    assert from_score(cfg, 0.75) is cfg
    cfg.nms.type, model.hpl_threshold = "nms", 0.0
    every = model._detect(features, weak)
    for few, all_ in zip(found, every, strict=True):
        assert 0 < len(few) < len(all_)
        above = all_[all_.scores > 0.75]
        assert torch.equal(few.bboxes, above.bboxes)
        assert torch.equal(few.labels, above.labels)


def select(model, found):
    data = model.data_preprocessor(semi_batch(unlabelled=len(found)), training=True)
    weak = data["data_samples"]["weak"]
    features = model.teacher.extract_feat(data["inputs"]["weak"])
    return model._select(features, found, weak)


def boxes_with(scores):
    boxes = torch.tensor([[5.0, 5.0, 40.0, 50.0]]).repeat(len(scores), 1)
    return InstanceData(
        bboxes=boxes, scores=torch.tensor(scores), labels=torch.arange(len(scores)) % 3
    )


def test_thresholds_are_strict_and_independent(monkeypatch):
    from pld_mmdet.detection import soft_teacher

    model = build(cls_threshold=0.9, rpn_threshold=0.6, reg_threshold=0.02)
    spread = torch.tensor([[0.02], [0.0199], [0.5]]).expand(3, 4)
    monkeypatch.setattr(soft_teacher, "box_uncertainty", lambda refined, labels: spread)
    truth = select(model, [boxes_with([0.9, 0.55, 0.901])])
    assert truth.cls[0].labels.tolist() == [2]
    assert truth.rpn[0].labels.tolist() == [0, 2]
    assert truth.reg[0].labels.tolist() == [1]  # steady, and below 0.9


def test_without_jitter_the_score_selects():
    truth = select(build(reg_threshold=None), [boxes_with([0.9, 0.55])])
    assert truth.reg is truth.cls
    with pytest.raises(UserError, match="one draw has no spread"):
        build(jitter_times=1)


def test_uncertainty_of_three_images_is_that_of_one_at_a_time(monkeypatch):
    model = build(reg_threshold=10.0)
    found = [boxes_with([0.9, 0.6]), boxes_with([]), boxes_with([0.7])]
    found[2].bboxes += 7.0
    noise = torch.randn(10, 3, 4, generator=torch.Generator().manual_seed(2))
    data = model.data_preprocessor(semi_batch(unlabelled=3), training=True)
    weak, images = data["data_samples"]["weak"], data["inputs"]["weak"]
    features = model.teacher.extract_feat(images)
    monkeypatch.setattr(torch, "randn", lambda *a, **k: noise)
    together = model._steady(features, copy.deepcopy(found), weak)
    start = 0
    for n, instances in enumerate(found):
        part = noise[:, start : start + len(instances)]
        start += len(instances)
        monkeypatch.setattr(torch, "randn", lambda *a, part=part, **k: part)
        one = tuple(level[n : n + 1] for level in features)
        alone = model._steady(one, [copy.deepcopy(instances)], weak[n : n + 1])[0]
        assert len(alone) == len(together[n]) == len(instances)
        if len(instances):
            assert torch.allclose(alone.uncertainty, together[n].uncertainty, atol=1e-5)


def test_no_pseudo_box_leaves_background_weighted_and_no_box_loss():
    model = build(min_score=1.0)
    losses = fresh(model, semi_batch())
    assert losses["unsup_loss_bbox"] == 0
    assert losses["unsup_loss_cls"] > 0
    assert model.pseudo_counts["high"].sum() == 0
    model.parse_losses(losses)[0].backward()


def test_labelled_images_without_boxes():
    model = build()
    total, _ = model.parse_losses(fresh(model, without_boxes(semi_batch())))
    total.backward()
    assert torch.isfinite(total)


def test_weights_multiply_all_losses():
    totals = []
    for weights in (dict(), dict(unsup_weight=0.0), dict(sup_weight=2.0)):
        model = build(**weights)
        torch.manual_seed(3)
        values = model.parse_losses(fresh(model, semi_batch()))[1]
        totals.append({k: v for k, v in values.items() if k in NAMES})
    plain, no_unsup, sup_twice = totals
    for name in NAMES:
        if name.startswith("unsup"):
            assert no_unsup[name] == 0
            assert torch.equal(sup_twice[name], plain[name])
        else:
            assert torch.equal(no_unsup[name], plain[name])
            assert torch.allclose(sup_twice[name], 2 * plain[name])


def test_background_counts_as_the_teacher_believes_in_it():
    """A teacher that sees nothing but background gives the unweighted loss."""
    values = []
    for weigh in (True, False):
        model = build(weigh_background=weigh)
        last = model.teacher.roi_head.bbox_head.fc_cls
        torch.nn.init.zeros_(last.weight)
        for background in (30.0, -30.0):  # no box is above min_score either way
            last.bias.data = torch.tensor([0.0, 0.0, 0.0, background])
            torch.manual_seed(3)
            values.append(fresh(model, semi_batch())["unsup_loss_cls"])
    sure, never, plain, plain_again = values
    assert torch.allclose(sure, plain)
    assert torch.equal(plain, plain_again)
    assert never < 1e-6 < plain


def test_head_flags_return_after_an_error():
    model = build()
    head = model.student.roi_head
    with pytest.raises(TypeError):
        run_box_head(model.student, None, None, only="cls")
    assert head.bbox_head.with_reg


def test_other_detectors_are_refused():
    with pytest.raises(UserError, match="CascadeRCNN is none"):
        BoxJitterSoftTeacher(tiny_cascade())
    sigmoid = tiny_faster_rcnn()
    sigmoid.roi_head.bbox_head.loss_cls = dict(
        type="mmdet.CrossEntropyLoss", use_sigmoid=True
    )
    with pytest.raises(UserError, match="softmax cross-entropy"):
        BoxJitterSoftTeacher(sigmoid)
