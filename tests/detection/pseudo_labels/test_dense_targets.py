"""Dense soft targets: numbers by hand, what is replaced, and who cannot have them."""

import copy
from types import SimpleNamespace

import pytest
import torch

from pld_mmdet.detection.mean_teacher import MeanTeacherSFOD
from pld_mmdet.detection.pseudo_labels.dense_targets import (
    HEAD,
    dense_cls_loss,
    dense_logits,
    dense_tap,
    surest,
)
from pld_mmdet.errors import UserError
from tests.adaptation import detectors
from tests.adaptation.tiny import spread_scores
from tests.detection.helpers import batch_of, fresh, unlike_the_teacher
from tests.helpers import tiny_faster_rcnn

KINDS = {
    "retinanet": "loss_cls",
    "fcos": "loss_cls",
    "atss": "loss_cls",
    "dino": "enc_loss_cls",
}


def logits(*rows):
    """[1, L, C] logits of L rows of probabilities."""
    return torch.tensor([rows]).logit()


def test_one_location_by_hand():
    """Teacher 0.6, student 0.3; the same location as one of the many others."""
    student = logits([0.3])
    assert dense_cls_loss(student, logits([0.6])).item() == pytest.approx(
        0.077855, abs=1e-6
    )
    unsure = dense_cls_loss(student, logits([0.4]))  # the sum rounds to no location
    assert unsure.item() == pytest.approx(0.032101, abs=1e-6)


def test_sure_locations_learn_all_their_classes_and_divide():
    """Largest scores 0.9, 0.8 and 0.4 add up to 2.1: two of three, divided by 1.7."""
    teacher = logits([0.9, 0.2], [0.4, 0.1], [0.3, 0.8])
    student = logits([0.6, 0.5], [0.7, 0.2], [0.3, 0.6])
    p, q = torch.tensor([0.9, 0.2, 0.3, 0.8]), torch.tensor([0.6, 0.5, 0.3, 0.6])
    sure = -(p * q.log() + (1 - p) * (1 - q).log()) * (p - q) ** 2
    q = torch.tensor([0.7, 0.2])
    rest = -(1 - q).log() * q**2
    expected = (sure.sum() + rest.sum()) / 1.7
    assert dense_cls_loss(student, teacher).item() == pytest.approx(expected.item())
    # a share: the surest of three locations, whatever the scores add up to
    p, q = torch.tensor([0.9, 0.2]), torch.tensor([0.6, 0.5])
    sure = -(p * q.log() + (1 - p) * (1 - q).log()) * (p - q) ** 2
    q = torch.tensor([0.7, 0.2, 0.3, 0.6])
    rest = -(1 - q).log() * q**2
    found = dense_cls_loss(student, teacher, region=0.01)
    assert found.item() == pytest.approx(
        (sure.sum() + rest.sum()).item()
    )  # / max(1, .9)


def test_as_many_locations_as_the_scores_add_up_to():
    """3.5 is four, the mean of the next image's scores plays no part: 1.2 is one."""
    first = [0.4, 0.9, 0.05, 0.8, 0.3, 0.2, 0.55, 0.2, 0.1]
    second = [0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.3, 0.2]
    chosen = surest(torch.tensor([first, second]), "sum")
    assert chosen[0].nonzero().flatten().tolist() == [0, 1, 3, 6]
    assert chosen[1].nonzero().flatten().tolist() == [7]
    assert not surest(torch.full((1, 4), 0.1), "sum").any()
    # shares are of the whole batch: 4 of 18, all of them in the first image
    chosen = surest(torch.tensor([first, second]), 0.2)
    assert chosen.nonzero().tolist() == [[0, 0], [0, 1], [0, 3], [0, 6]]
    assert surest(torch.tensor([second]), 0.01).sum() == 1


def test_the_target_has_no_gradient_and_pulls_towards_itself():
    teacher = logits([0.9]).requires_grad_()
    student = logits([0.2]).requires_grad_()
    dense_cls_loss(student, teacher).backward()
    assert teacher.grad is None
    assert student.grad.item() < 0


def test_rows_are_locations_then_anchors_and_columns_are_classes():
    """Two anchors, three classes, levels of 2 x 4 and 1 x 2."""
    levels = [torch.zeros(2, 6, 2, 4), torch.zeros(2, 6, 1, 2)]
    levels[0][1, 1 * 3 + 2, 0, 2] = 7.0  # image 1, anchor 1, class 2, y 0, x 2
    levels[1][0, 0 * 3 + 1, 0, 1] = 5.0  # image 0, anchor 0, class 1, x 1
    seen = SimpleNamespace(output=lambda name: {HEAD: (levels, "boxes")}[name])
    head = SimpleNamespace(bbox_head=SimpleNamespace(cls_out_channels=3))
    rows = dense_logits(head, seen)
    assert rows.shape == (2, 2 * 4 * 2 + 1 * 2 * 2, 3)
    assert rows.nonzero().tolist() == [[0, 16 + 2, 1], [1, (0 * 4 + 2) * 2 + 1, 2]]


def build(name, threshold=0.3, **kwargs):
    torch.manual_seed(0)
    detector = getattr(detectors, name)()
    model = MeanTeacherSFOD(detector, hpl_threshold=threshold, **kwargs)
    model.init_weights()
    spread_scores(model.student)
    model.teacher.load_state_dict(model.student.state_dict())
    return model.train()


def losses(model, images=2, **kwargs):
    torch.manual_seed(3)
    return fresh(model, batch_of(images, **kwargs))


def bits(value):
    return torch.stack(value) if isinstance(value, list) else value


@pytest.mark.parametrize("name", list(KINDS))
def test_the_class_loss_alone_is_replaced(name):
    plain, soft = losses(build(name)), losses(build(name, soft_dense={}))
    changed = {k for k in plain if not torch.equal(bits(plain[k]), bits(soft[k]))}
    assert set(plain) == set(soft)
    assert changed == {KINDS[name]}
    off = losses(build(name, soft_dense=None))
    assert all(torch.equal(bits(plain[k]), bits(off[k])) for k in plain)
    heavier = losses(build(name, soft_dense=dict(weight=12.0)))
    assert heavier[KINDS[name]].item() == pytest.approx(3 * soft[KINDS[name]].item())
    sum(sum(v) if isinstance(v, list) else v for v in soft.values()).backward()


@pytest.mark.parametrize("name", list(KINDS))
def test_a_teacher_that_is_the_student_has_nothing_to_teach(name):
    """One view and everywhere; the same locations on both sides, image by image."""
    model = build(name, soft_dense=dict(region=1.0))
    model.student.backbone.eval()  # batch norm as the teacher's
    getattr(model.student, "encoder", model.student.neck).eval()  # no dropout
    batch = batch_of(2)
    batch["inputs"]["strong"] = copy.deepcopy(batch["inputs"]["weak"])
    assert fresh(model, batch)[KINDS[name]].item() == pytest.approx(0, abs=1e-6)
    batch["inputs"]["strong"].reverse()
    assert fresh(model, batch)[KINDS[name]].item() > 1e-5


@pytest.mark.parametrize("name", ["retinanet", "dino"])
def test_the_student_learns_the_teachers_scores_times_both_weights(name):
    model = build(name, soft_dense=dict(weight=3.0, region=0.2))
    model.student.bbox_head.loss_cls.loss_weight = 0.7
    unlike_the_teacher(model)
    with dense_tap(model.student) as ours, dense_tap(model.teacher) as theirs:
        found = losses(model)[KINDS[name]]
    both = dense_logits(model.student, ours), dense_logits(model.teacher, theirs)
    expected = 3.0 * 0.7 * dense_cls_loss(*both, 0.2)
    assert found.item() == pytest.approx(expected.item())
    assert found.item() != pytest.approx(2.1 * dense_cls_loss(*both).item())
    found.backward()
    assert any(p.grad is not None and p.grad.any() for p in model.student.parameters())


def test_an_image_without_a_box_is_left_out_on_both_sides():
    """Of images 0 and 1 the first is empty: as if the second came alone."""
    model = build("retinanet", soft_dense=dict(region=1.0), skip_empty=True)
    model.student.backbone.eval()
    found = model._teacher_detections

    def hidden(inputs, samples):
        detections = found(inputs, samples)
        detections[0] = detections[0][:0]
        return detections

    model._teacher_detections = hidden
    batch = batch_of(2)
    batch["inputs"]["strong"][1] = batch["inputs"]["weak"][1].clone()
    assert fresh(model, batch)["loss_cls"].item() == pytest.approx(0, abs=1e-6)


def test_nothing_sure_is_finite_where_focal_loss_is_not_divided():
    """No pseudo box at all: stock adds up all anchors' losses."""
    soft = losses(build("retinanet", 1.0, soft_dense=dict(weight=1.0)))["loss_cls"]
    hard = sum(losses(build("retinanet", 1.0))["loss_cls"])
    assert torch.isfinite(soft)
    assert soft < hard / 10


@pytest.mark.parametrize(
    ("chosen", "words"),
    [
        (dict(region="all"), "region='all' names no part"),
        (dict(region=0.0), "region=0.0 names no part"),
        (dict(region=1.5), "region=1.5 names no part"),
        (dict(share=0.01), "soft_dense has no share"),
    ],
)
def test_wrong_settings_are_a_sentence(chosen, words):
    with pytest.raises(UserError, match=words):
        build("retinanet", soft_dense=chosen)


def test_views_of_other_geometry_and_sizes_are_refused():
    with pytest.raises(UserError, match="differ in geometry"):
        losses(build("fcos", soft_dense={}), flip_strong=True)
    with pytest.raises(UserError, match="at its own size"):
        build("fcos", soft_dense={}, teacher_scales=(1.0, 2.0))


def test_heads_that_score_no_location_are_refused():
    with pytest.raises(UserError, match="FasterRCNN has no box head"):
        MeanTeacherSFOD(tiny_faster_rcnn(), soft_dense={})
    with pytest.raises(UserError, match="DeformableDETR has a DeformableDETRHead"):
        build("deformable_detr", soft_dense={})
    with pytest.raises(UserError, match="has no box head"):
        MeanTeacherSFOD(tiny_faster_rcnn(), soft_dense={}, soft_rois="mixed")
