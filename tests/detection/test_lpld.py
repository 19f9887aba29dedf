"""LPLD: hand-worked numbers, properties, and whole steps."""

import copy

import pytest
import torch
from mmdet.structures.bbox import bbox2roi
from mmengine.structures import InstanceData

from pld_mmdet.detection.lpld import (
    LPLD,
    _by_image,
    _no_proposals,
    decode_argmax_boxes,
    feature_distance,
    high_confidence,
    lpld_loss,
    mine_low_confidence,
)
from pld_mmdet.detection.mean_teacher import MeanTeacherSFOD
from pld_mmdet.errors import UserError
from tests.detection.helpers import (
    batch_of,
    fresh,
    give_confidence,
    tiny_c4,
    tiny_cascade,
    unlike_the_teacher,
)
from tests.helpers import tiny_faster_rcnn

Z_T = torch.tensor([[4.0, 0.0, 0.0, 2.0]])
Z_S = torch.tensor([[2.0, 0.0, 0.0, 1.0]])


class TestLoss:
    def test_hand_worked_value_and_gradient(self):
        student = Z_S.clone().requires_grad_()
        loss = lpld_loss(student, Z_T, torch.tensor([0.5]))
        assert loss.item() == pytest.approx(0.0193581, abs=1e-7)
        loss.backward()
        expected = torch.tensor([[-0.0177184, 0.0032463, 0.0032463, 0.0112258]])
        assert torch.allclose(student.grad, expected, atol=1e-7)

    def test_weight_none_counts_as_one(self):
        assert lpld_loss(Z_S, Z_T).item() == pytest.approx(0.0387162, abs=1e-7)

    def test_teacher_background_logit_and_shift_do_not_matter(self):
        shifted = Z_T + torch.tensor([3.0, 3.0, 3.0, 1.5])
        assert torch.allclose(lpld_loss(Z_S, shifted), lpld_loss(Z_S, Z_T), atol=1e-7)

    def test_duplicated_rows_leave_it_and_gradients_sum_to_zero(self):
        torch.manual_seed(0)
        student, teacher, weight = torch.randn(5, 9), torch.randn(5, 9), torch.rand(5)
        once = lpld_loss(student, teacher, weight)
        twice = lpld_loss(student.repeat(2, 1), teacher.repeat(2, 1), weight.repeat(2))
        assert torch.allclose(once, twice)
        student.requires_grad_()
        lpld_loss(student, teacher, weight).backward()
        assert student.grad.sum(1).abs().max() < 1e-8

    def test_no_row_is_zero_with_a_gradient(self):
        student = torch.zeros(0, 4, requires_grad=True)
        loss = lpld_loss(student, torch.zeros(0, 4))
        loss.backward()
        assert loss.item() == 0.0
        assert student.grad.shape == (0, 4)

    def test_saturated_student_stays_finite(self):
        loss = lpld_loss(torch.tensor([[-200.0, 0.0, 0.0, 200.0]]), Z_T)
        assert torch.isfinite(loss)

    def test_no_gradient_reaches_teacher_or_weight(self):
        teacher = Z_T.clone().requires_grad_()
        weight = torch.ones(1, requires_grad=True)
        lpld_loss(Z_S.clone().requires_grad_(), teacher, weight).backward()
        assert teacher.grad is None
        assert weight.grad is None


class TestMining:
    def mine(
        self, logits, high=((100.0, 100.0, 110.0, 110.0),), box=(0.0, 0.0, 10.0, 10.0)
    ):
        return mine_low_confidence(
            torch.tensor([logits]), torch.tensor([box]), torch.tensor(high)
        ).item()

    def test_hand_worked_rows(self):
        assert self.mine([4.0, 0.0, 0.0, 2.0])  # certainty 0.96466, background 0.11548
        assert not self.mine([2.0, 0.0, 0.0, 1.0])  # certainty 0.78699
        assert self.mine([4.0, 0.0, 0.0, 6.0])  # background 0.87697 wins, still kept
        assert not self.mine([4.0, 0.0, 0.0, 9.0])  # background 0.9930

    def test_iou_of_exactly_the_limit_is_kept(self):
        assert self.mine([4.0, 0.0, 0.0, 2.0], high=((0.0, 0.0, 10.0, 4.0),))
        assert not self.mine([4.0, 0.0, 0.0, 2.0], high=((0.0, 0.0, 10.0, 4.5),))

    @pytest.mark.parametrize("limit", ["min_certainty", "max_background"])
    def test_both_limits_of_the_softmax_are_inclusive(self, limit):
        logits = torch.tensor([[1.0, 1.0, -9.0], [0.0, -99.0, 0.0]])
        found = {"min_certainty": 0.0, "max_background": 1.0} | {limit: 0.5}
        kept = mine_low_confidence(
            logits, torch.zeros(2, 4), torch.zeros(0, 4), **found
        )
        assert kept.tolist() == [True, True]  # certainty 0.5, background 0.5

    def test_one_class_is_always_certain(self):
        assert self.mine([-3.0, 0.0])

    def test_no_confident_box_covers_nothing(self):
        kept = mine_low_confidence(Z_T, torch.zeros(1, 4), torch.zeros(0, 4))
        assert kept.dtype == torch.bool
        assert kept.tolist() == [True]


class TestDecode:
    def test_class_of_the_arg_max_and_raw_where_background_wins(self):
        proposals = torch.tensor([[0.0, 0.0, 10.0, 20.0]] * 2)
        logits = torch.tensor([[0.0, 5.0, 1.0], [0.0, 1.0, 5.0]])
        deltas = torch.zeros(2, 8)
        deltas[:, 4] = 1.0  # dx of class 1: 0.1 of the width
        deltas[:, 7] = 5.0 * 0.6931472  # dh of class 1: height times two
        boxes = decode_argmax_boxes(proposals, logits, deltas)
        expected = torch.tensor([[1.0, -10.0, 11.0, 30.0], [0.0, 0.0, 10.0, 20.0]])
        assert torch.allclose(boxes, expected, atol=1e-5)

    def test_class_agnostic_deltas(self):
        boxes = decode_argmax_boxes(
            torch.tensor([[0.0, 0.0, 10.0, 10.0]]),
            Z_T,
            torch.tensor([[1.0, 0.0, 0.0, 0.0]]),
        )
        assert torch.allclose(boxes, torch.tensor([[1.0, 0.0, 11.0, 10.0]]))

    def test_agrees_with_mmdet(self):
        from mmdet.models.task_modules.coders import DeltaXYWHBBoxCoder

        torch.manual_seed(0)
        proposals = torch.rand(40, 4) * 50
        proposals[:, 2:] += proposals[:, :2] + 2
        logits, deltas = torch.randn(40, 4), torch.randn(40, 12)
        coder = DeltaXYWHBBoxCoder(target_stds=(0.1, 0.1, 0.2, 0.2))
        winner = logits.argmax(1)
        chosen = deltas.view(40, 3, 4)[torch.arange(40), winner.clamp(max=2)]
        expected = coder.decode(proposals, chosen)
        expected[winner == 3] = proposals[winner == 3]
        assert torch.allclose(
            decode_argmax_boxes(proposals, logits, deltas), expected, atol=1e-4
        )

    def test_hand_worked_means_stds_and_the_cap_of_the_size(self):
        boxes = decode_argmax_boxes(
            torch.tensor([[10.0, 20.0, 30.0, 60.0]] * 2),
            torch.tensor([[1.0, 0.0], [1.0, 0.0]]),
            torch.tensor([[1.0, 2.0, 0.0, 0.0], [0.0, 0.0, 0.0, 900.0]]),
            stds=(0.1, 0.3, 0.2, 0.4),
            means=(0.15, -0.1, 0.0, 0.6931472),
        )
        # the centre moves by 0.25 and 0.5 of the sides, the height is twice as high
        first = torch.tensor([15.0, 20.0, 35.0, 100.0])
        assert torch.allclose(boxes[0], first, atol=1e-4)
        second = torch.tensor([13.0, 36.0 - 1250, 33.0, 36.0 + 1250])  # 1000 / 16
        assert torch.allclose(boxes[1], second, atol=1e-2)


def test_high_confidence_is_strict():
    detections = InstanceData(
        scores=torch.tensor([0.5, 0.75, 0.5000001]), labels=torch.tensor([0, 1, 2])
    )
    assert high_confidence(detections, 0.5).labels.tolist() == [1, 2]


def test_feature_distance():
    a = torch.tensor([[1.0, 0.0], [1.0, 0.0], [1.0, 0.0]], requires_grad=True)
    b = torch.tensor([[5.0, 0.0], [0.0, 2.0], [-3.0, 0.0]])
    distance = feature_distance(a, b)
    assert torch.allclose(distance, torch.tensor([0.0, 1.0, 2.0]))
    assert not distance.requires_grad


def build(kind=LPLD, detector=None, seed=0, **kwargs):
    torch.manual_seed(seed)
    model = kind(detector or tiny_faster_rcnn(), hpl_threshold=0.8, **kwargs)
    model.init_weights()
    give_confidence(model)
    return model.train()


DETECTORS = dict(fpn=tiny_faster_rcnn, c4=tiny_c4, cascade=tiny_cascade)


@pytest.mark.parametrize("name", DETECTORS)
def test_step_on_any_two_stage_detector(name):
    model = build(detector=DETECTORS[name](), lpl_min_certainty=0.3)
    losses = fresh(model, batch_of(2))
    assert torch.isfinite(losses["loss_lpl"])
    assert losses["loss_lpl"] > 0
    model.parse_losses(losses)[0].backward()
    assert all(p.grad is None for p in model.teacher.parameters())
    head = model.student.roi_head.bbox_head
    head = head[-1] if name == "cascade" else head
    assert head.fc_cls.weight.grad.abs().sum() > 0
    assert model.pseudo_counts["low"].sum() > 0


def test_features_are_the_input_of_the_classification_layer():
    model = build(detector=tiny_c4(), lpl_min_certainty=0.0)
    data = model.data_preprocessor(batch_of(1), training=True)
    low = model.pseudo_labels(data["inputs"]["weak"], data["data_samples"]["weak"]).low[
        0
    ]
    head = model.teacher.roi_head.bbox_head
    assert low.features.shape == (len(low), head.fc_cls.in_features)
    assert torch.allclose(head.fc_cls(low.features), low.logits, atol=1e-6)


def test_loss_is_that_of_both_networks_answers_at_the_mined_boxes():
    """Networks that differ, a mirrored view, and images with few and many rows."""
    model = build(
        detector=tiny_faster_rcnn(norm="frozen"),
        lpl_min_certainty=0.45,
        lpl_loss_weight=0.3,
    )
    unlike_the_teacher(model)
    batch = batch_of(2, flip_strong=True)
    batch["inputs"]["weak"][1] //= 4
    losses = fresh(model, batch)
    data = model.data_preprocessor(copy.deepcopy(batch), training=True)
    low = model.pseudo_labels(data["inputs"]["weak"], data["data_samples"]["weak"]).low
    assert 0 < len(low[0]) != len(low[1]) > 0
    mirrored = []
    for boxes in (i.bboxes for i in low):
        x1, y1, x2, y2 = boxes.unbind(1)
        mirrored.append(torch.stack([64 - x2, y1, 64 - x1, y2], 1))
    head = model.student.roi_head
    features = model.student.extract_feat(data["inputs"]["strong"])
    hidden = head.bbox_roi_extractor(features[:4], bbox2roi(mirrored)).flatten(1)
    for layer in head.bbox_head.shared_fcs:
        hidden = layer(hidden).relu()
    theirs, logits = (
        torch.cat([i[name] for i in low]) for name in ("features", "logits")
    )
    weight = feature_distance(hidden, theirs)
    expected = lpld_loss(head.bbox_head.fc_cls(hidden), logits, weight, 0.3)
    assert losses["loss_lpl"].item() == pytest.approx(expected.item(), rel=1e-4)


def test_what_is_said_about_a_mined_proposal():
    model = build(lpl_min_certainty=0.45)
    head = model.teacher.roi_head.bbox_head
    coder = head.bbox_coder
    coder.means = (0.1, -0.2, 0.0, 0.3)
    data = model.data_preprocessor(batch_of(2), training=True)
    said = model.pseudo_labels(data["inputs"]["weak"], data["data_samples"]["weak"])
    extractor = model.teacher.roi_head.bbox_roi_extractor
    features = model.teacher.extract_feat(data["inputs"]["weak"])
    for low, dropped in zip(said.low, said.dropped, strict=True):
        assert len(low) > 0
        assert len(dropped) > 0
    rois = bbox2roi([i.bboxes for i in said.low])
    logits, deltas = head(extractor(features[:4], rois))
    every = InstanceData.cat(said.low)
    assert torch.allclose(every.logits, logits, atol=1e-5)
    best = logits[:, :3].argmax(1)
    assert torch.equal(every.labels, best)
    probability = logits.softmax(1)[torch.arange(len(best)), best]
    assert torch.allclose(every.scores, probability, atol=1e-5)
    decoded = decode_argmax_boxes(rois[:, 1:], logits, deltas, coder.stds, coder.means)
    assert torch.allclose(every.decoded, decoded, atol=1e-3)


def test_an_image_without_a_confident_box_mines_nothing(monkeypatch):
    model = build(lpl_min_certainty=0.0)
    label = model.label

    def second_only(*args):
        labels = label(*args)
        labels.high[0] = labels.high[0][:0]
        return labels

    monkeypatch.setattr(model, "label", second_only)
    data = model.data_preprocessor(batch_of(2), training=True)
    views = data["inputs"]["weak"], data["data_samples"]["weak"]
    first, second = model.pseudo_labels(*views).low
    assert len(second) > len(first) == 0
    model.mine_without_high = True
    first, second_again = model.pseudo_labels(*views).low
    assert len(first) > 0
    assert len(second_again) == len(second)


def test_pooled_proposals_go_back_to_their_images():
    rows = torch.arange(3)
    pooled = InstanceData(image=torch.tensor([0, 0, 2]), rows=rows)
    assert [i.rows.tolist() for i in _by_image(pooled, 4)] == [[0, 1], [], [2], []]
    none = _no_proposals(torch.zeros(1), num_classes=3)
    shapes = [tuple(none[name].shape) for name in ("bboxes", "decoded", "logits")]
    assert shapes == [(0, 4), (0, 4), (0, 4)]
    assert {len(value) for value in none.values()} == {0}
    assert [len(i) for i in _by_image(none, 2)] == [0, 0]


def test_teacher_head_runs_once():
    model = build()
    calls = []
    model.teacher.roi_head.bbox_head.register_forward_hook(lambda *_: calls.append(1))
    model.teacher.backbone.register_forward_hook(lambda *_: calls.append(2))
    fresh(model, batch_of(2))
    assert sorted(calls) == [1, 2]


@pytest.mark.parametrize("detector", [tiny_faster_rcnn, tiny_cascade])
def test_weight_zero_equals_mean_teacher_bit_for_bit(detector):
    results = []
    for kind, kwargs in ((MeanTeacherSFOD, {}), (LPLD, dict(lpl_loss_weight=0.0))):
        model = build(kind, detector(), **kwargs)
        optimizer = torch.optim.SGD(model.student.parameters(), lr=0.01)
        for step in range(2):
            torch.manual_seed(step)
            losses = fresh(model, batch_of(2, seed=step))
            total, _ = model.parse_losses(losses)
            optimizer.zero_grad()
            total.backward()
            optimizer.step()
        results.append((total, model.student.state_dict()))
    assert torch.equal(results[0][0], results[1][0])
    for name, value in results[0][1].items():
        assert torch.equal(value, results[1][1][name]), name


@pytest.mark.parametrize("reason", ["no_high", "covered", "background"])
def test_nothing_mined_equals_mean_teacher(reason):
    kwargs = dict(
        no_high={},
        covered=dict(lpl_max_iou=-1.0),
        background=dict(lpl_max_background=-1.0),
    )[reason]
    totals = []
    for kind, extra in ((MeanTeacherSFOD, {}), (LPLD, kwargs)):
        model = build(kind, **extra)
        if reason == "no_high":
            model.hpl_threshold = 1.0
        torch.manual_seed(5)
        totals.append(model.parse_losses(fresh(model, batch_of(2)))[0])
    assert torch.equal(totals[0], totals[1])


def test_mine_without_high_is_a_flag():
    model = build(lpl_min_certainty=0.0)
    model.hpl_threshold = 1.0
    assert fresh(model, batch_of(2))["loss_lpl"] == 0
    model.mine_without_high = True
    assert fresh(model, batch_of(2))["loss_lpl"] > 0


def test_same_views_and_networks_give_zero():
    model = build(lpl_min_certainty=0.0, detector=tiny_faster_rcnn(norm="frozen"))
    data = batch_of(2)
    data["inputs"]["strong"] = [i.clone() for i in data["inputs"]["weak"]]
    losses = fresh(model, data)
    assert model.pseudo_counts["low"].sum() > 0
    assert losses["loss_lpl"].abs() < 1e-6


def test_batch_of_two_mines_like_one_at_a_time():
    model = build(lpl_min_certainty=0.3)
    data = model.data_preprocessor(batch_of(2), training=True)
    weak, samples = data["inputs"]["weak"], data["data_samples"]["weak"]
    both = model.pseudo_labels(weak, samples)
    for i in range(2):
        alone = model.pseudo_labels(weak[i : i + 1], samples[i : i + 1])
        assert len(alone.low[0]) == len(both.low[i]) > 0
        assert torch.allclose(alone.low[0].bboxes, both.low[i].bboxes, atol=1e-3)
        by_function = mine_low_confidence(
            torch.cat([both.low[i].logits, both.dropped[i].logits]),
            torch.cat([both.low[i].decoded, both.dropped[i].decoded]),
            both.high[i].bboxes,
            min_certainty=0.3,
        )
        assert by_function.tolist() == [True] * len(both.low[i]) + [False] * len(
            both.dropped[i]
        )


def test_views_of_other_geometry_are_matched():
    """A flipped strong view of the same image must see the flipped pseudo boxes."""
    model = build(lpl_min_certainty=0.3)
    losses = fresh(model, batch_of(2, flip_strong=True))
    assert losses["loss_lpl"] > 0


def test_empty_and_degenerate_batches():
    model = build()
    model.hpl_threshold = 1.0  # no confident box at all
    losses = fresh(model, batch_of(1))
    assert losses["loss_bbox"] == 0
    assert losses["loss_rpn_bbox"][0] == 0
    assert losses["loss_cls"] > 0
    for cfg in (model.student.test_cfg, model.student.train_cfg):
        proposals = (
            cfg.rpn if "rcnn" in cfg and "score_thr" in cfg.rcnn else cfg.rpn_proposal
        )
        proposals.min_bbox_size = 10_000  # no proposal either
    model.teacher.test_cfg.rpn.min_bbox_size = 10_000
    model.teacher.rpn_head.test_cfg.min_bbox_size = 10_000
    losses = fresh(model, batch_of(1))
    total, _ = model.parse_losses(losses)
    total.backward()
    assert torch.isfinite(total)


def test_bf16_autocast():
    model = build(lpl_min_certainty=0.3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = fresh(model, batch_of(2))
    total, _ = model.parse_losses(losses)
    total.backward()
    assert torch.isfinite(total)


def test_ground_truth_in_the_batch_is_never_looked_at():
    totals = []
    for poison in (False, True):
        model = build(lpl_min_certainty=0.3)
        torch.manual_seed(3)
        totals.append(fresh(model, batch_of(2, poison=poison))["loss_lpl"])
    assert torch.equal(*totals)


def test_needs_proposals_and_says_so():
    retina = copy.deepcopy(tiny_faster_rcnn())
    single = dict(
        type="mmdet.RetinaNet",
        data_preprocessor=retina.data_preprocessor,
        backbone=retina.backbone,
        neck=retina.neck,
        bbox_head=dict(type="mmdet.RetinaHead", num_classes=3, in_channels=16),
        train_cfg=dict(
            assigner=dict(
                type="mmdet.MaxIoUAssigner",
                pos_iou_thr=0.5,
                neg_iou_thr=0.4,
                min_pos_iou=0,
            ),
            sampler=dict(type="mmdet.PseudoSampler"),
            allowed_border=-1,
            pos_weight=-1,
        ),
        test_cfg=dict(
            nms_pre=100,
            min_bbox_size=0,
            score_thr=0.05,
            nms=dict(type="nms", iou_threshold=0.5),
            max_per_img=20,
        ),
    )
    with pytest.raises(UserError, match="RetinaNet has none"):
        LPLD(single)
    model = MeanTeacherSFOD(single)  # fine without proposals
    model.init_weights()
    total, _ = model.train().parse_losses(fresh(model, batch_of(2)))
    assert torch.isfinite(total)
