"""What the student learns from: numbers worked out by hand, and nothing when off."""

import copy
import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData

from pld_mmdet.detection.lpld import LPLD
from pld_mmdet.detection.mean_teacher import MeanTeacherSFOD
from pld_mmdet.detection.ps_ttl import PSTTL
from pld_mmdet.detection.pseudo_labels import ingredients
from pld_mmdet.detection.pseudo_labels.ignore_band import KEY as DOUBTFUL
from pld_mmdet.detection.pseudo_labels.ingredients import (
    OBJECTS,
    Ingredients,
    _with_boxes,
)
from pld_mmdet.detection.pseudo_labels.masks import covered_share, draw_mask, visible
from pld_mmdet.detection.pseudo_labels.mosaic import (
    draw_mosaic,
    make_mosaic,
    veil,
)
from pld_mmdet.detection.pseudo_labels.teacher_views import (
    _detect_mirrored,
    detect_in_views,
)
from pld_mmdet.errors import UserError
from tests.detection.helpers import batch_of, fresh, give_confidence
from tests.helpers import tiny_faster_rcnn


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


# Images without a confident box.


def one_empty(model, image=1):
    """Hide an image's boxes."""
    found = model._teacher_detections

    def hidden(inputs, samples):
        detections = found(inputs, samples)
        detections[image] = detections[image][:0]
        return detections

    model._teacher_detections = hidden
    return model


@pytest.mark.parametrize("options", [{}, dict(rpn_threshold=0.3)])
def test_an_image_without_a_box_teaches_nothing(options):
    """As if the batch had the other image alone."""
    both = losses(one_empty(build(skip_empty=True, **options), 0))
    model, batch = build(**options), batch_of(2)
    second = {k: {n: v[1:] for n, v in of.items()} for k, of in batch.items()}
    torch.manual_seed(3)
    alone = fresh(model, second)
    for name, value in totals(alone).items():
        assert torch.allclose(totals(both)[name], value, atol=1e-5), name
    plain = losses(one_empty(build(**options), 0))
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


def test_objects_lie_strictly_above_and_are_carried_to_the_strong_view():
    found = InstanceData(
        bboxes=torch.tensor([[1.0, 2, 9, 9], [10, 20, 30, 40], [4, 4, 60, 60]]),
        labels=torch.tensor([0, 2, 1]),
        scores=torch.tensor([0.5, 0.51, 0.9]),
    )
    Ingredients(rpn_threshold=0.5).mark_objects([found])
    objects = found.get(OBJECTS)
    assert objects.labels.tolist() == [2, 1]
    shift = np.array([[1, 0, 7], [0, 1, -3], [0, 0, 1]], np.float32)
    weak, strong = (
        DetDataSample(metainfo=dict(homography_matrix=matrix, img_shape=(48, 64)))
        for matrix in (np.eye(3, dtype=np.float32), shift)
    )
    strong.ignored_instances = found[:1]
    sample = _with_boxes(strong, objects, weak)
    assert sample.gt_instances.bboxes.tolist() == [[17, 17, 37, 37], [11, 1, 64, 48]]
    assert sample.gt_instances.labels.tolist() == [2, 1]
    assert sample.ignored_instances.labels.tolist() == [0]
    assert sample.img_shape == (48, 64)
    with pytest.raises(UserError, match="no score below"):
        build(rpn_threshold=-0.1)


def test_what_teaches_the_box_head_is_an_object_too():
    """A second opinion's box (label 2) that the teacher does not see."""
    noted = boxes([0, 0, 10, 10], [20, 20, 40, 40], labels=[0, 1])
    high = boxes([1, 0, 10, 10], [20, 30, 40, 50], [60, 60, 70, 90], labels=[0, 1, 2])
    high.set_metainfo({OBJECTS: noted})  # IoU 0.9, 1/3 and 0
    found = ingredients._objects(high)
    assert found.labels.tolist() == [0, 1, 1, 2]
    assert found.bboxes[2:].tolist() == [[20, 30, 40, 50], [60, 60, 70, 90]]
    high.set_metainfo({OBJECTS: boxes()})
    assert ingredients._objects(high).labels.tolist() == [0, 1, 2]
    nothing = high[:0]
    nothing.set_metainfo({OBJECTS: noted})
    assert ingredients._objects(nothing).labels.tolist() == [0, 1]


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


def test_a_mosaic_ignores_the_doubtful_boxes_of_its_tiles():
    """However small they are, where the confident ones of their image go."""
    high = [boxes([2, 4, 12, 30]), boxes(), boxes([40, 8, 64, 32])]
    high[0].set_metainfo({DOUBTFUL: boxes([10, 2, 20, 30], labels=[1])})
    high[2].set_metainfo({DOUBTFUL: boxes([4, 4, 9, 10], labels=[2])})
    made = make_mosaic(torch.zeros(3, 3, 32, 64), high, [2, 0, 1, 2], [0, 1, 0, 0])
    assert made.sample.gt_instances.labels.tolist() == [0, 0, 0]
    assert made.sample.ignored_instances.labels.tolist() == [2, 1, 2]
    assert made.sample.ignored_instances.bboxes.tolist() == [
        [2.0, 2.0, 4.5, 5.0],
        [54.0, 1.0, 59.0, 15.0],
        [34.0, 18.0, 36.5, 21.0],
    ]
    plain = make_mosaic(torch.zeros(1, 3, 32, 64), high[1:2], [0] * 4, [False] * 4)
    assert "ignored_instances" not in plain.sample


def test_the_band_of_the_teacher_reaches_the_mosaic(monkeypatch):
    given, run = [], Ingredients._pass

    def noted(self, student, teacher, inputs, samples, *args):
        given.append(samples)
        return run(self, student, teacher, inputs, samples, *args)

    monkeypatch.setattr(Ingredients, "_pass", noted)
    losses(build(threshold=0.6, mosaic=dict(least_height=1), ignore_above=0.1))
    both, (mosaic,) = given
    count = [len(sample.ignored_instances) for sample in both]
    assert min(count) > 0
    assert len(mosaic.ignored_instances) == 2 * sum(count)  # each image is there twice


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


def test_images_that_teach_nothing_are_no_tiles():
    torch.manual_seed(0)
    inputs = torch.arange(4.0).view(4, 1, 1, 1).expand(4, 3, 32, 64)
    high = [boxes(), boxes([4, 4, 9, 30]), boxes(), boxes([40, 8, 64, 32])]
    drawn = draw_mosaic(inputs, high, None, 0.0, [1, 3])
    assert sorted(t.image for t in drawn.tiles) == [1, 1, 3, 3]
    assert len(drawn.sample.gt_instances) == 4
    model, seen = one_empty(build(skip_empty=True, mosaic={}), 0), []
    model.ingredients._mosaic_losses = lambda *args: (seen.append(args[-1]), {})[1]
    losses(model)
    assert seen == [[1]]


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


def test_what_is_learnt_from_a_masked_view(monkeypatch):
    """The left half is hidden in the first image, a corner in the second."""
    options = dict(block=4, share=(0.2, 0.6), weight=0.25, most_covered=0.4)
    parts, seen = Ingredients(masks=options), []
    masks = torch.zeros(2, 8, 8, dtype=torch.bool)
    masks[0, :, :4] = masks[1, 6:, 6:] = True
    monkeypatch.setattr(
        ingredients, "draw_mask", lambda *a: (seen.append(a), masks[len(seen) - 1])[1]
    )

    def losses(student, teacher, inputs, samples, to_weak):
        seen.extend([inputs, samples, to_weak])
        one, two = torch.tensor(2.0), [torch.tensor(4.0)]
        other = dict.fromkeys(("loss_iou", "loss_dfl", "loss_wh", "loss_xy"), two)
        return dict(loss_cls=one, loss_bbox=one, loss_rpn_cls=two, acc=9) | other

    parts._pass = losses
    strong, samples = torch.full((2, 3, 8, 8), 5.0), []
    for n in range(2):
        samples.append(DetDataSample(metainfo=dict(img_id=n)))
        samples[n].gt_instances = boxes([0, 0, 8, 8], [2, 0, 8, 8], labels=[1, 2])
    samples[1].ignored_instances = boxes([1, 1, 3, 3])
    found = parts._masked_losses("student", "teacher", strong, samples, "to weak")
    assert found == dict(masked_loss_cls=0.5, masked_loss_rpn_cls=[1.0])
    first, second, hidden, given, to_weak = seen
    assert first == second == ((8, 8), 4, (0.2, 0.6))
    assert torch.equal(hidden, 5.0 * ~masks[:, None].expand(2, 3, 8, 8))
    assert (strong == 5).all()
    # 1/2 and 1/3 of the boxes are covered in the first image, little in the second
    assert [s.gt_instances.labels.tolist() for s in given] == [[2], [1, 2]]
    assert ["ignored_instances" in s for s in given] == [False, True]
    assert ([s.img_id for s in given], to_weak) == ([0, 1], "to weak")
    parts._pass = lambda *args: dict(positive_bag_loss=torch.tensor(1.0))
    seen.clear()
    with pytest.raises(UserError, match="none of positive_bag_loss is known"):
        parts._masked_losses("student", "teacher", strong, samples, "to weak")


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
    for part in (dict(mosaic={}), dict(masks={})):
        Ingredients(**part).check(SimpleNamespace(), 0.5)
        with pytest.raises(UserError, match="not carried into new"):
            Ingredients(**part).check(SimpleNamespace(with_mask=True), 0.5)
    detector = tiny_faster_rcnn()
    detector.rpn_head.loss_cls.use_sigmoid = False
    with pytest.raises(UserError, match=r"one sigmoid logit an anchor.* has 2"):
        build(detector=detector, soft_objectness=0.5)
    with pytest.raises(UserError, match="soft_rois='hard' is not known"):
        build(soft_rois="hard")
    with pytest.raises(UserError, match="other"):
        build(soft_rois="mixed", teacher_scales=(1.0, 2.0))
    for option in (dict(mosaic={}), dict(soft_rois="all"), dict(teacher_flip=True)):
        with pytest.raises(
            UserError, match=f"PSTTL does not read {next(iter(option))}"
        ):
            PSTTL(tiny_faster_rcnn(), **option)
