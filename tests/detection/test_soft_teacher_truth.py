"""Soft Teacher's pseudo truth: found by the teacher, refined, carried to a view."""

import numpy as np
import pytest
import torch
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData

from pld_mmdet.detection.soft_teacher import (
    BoxJitterSoftTeacher,
    PseudoTruth,
    box_uncertainty,
    jitter_boxes,
)
from pld_mmdet.errors import UserError
from tests.detection.helpers import fresh, give_confidence, unlike_the_teacher
from tests.detection.semi import semi_batch
from tests.helpers import tiny_faster_rcnn


def build(**kwargs):
    torch.manual_seed(0)
    kwargs = {"cls_threshold": 0.8, "rpn_threshold": 0.7, "reg_threshold": 0.1} | kwargs
    model = BoxJitterSoftTeacher(tiny_faster_rcnn(norm="frozen"), **kwargs)
    model.init_weights()
    give_confidence(model)
    unlike_the_teacher(model)
    return model.train()


def weak_view(model, images: int = 2):
    data = model.data_preprocessor(semi_batch(unlabelled=images), training=True)
    weak, samples = data["inputs"]["weak"], data["data_samples"]["weak"]
    return weak, model.teacher.extract_feat(weak), samples


def shifting_head(model):
    """The teacher's box head answers by class alone: stay, shift, shift and widen."""
    layer = model.teacher.roi_head.bbox_head.fc_reg
    torch.nn.init.zeros_(layer.weight)
    by_class = torch.tensor([[0.0, 0, 0, 0], [2.0, 0, 0, 0], [4.0, 0, 3.4657, 0]])
    layer.bias.data = by_class.flatten()


FOUND = (
    ([[10.0, 20, 30, 50], [20.0, 4, 40, 44]], [1, 0]),
    ([], []),
    ([[8.0, 8, 24, 40], [30.0, 30, 60, 60], [4.0, 30, 14, 50]], [2, 1, 0]),
)


def found():
    """Boxes of three images, the second of which has none."""
    return [
        InstanceData(
            bboxes=torch.tensor(boxes).reshape(-1, 4),
            labels=torch.tensor(labels, dtype=torch.long),
            scores=torch.linspace(0.9, 0.6, len(labels)),
        )
        for boxes, labels in FOUND
    ]


def test_boxes_are_refined_by_the_deltas_of_their_class():
    model = build(reg_threshold=None, refine_boxes=True, cls_threshold=0.0)
    shifting_head(model)
    _, features, samples = weak_view(model, 3)
    truth = model._select(features, found(), samples)
    first, none, third = (i.bboxes for i in truth.reg)
    expected = torch.tensor([[14.0, 20, 34, 50], [20.0, 4, 40, 44]])
    assert torch.allclose(first, expected, atol=1e-3)
    assert none.shape == (0, 4)
    # twice as wide around 16 + 6.4; 6 to the right, cut at 64; unmoved
    expected = torch.tensor([[6.4, 8, 38.4, 40], [36.0, 30, 64, 60], [4.0, 30, 14, 50]])
    assert torch.allclose(third, expected, atol=1e-2)
    for name in ("labels", "scores"):
        for ours, theirs in zip(truth.reg, truth.cls, strict=True):
            assert torch.equal(getattr(ours, name), getattr(theirs, name))
    _, alone, samples = weak_view(model, 1)
    (none,) = model._select(alone, found()[1:2], samples).reg
    assert len(none) == 0


def test_steadiness_is_the_spread_of_the_teachers_answers():
    model = build(reg_threshold=0.1, jitter_times=7, jitter_fraction=0.1)
    shifting_head(model)
    _, features, samples = weak_view(model, 3)
    torch.manual_seed(5)
    steady = model._steady(features, found(), samples)
    torch.manual_seed(5)
    every = found()
    boxes, labels = (
        torch.cat([getattr(i, name) for i in every]) for name in ("bboxes", "labels")
    )
    jittered = jitter_boxes(boxes, torch.randn(7, 5, 4), 0.1)
    size = jittered[..., 2:3] - jittered[..., :1]
    share = torch.tensor([[0.0, 0.0], [0.2, 0.2], [-0.1, 0.9]])[labels]  # of the width
    jittered[..., 0::2] += share * size
    expected = box_uncertainty(jittered.clamp(0, 64), labels).mean(1)
    parts = expected.split([2, 0, 3])
    for kept, part in zip(steady, parts, strict=True):
        assert torch.allclose(kept.uncertainty, part[part < 0.1], atol=1e-4)
    assert 0 < sum(map(len, steady)) < 5


def half_of_the_boxes_are_steady(model):
    images, _, samples = weak_view(model)
    model.reg_threshold = 10.0
    torch.manual_seed(1)
    every = model.pseudo_sets(images, samples)["box"]
    model.reg_threshold = torch.cat([i.uncertainty for i in every]).median().item()


def test_the_teacher_finds_and_the_student_has_no_say():
    model = build()
    half_of_the_boxes_are_steady(model)
    images, *_ = weak_view(model)
    torch.manual_seed(1)
    before = model.pseudo_sets(images, weak_view(model)[2])
    with torch.no_grad():
        for parameter in model.student.parameters():
            parameter.zero_()
    torch.manual_seed(1)
    after = model.pseudo_sets(images, weak_view(model)[2])
    counts = {k: sum(map(len, v)) for k, v in before.items()}
    assert counts["found"] > counts["cls"] > 0
    assert counts["box"] not in (0, counts["found"], counts["cls"])
    for kind, per_image in before.items():
        for ours, theirs in zip(per_image, after[kind], strict=True):
            assert torch.equal(ours.bboxes, theirs.bboxes)
    labels = model.pseudo_labels(images, weak_view(model)[2]).high
    assert [len(i) for i in labels] == [len(i) for i in before["cls"]]


def test_a_step_tells_what_it_found_and_believed():
    model = build(predict_on="teacher")
    half_of_the_boxes_are_steady(model)
    images, _, samples = weak_view(model)
    torch.manual_seed(1)
    expected = model.pseudo_sets(images, samples)
    torch.manual_seed(1)
    fresh(model, semi_batch(unlabelled=2))
    for kind, per_image in expected.items():
        labels = torch.cat([i.labels for i in per_image])
        assert [len(i) for i in model.pseudo_boxes[kind]] == [len(i) for i in per_image]
        counted = model.pseudo_counts["high" if kind == "cls" else kind]
        assert torch.equal(counted * 2, torch.bincount(labels, minlength=3).float())


def test_detections_start_from_the_proposals_of_training():
    model = build()
    model.teacher.train_cfg.rpn_proposal.max_per_img = 5
    _, features, samples = weak_view(model)
    seen = []
    model.teacher.roi_head.bbox_roi_extractor.register_forward_hook(
        lambda _, inputs, __: seen.append(len(inputs[1]))
    )
    assert sum(map(len, model._detect(features, samples))) > 0
    assert seen == [10]
    model.min_box_size = 63.9  # no side is longer
    assert sum(map(len, model._detect(features, samples))) == 0


def view(shift: tuple[float, float], shape: tuple[int, int]) -> DetDataSample:
    matrix = np.eye(3, dtype=np.float32)
    matrix[:2, 2] = shift
    return DetDataSample(metainfo=dict(homography_matrix=matrix, img_shape=shape))


def test_what_has_no_size_left_in_the_strong_view_teaches_nothing():
    model = build(min_box_size=4.0)
    weak, strong = [view((0, 0), (64, 64))], [view((-20, 3), (48, 40))]

    def boxes(*rows):
        return [InstanceData(bboxes=torch.tensor(rows), labels=torch.arange(len(rows)))]

    inside, outside = [30.0, 10, 50, 40], [2.0, 5, 18, 30]
    thin, enough = [10.0, 5, 23, 30], [10.0, 5, 24.5, 30]  # 3 and 4.5 pixels are left
    truth = PseudoTruth(
        rpn=boxes(outside, inside), cls=boxes(thin, enough, inside), reg=boxes(outside)
    )
    carried = model._in_strong_view(truth, weak, strong)
    assert carried.rpn[0].bboxes.tolist() == [[10, 13, 30, 43]]
    assert carried.rpn[0].labels.tolist() == [1]
    assert carried.cls[0].bboxes.tolist() == [[0, 8, 4.5, 33], [10, 13, 30, 43]]
    assert carried.cls[0].labels.tolist() == [1, 2]
    assert len(carried.reg[0]) == 0
    shared = PseudoTruth(truth.cls, truth.cls, truth.cls)
    carried = model._in_strong_view(shared, weak, strong)
    assert carried.rpn is carried.cls is carried.reg


def test_background_is_looked_at_where_it_lies_in_the_weak_view():
    """The strong view lies 7 to the right of the weak one and 3 higher."""
    model, batch, seen = build(), semi_batch(unlabelled=2), {}
    for sample in batch["data_samples"]["strong"]:
        sample.set_metainfo(dict(homography_matrix=view((7, -3), ()).homography_matrix))
    for name in ("student", "teacher"):
        getattr(model, name).roi_head.bbox_roi_extractor.register_forward_hook(
            lambda _, inputs, __, name=name: seen.setdefault(name, []).append(inputs[1])
        )
    fresh(model, batch)
    _, sampled, _ = seen["student"]  # labelled images, classes, boxes
    back = seen["teacher"][-1]
    lying = sampled - torch.tensor([0.0, 7, -3, 7, -3])
    lying[:, 1:] = lying[:, 1:].clamp(0, 64)
    assert 0 < len(back) < len(sampled)
    assert (back[:, None] - lying).abs().amax(2).amin(1).max() < 1e-3


def test_what_is_not_said_is_the_authors_setting():
    model = BoxJitterSoftTeacher(tiny_faster_rcnn())
    assert model.hpl_threshold == 0.5
    assert (model.rpn_threshold, model.cls_threshold) == (0.9, 0.9)
    assert (model.reg_threshold, model.jitter_times) == (0.02, 10)
    assert (model.jitter_fraction, model.min_box_size) == (0.06, 0.0)
    assert (model.sup_weight, model.unsup_weight) == (1.0, 4.0)
    assert (model.weigh_background, model.refine_boxes) == (True, False)
    assert (model.share_features, model.predict_on) == (True, "student")


def test_refined_boxes_are_not_chosen_by_steadiness_too():
    with pytest.raises(UserError, match="not refined"):
        build(refine_boxes=True, reg_threshold=0.02)
    assert build(reg_threshold=None, jitter_times=1).jitter_times == 1
