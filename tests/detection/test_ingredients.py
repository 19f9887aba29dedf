"""What the student learns from: numbers worked out by hand, and nothing when off."""

import copy
import json

import numpy as np
import pytest
import torch
from mmengine.structures import InstanceData

from pld_mmdet.detection.lpld import LPLD
from pld_mmdet.detection.mean_teacher import MeanTeacherSFOD
from pld_mmdet.detection.ps_ttl import PSTTL
from pld_mmdet.detection.pseudo_labels.ingredients import Ingredients
from pld_mmdet.detection.pseudo_labels.masks import covered_share, draw_mask, visible
from pld_mmdet.detection.pseudo_labels.mosaic import make_mosaic, veil
from pld_mmdet.detection.pseudo_labels.soft_targets import (
    soft_cls_loss,
    soft_objectness_loss,
)
from pld_mmdet.detection.pseudo_labels.teacher_views import (
    _detect_mirrored,
    detect_in_views,
)
from pld_mmdet.errors import UserError
from tests.detection.helpers import batch_of, fresh, give_confidence, tiny_cascade
from tests.helpers import tiny_faster_rcnn


def log(*rows):
    return torch.tensor(rows).log()


def build(kind=MeanTeacherSFOD, detector=None, threshold=0.5, **kwargs):
    torch.manual_seed(0)
    model = kind(detector or tiny_faster_rcnn(), hpl_threshold=threshold, **kwargs)
    model.init_weights()
    give_confidence(model)
    return model.train()


def losses(model, **kwargs):
    torch.manual_seed(3)
    return fresh(model, batch_of(2, **kwargs))


def totals(found):
    """Sums of lists, so that two dicts can be compared."""
    return {k: sum(v) if isinstance(v, list) else v for k, v in found.items()}


# Soft targets.


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


# Images without a confident box.


def one_empty(model):
    """Hide the second image's boxes."""
    found = model._teacher_detections

    def hidden(inputs, samples):
        detections = found(inputs, samples)
        detections[1] = detections[1][:0]
        return detections

    model._teacher_detections = hidden
    return model


def test_an_image_without_a_box_teaches_nothing():
    """As if the batch had the other image alone."""
    both = losses(one_empty(build(skip_empty=True)))
    model = build()
    torch.manual_seed(3)
    alone = fresh(model, batch_of(1))
    for name, value in totals(alone).items():
        assert torch.allclose(totals(both)[name], value, atol=1e-5), name
    plain = losses(one_empty(build()))
    assert totals(plain)["loss_rpn_cls"] != totals(both)["loss_rpn_cls"]


def test_no_box_in_the_batch_is_a_zero_that_can_be_stepped():
    model = build(skip_empty=True, threshold=1.0, loss_weights={"loss_rpn_cls": 2.0})
    found = losses(model)
    assert set(found) == {"loss_cls"}
    found["loss_cls"].backward()
    gradients = [p.grad for p in model.student.parameters() if p.requires_grad]
    assert all(g is not None and not g.any() for g in gradients)
    assert model.pseudo_counts["high"].sum() == 0  # the guard still sees the batch


# Objectness from less sure boxes.


def test_less_sure_boxes_are_objects_to_the_rpn_only():
    plain = totals(losses(build(threshold=0.6)))
    same = totals(losses(build(threshold=0.6, rpn_threshold=0.6)))
    more = totals(losses(build(threshold=0.6, rpn_threshold=0.2)))
    for name, value in plain.items():  # split in two passes, the same numbers
        assert torch.equal(same[name], value), name
    assert more["loss_rpn_cls"] != plain["loss_rpn_cls"]
    with pytest.raises(UserError, match="no score below"):
        build(threshold=0.6, rpn_threshold=0.7)


# Mosaic and veil.


def test_the_fog_of_twice_the_distance():
    """J 60, A 220, t 0.5: I is 140, and at twice the distance 180."""
    image = torch.full((3, 10, 20), 140.0)
    image[:, 0, :2] = 220.0  # 1 % of 200 pixels
    assert veil(image, 0.5)[:, 5, 5].tolist() == [180.0] * 3
    assert veil(image, 0.5)[:, 0, 0].tolist() == [220.0] * 3
    assert torch.equal(veil(image, 1.0), image)
    colour = torch.rand(3, 10, 20)
    mean = torch.tensor([0.3, 0.5, 0.4])[:, None, None]
    scaled = veil((colour - mean) / 0.2, 0.7) * 0.2 + mean
    assert torch.allclose(scaled, veil(colour, 0.7), atol=1e-6)


def boxes(*rows, labels=None):
    table = torch.tensor(rows, dtype=torch.float).reshape(-1, 4)
    labels = torch.tensor(labels or [0] * len(table))
    return InstanceData(bboxes=table, labels=labels)


def test_tiles_and_their_boxes_by_hand():
    inputs = torch.arange(4.0).view(4, 1, 1, 1).expand(4, 3, 32, 64).contiguous()
    high = [
        boxes([10, 2, 20, 30]),
        boxes([0, 0, 8, 13], [4, 4, 9, 18], labels=[1, 2]),  # 6.5 px and 7 px high
        boxes(),
        boxes([40, 8, 64, 32], labels=[2]),
    ]
    made = make_mosaic(inputs, high, [3, 0, 2, 1], [False, True, False, False])
    assert made.inputs.shape == (1, 3, 32, 64)
    assert made.inputs[0, 0, 4, [4, 40]].tolist() == [3, 0]
    assert made.inputs[0, 0, 20, [4, 40]].tolist() == [2, 1]
    truth = made.sample.gt_instances
    assert truth.labels.tolist() == [2, 0, 2]
    assert truth.bboxes.tolist() == [
        [20.0, 4.0, 32.0, 16.0],
        [54.0, 1.0, 59.0, 15.0],  # mirrored: 32 - 10, 32 - 5, one tile to the right
        [34.0, 18.0, 36.5, 25.0],
    ]
    assert made.sample.img_shape == (32, 64)
    # and back: RoIs of the mosaic in the images they come from
    rois = torch.cat([torch.zeros(3, 1), truth.bboxes], 1)
    assert made.to_weak(rois).tolist() == [
        [3.0, 40.0, 8.0, 64.0, 32.0],
        [0.0, 10.0, 2.0, 20.0, 30.0],
        [1.0, 4.0, 4.0, 9.0, 18.0],
    ]


def test_a_mosaic_is_a_second_set_of_losses():
    plain = totals(losses(build()))
    more = totals(losses(build(mosaic=dict(least_height=0), soft_rois=None)))
    added = {k for k in more if k.startswith("mosaic_")}
    assert added == {f"mosaic_{k}" for k in plain if "loss" in k}
    for name, value in plain.items():
        assert torch.equal(more[name], value), name
    half = totals(losses(build(mosaic=dict(least_height=0, weight=0.25))))
    for name in added:
        assert torch.allclose(half[name] * 2, more[name]), name
    soft = totals(losses(build(mosaic=dict(least_height=0), soft_rois="mixed")))
    assert soft["mosaic_loss_cls"] != more["mosaic_loss_cls"]
    assert not any("mosaic" in k for k in losses(build(threshold=1.0, mosaic={})))
    with pytest.raises(UserError, match="mosaic has no size"):
        build(mosaic=dict(size=2))


# Masks.


def test_a_covered_box_goes():
    """12 x 12 under two blocks of 6 x 6: half, stays. Under three: 0.75, goes."""
    mask = torch.zeros(24, 24, dtype=torch.bool)
    mask[6:12, 6:18] = True
    box = boxes([6, 6, 18, 18], [0, 0, 6, 6])
    assert covered_share(box.bboxes, mask).tolist() == [0.5, 0.0]
    assert len(visible(box, mask)) == 2
    mask[12:18, 6:12] = True
    assert covered_share(box.bboxes, mask)[0] == 0.75
    assert visible(box, mask).bboxes.tolist() == [[0, 0, 6, 6]]
    assert len(visible(boxes(), mask)) == 0


def test_a_mask_hides_blocks():
    torch.manual_seed(0)
    mask = draw_mask((20, 33), 6, (0.3, 0.5))
    assert mask.shape == (20, 33)
    assert mask[:6, :6].unique().numel() == 1
    shares = [draw_mask((96, 96), 6, (0.3, 0.5)).float().mean() for _ in range(60)]
    assert 0.36 < torch.stack(shares).mean() < 0.44
    masked = totals(losses(build(masks={})))
    added = {k for k in masked if k.startswith("masked_")}
    assert added == {"masked_loss_cls", "masked_loss_rpn_cls"}


# A second opinion.


def test_a_second_opinion_teaches_and_its_count_is_in_the_checkpoint(tmp_path):
    rows = [dict(image_id="0.png", category_id="car", bbox=[8, 8, 30, 30], score=0.9)]
    file = tmp_path / "opinion.json"
    file.write_text(json.dumps(rows))
    settings = dict(file=str(file), classes=("car", "person", "bus"), threshold=0.5)
    model = build(threshold=1.0, second_opinion=settings)  # the teacher has none
    losses(model)
    assert model.pseudo_counts["high"].tolist() == [0.5, 0.0, 0.0]
    assert int(model.second_opinion.steps) == 1
    other = build(threshold=1.0, second_opinion=settings)
    other.load_state_dict(model.state_dict(), strict=True)
    assert int(other.second_opinion.steps) == 1
    plain = copy.deepcopy(model.student.state_dict())
    other.load_state_dict(plain, strict=True)  # a detector's own checkpoint


def test_the_mirrored_view_is_mirrored_back():
    """A symmetric image has the same boxes from both sides, seen in a mirror."""
    model = build(threshold=0.4, teacher_flip=True)
    batch = batch_of(1)
    half = batch["inputs"]["weak"][0][..., :32]
    batch["inputs"]["weak"] = [torch.cat([half, half.flip(-1)], -1)]
    data = model.data_preprocessor(batch, training=True)
    args = model.teacher, data["inputs"]["weak"], data["data_samples"]["weak"]
    (once,), (mirrored,) = detect_in_views(*args), _detect_mirrored(*args)
    assert len(once) > 5
    assert torch.equal(once.scores, mirrored.scores)
    mirror = once.bboxes.clone()
    mirror[:, [0, 2]] = 64.0 - once.bboxes[:, [2, 0]]
    assert torch.allclose(mirrored.bboxes, mirror, atol=1e-4)
    assert not torch.allclose(mirrored.bboxes, once.bboxes, atol=1.0)
    (both,) = detect_in_views(*args, flip=True)
    assert len(once) < len(both) < 2 * len(once) + 1
    (through,) = model._teacher_detections(*args[1:])
    assert len(through) == len(both)


# Nothing by default, and refusals.


@pytest.mark.parametrize("kind", [MeanTeacherSFOD, LPLD])
def test_off_changes_no_bit(kind):
    plain = losses(build(kind))
    off = dict(skip_empty=False, soft_rois=None, soft_objectness=0.0, mosaic=None)
    off |= dict(masks=None, rpn_threshold=None, teacher_flip=False)
    other = losses(build(kind, second_opinion=None, **off))
    for name, value in totals(plain).items():
        assert torch.equal(value, totals(other)[name]), name
    assert Ingredients().given() == []


def test_lpld_takes_them_but_for_empty_images():
    model = build(LPLD, soft_rois="mixed", mosaic=dict(least_height=0), masks={})
    found = losses(model)
    assert {"loss_lpl", "mosaic_loss_cls", "masked_loss_cls"} <= set(found)
    assert all(v.isfinite().all() for v in totals(found).values())
    with pytest.raises(UserError, match="skip_empty"):
        build(LPLD, skip_empty=True)


def test_refusals():
    with pytest.raises(UserError, match="soft_rois='hard' is not known"):
        build(soft_rois="hard")
    with pytest.raises(UserError, match="other"):
        build(soft_rois="mixed", teacher_scales=(1.0, 2.0))
    for option in (dict(mosaic={}), dict(soft_rois="all"), dict(teacher_flip=True)):
        with pytest.raises(
            UserError, match=f"PSTTL does not read {next(iter(option))}"
        ):
            PSTTL(tiny_faster_rcnn(), **option)
