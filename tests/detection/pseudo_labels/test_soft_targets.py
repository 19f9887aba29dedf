"""Soft targets of RoIs and anchors: numbers by hand, and whose they are."""

import copy

import numpy as np
import pytest
import torch

from pld_mmdet.detection.detectors.two_stage import box_heads, run_box_head
from pld_mmdet.detection.pseudo_labels.soft_targets import (
    soft_cls_loss,
    soft_objectness_loss,
)
from pld_mmdet.distill.feature_tap import FeatureTap
from pld_mmdet.errors import UserError
from tests.detection.helpers import batch_of, fresh, tiny_cascade, unlike_the_teacher
from tests.detection.pseudo_labels.test_ingredients import (
    build,
    losses,
    one_empty,
    totals,
)
from tests.helpers import tiny_faster_rcnn


def log(*rows):
    return torch.tensor(rows).log()


def test_a_missed_object_turns_the_sign_of_the_gradient():
    """Teacher (person 0.2, background 0.8), student (0.1, 0.9)."""
    teacher, student = log([0.2, 0.8]), log([0.1, 0.9]).requires_grad_()
    loss = soft_cls_loss(student, torch.tensor([1]), teacher)
    assert loss.item() == pytest.approx(0.044403, abs=1e-6)
    (soft,) = torch.autograd.grad(loss, student)
    assert soft[0].tolist() == pytest.approx([-0.1, 0.1], abs=1e-6)
    hard = torch.nn.functional.cross_entropy(student, torch.tensor([1]))
    (gradient,) = torch.autograd.grad(hard, student)
    assert gradient[0].tolist() == pytest.approx([0.1, -0.1], abs=1e-6)


TEACHER = log([0.01, 0.99], [0.01, 0.99], [0.2, 0.8], [0.7, 0.3])
STUDENT = log([0.02, 0.98], [0.02, 0.98], [0.1, 0.9], [0.6, 0.4])
NOTHING = torch.ones(4, dtype=torch.long)


def test_division_by_rows_and_by_the_teachers_mass():
    by_rows = soft_cls_loss(STUDENT, NOTHING, TEACHER)
    assert by_rows.item() == pytest.approx(0.018061, abs=1e-6)
    by_mass = soft_cls_loss(STUDENT, NOTHING, TEACHER, least_mass=0.0)
    assert by_mass.item() == pytest.approx(0.078525, abs=1e-6)  # mass 0.92
    at_least_one = soft_cls_loss(STUDENT, NOTHING, TEACHER, least_mass=1.0)
    assert at_least_one.item() == pytest.approx(0.072243, abs=1e-6)


def test_pseudo_boxes_keep_their_hard_label():
    labels = torch.tensor([1, 1, 0, 1])  # the third RoI lies on a pseudo box
    found = soft_cls_loss(STUDENT, labels, TEACHER)
    rest = 0.072243 - 0.044403  # the other rows' divergence
    assert found.item() == pytest.approx((rest + 2.302585) / 4, abs=1e-6)
    everywhere = soft_cls_loss(STUDENT, labels, TEACHER, kind="all")
    assert everywhere.item() == pytest.approx(0.018061, abs=1e-6)


def test_a_pseudo_box_has_no_part_in_the_mass():
    labels = torch.tensor([1, 1, 0, 1])
    found = soft_cls_loss(STUDENT, labels, TEACHER, least_mass=0.2)
    soft = (0.072243 - 0.044403) / (0.01 + 0.01 + 0.7)
    assert found.item() == pytest.approx(soft + 2.302585 / 4, abs=1e-6)
    everywhere = soft_cls_loss(STUDENT, labels, TEACHER, "all", least_mass=0.2)
    assert everywhere.item() == pytest.approx(0.078525, abs=1e-6)  # mass 0.92
    no_background = soft_cls_loss(STUDENT, NOTHING * 0, TEACHER, least_mass=1.0)
    assert no_background.item() == pytest.approx(2.659364, abs=1e-6)  # plain


def test_the_teacher_gets_no_gradient():
    labels = torch.tensor([1, 1, 0, 1])
    for kind in ("mixed", "all", "weighted"):
        teacher = TEACHER.clone().requires_grad_()
        student = STUDENT.clone().requires_grad_()
        soft_cls_loss(student, labels, teacher, kind, least_mass=0.0).backward()
        assert teacher.grad is None
        assert student.grad.any()
    student, teacher = (torch.randn(1, 2, 3, 2, requires_grad=True) for _ in "ab")
    soft_objectness_loss([student], [teacher]).backward()
    assert teacher.grad is None


def test_background_by_the_teachers_belief():
    """One positive CE 0.5; three backgrounds CE 0.1, believed 0.9, 0.5, 0.1."""
    e = np.exp
    student = log(*[[e(-0.5), 1 - e(-0.5)]], *[[1 - e(-0.1), e(-0.1)]] * 3)
    teacher = log([0.6, 0.4], [0.1, 0.9], [0.5, 0.5], [0.9, 0.1])
    labels = torch.tensor([0, 1, 1, 1])
    found = soft_cls_loss(student.float(), labels, teacher, kind="weighted")
    assert found.item() == pytest.approx(0.26, abs=1e-6)


def test_no_roi_is_a_zero_with_a_gradient():
    student = torch.zeros(0, 3, requires_grad=True)
    loss = soft_cls_loss(student, torch.zeros(0, dtype=torch.long), torch.zeros(0, 3))
    assert loss.item() == 0
    loss.backward()


def test_objectness_by_hand():
    """Teacher -1, student -2: 0.664811, gradient -0.1497 (hard negative: +0.1192)."""
    ours = torch.full((1, 1, 1, 1), -2.0, requires_grad=True)
    loss = soft_objectness_loss([ours], [torch.full((1, 1, 1, 1), -1.0)])
    assert loss.item() == pytest.approx(0.664811, abs=1e-6)
    loss.backward()
    assert ours.grad.item() == pytest.approx(-0.149738, abs=1e-6)
    # two sure anchors: divided by their sum 1.9, not by 2
    sure = torch.tensor([0.95, 0.95]).logit().view(1, 2, 1, 1)
    cross = -0.95 * np.log(0.5) - 0.05 * np.log(0.5)
    found = soft_objectness_loss([torch.zeros(1, 2, 1, 1)], [sure])
    assert found.item() == pytest.approx(2 * cross / 1.9, abs=1e-6)


@pytest.mark.parametrize("detector", [tiny_faster_rcnn, tiny_cascade])
def test_soft_rois_change_the_class_losses_alone(detector):
    plain = totals(losses(build(detector=detector())))
    soft = totals(losses(build(detector=detector(), soft_rois="mixed")))
    changed = {k for k in plain if not torch.equal(plain[k], soft[k])}
    stages = ["loss_cls"] if detector is tiny_faster_rcnn else None
    stages = stages or [f"s{n}.loss_cls" for n in range(3)]
    assert changed == set(stages)


@pytest.mark.parametrize("detector", [tiny_faster_rcnn, tiny_cascade])
def test_soft_targets_are_the_teachers_at_the_students_rois(detector):
    """Networks that differ; the first of two images has no box and is left out.

    The strong view lies 7 to the right of the weak one and 3 higher.
    """
    config = detector()
    heads = config.roi_head.bbox_head
    heads = heads if isinstance(heads, list) else [heads]
    for head in heads:
        head.loss_cls.loss_weight = 0.7
    options = dict(skip_empty=True, soft_rois="mixed", soft_least_mass=2.0)
    model = one_empty(build(detector=config, **options), 0)
    unlike_the_teacher(model)
    modules = {}
    for n, (extractor, head) in enumerate(box_heads(model.student)):
        modules |= {f"roi{n}": extractor, f"cls{n}": head.loss_cls}
    batch, shift = batch_of(2), np.eye(3, dtype=np.float32)
    shift[:2, 2] = 7, -3
    for sample in batch["data_samples"]["strong"]:
        sample.set_metainfo(dict(homography_matrix=shift))
    with FeatureTap(**modules) as seen:
        found = fresh(model, batch)
    data = model.data_preprocessor(batch, True)
    features = model.teacher.extract_feat(data["inputs"]["weak"])
    for n, weight in enumerate((1.0, 0.5, 0.25)[: len(heads)]):
        logits, labels = seen.inputs(f"cls{n}")[:2]
        image, x1, y1, x2, y2 = seen.inputs(f"roi{n}")[1].unbind(1)
        assert image.unique().tolist() == [0]  # the only one that the student sees
        rois = torch.stack([x1 - 7, y1 + 3, x2 - 7, y2 + 3], 1).clamp(0, 64)
        rois = torch.cat([image[:, None] + 1, rois], 1)
        target = run_box_head(model.teacher, features, rois, n).logits
        expected = 0.7 * weight * soft_cls_loss(logits, labels, target, "mixed", 2.0)
        name = f"s{n}.loss_cls" if len(heads) > 1 else "loss_cls"
        assert torch.allclose(found[name], expected, rtol=1e-4), name


def test_soft_objectness_is_the_teachers_of_the_images_kept():
    model = one_empty(build(skip_empty=True, soft_objectness=0.3), 0)
    unlike_the_teacher(model)
    with FeatureTap(rpn=model.student.rpn_head) as seen:
        found = losses(model)["loss_rpn_soft"]
    data = model.data_preprocessor(batch_of(2), True)
    features = model.teacher.extract_feat(data["inputs"]["weak"][1:])
    theirs = model.teacher.rpn_head(features)[0]
    expected = 0.3 * soft_objectness_loss(seen.output("rpn")[0], theirs)
    assert torch.allclose(found, expected, rtol=1e-4)


def test_a_teacher_that_is_the_student_leaves_only_the_positives():
    """Same view, equal networks: the divergence of the background rows is zero."""

    def built(**kwargs):
        model = build(**kwargs)
        model.student.eval()  # batch norm as the teacher's
        return model

    model = built(soft_rois="mixed")
    batch = batch_of(2)
    batch["inputs"]["strong"] = copy.deepcopy(batch["inputs"]["weak"])
    torch.manual_seed(3)
    soft = fresh(model, batch)["loss_cls"]
    plain = built()
    torch.manual_seed(3)
    hard = fresh(plain, batch)["loss_cls"]
    assert 0 < soft.item() < hard.item()
    everywhere = built(soft_rois="all")
    torch.manual_seed(3)
    assert fresh(everywhere, batch)["loss_cls"].item() == pytest.approx(0, abs=1e-5)


def test_soft_rois_are_carried_to_the_other_geometry():
    """A mirrored student's RoIs are mirrored back before the teacher looks at them."""
    model = build(soft_rois="all")
    batch = batch_of(2, flip_strong=True)
    batch["inputs"]["strong"] = [i.flip(-1) for i in batch["inputs"]["weak"]]
    torch.manual_seed(3)
    mirrored = fresh(model, batch)["loss_cls"]
    for sample in batch["data_samples"]["strong"]:  # a wrong matrix: looks elsewhere
        sample.set_metainfo(dict(homography_matrix=np.eye(3, dtype=np.float32)))
    torch.manual_seed(3)
    assert mirrored.isfinite()
    assert fresh(model, batch)["loss_cls"] != mirrored


def test_soft_objectness_adds_one_loss_and_needs_one_geometry():
    plain, soft = losses(build()), losses(build(soft_objectness=0.5))
    assert set(soft) - set(plain) == {"loss_rpn_soft"}
    assert soft["loss_rpn_soft"] > 0
    with pytest.raises(UserError, match="differ in geometry"):
        losses(build(soft_objectness=0.5), flip_strong=True)
