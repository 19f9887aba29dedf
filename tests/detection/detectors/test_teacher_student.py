"""What all wrappers share: loading, refusing, counting; and the parts of a box head."""

import copy

import numpy as np
import pytest
import torch
from mmengine.structures import InstanceData
from torch.nn import BatchNorm2d

from pld_mmdet.detection.detectors.teacher_student import (
    TeacherStudentDetector,
    own_branches,
)
from pld_mmdet.detection.detectors.two_stage import (
    box_head,
    own_class,
    rpn_loss,
    run_box_head,
    zero_loss,
)
from pld_mmdet.detection.dual_polish import DualPolishTeacher
from pld_mmdet.detection.lpld import LPLD, mine_low_confidence
from pld_mmdet.detection.marvel_ovd import MarvelOVD
from pld_mmdet.detection.mean_teacher import MeanTeacherSFOD
from pld_mmdet.detection.ps_ttl import PSTTL
from pld_mmdet.detection.soft_teacher import BoxJitterSoftTeacher
from pld_mmdet.errors import UserError
from tests.detection.helpers import batch_of, fresh, tiny_cascade
from tests.helpers import tiny_faster_rcnn

PAIRS = [MeanTeacherSFOD, LPLD, BoxJitterSoftTeacher, PSTTL, DualPolishTeacher]


def agnostic():
    detector = tiny_faster_rcnn()
    detector.roi_head.bbox_head.reg_class_agnostic = True
    return detector


@pytest.mark.parametrize("kind", PAIRS)
def test_a_plain_checkpoint_fills_both_and_leaves_the_rest(kind):
    torch.manual_seed(0)
    model, plain = kind(tiny_faster_rcnn()), kind(tiny_faster_rcnn()).student
    assert isinstance(model, TeacherStudentDetector)
    pairs = ("student.", "teacher.")
    rest = {k: v for k, v in model.state_dict().items() if not k.startswith(pairs)}
    for value in rest.values():
        value.fill_(1)  # what fresh weights would not be
    before = {k: v.clone() for k, v in rest.items()}
    model.load_state_dict(plain.state_dict(), strict=True)
    for name, value in plain.state_dict().items():
        assert torch.equal(model.state_dict()[f"student.{name}"], value)
        assert torch.equal(model.state_dict()[f"teacher.{name}"], value)
    after = model.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())
    assert bool(rest) == bool(kind.kept)


def test_a_plain_checkpoint_fills_one_detector_and_leaves_the_counter():
    torch.manual_seed(0)
    model, other = (MarvelOVD(agnostic(), novel=[1]) for _ in range(2))
    model.steps += 7
    model.load_state_dict(other.detector.state_dict(), strict=True)
    assert int(model.steps) == 7
    assert model.result is model.detector
    weight = "roi_head.bbox_head.fc_cls.weight"
    assert torch.equal(
        model.detector.get_parameter(weight), other.detector.get_parameter(weight)
    )
    model.load_state_dict(other.state_dict(), strict=True)
    assert int(model.steps) == 0


@pytest.mark.parametrize("kind", [BoxJitterSoftTeacher, PSTTL, DualPolishTeacher])
@pytest.mark.parametrize("option", [dict(labeller=[]), dict(second_opinion={})])
def test_options_of_another_method_are_refused_by_name(kind, option):
    with pytest.raises(
        UserError, match=f"{kind.__name__} does not read {next(iter(option))}"
    ):
        kind(tiny_faster_rcnn(), **option)


def test_counts_per_class_and_image():
    model = MeanTeacherSFOD(tiny_faster_rcnn())
    boxes = [InstanceData(labels=torch.tensor(labels)) for labels in ([2, 2, 0], [2])]
    model._count(high=boxes, low=[i[:0] for i in boxes])
    assert model.pseudo_counts["high"].tolist() == [0.5, 0.0, 1.5]
    assert model.pseudo_counts["low"].tolist() == [0.0, 0.0, 0.0]

    model._count(low=boxes)  # what was counted before is gone
    assert {k: v.tolist() for k, v in model.pseudo_counts.items()} == {
        "low": [0.5, 0.0, 1.5]
    }


def test_a_checkpoint_fills_a_model_that_is_a_part_of_another():
    torch.manual_seed(0)
    holder = torch.nn.ModuleDict(dict(model=PSTTL(tiny_faster_rcnn())))
    holder["model_head"] = torch.nn.Linear(2, 3)
    plain = MeanTeacherSFOD(tiny_faster_rcnn()).student.state_dict()
    given = {f"model.{k}": v for k, v in plain.items()}
    given |= {"model_head.weight": torch.ones(3, 2), "model_head.bias": torch.ones(3)}
    holder.load_state_dict(given, strict=True)
    for network in (holder["model"].student, holder["model"].teacher):
        for name, value in network.state_dict().items():
            assert torch.equal(value, plain[name]), name
    assert holder["model_head"].bias.sum() == 3
    full = {k: v + 1 for k, v in holder.state_dict().items()}  # with its memory
    holder.load_state_dict(full, strict=True)
    for name, value in holder.state_dict().items():
        assert torch.equal(value, full[name]), name


def test_init_cfg_fills_both_networks(tmp_path):
    torch.manual_seed(0)
    plain = MeanTeacherSFOD(tiny_faster_rcnn()).student.state_dict()
    torch.save(plain, tmp_path / "plain.pth")
    file = dict(type="Pretrained", checkpoint=str(tmp_path / "plain.pth"))
    biases = dict(type="Normal", layer="Conv2d", std=0.01, bias=0.7)
    detector = tiny_faster_rcnn()
    detector.rpn_head.init_cfg = None  # says nothing itself
    for cfg, loaded in ((file, True), ([biases, file], True), (biases, False)):
        model = MeanTeacherSFOD(detector, init_cfg=cfg)
        model.init_weights()
        student, teacher = model.student.state_dict(), model.teacher.state_dict()
        assert all(torch.equal(v, student[k]) for k, v in teacher.items())
        assert all(torch.equal(v, student[k]) for k, v in plain.items()) == loaded
    assert student["rpn_head.rpn_cls.bias"].tolist() == pytest.approx([0.7] * 3)


def test_images_are_prepared_as_the_detector_says():
    plain = tiny_faster_rcnn()
    mean = MeanTeacherSFOD(plain).data_preprocessor.data_preprocessor.mean
    assert mean.flatten().tolist() == pytest.approx([123.675, 116.28, 103.53])
    own = dict(type="mmdet.DetDataPreprocessor", mean=[1, 2, 3], std=[4, 5, 6])
    given = MeanTeacherSFOD(plain, data_preprocessor=own).data_preprocessor
    assert given.std.flatten().tolist() == [4, 5, 6]
    del plain.data_preprocessor
    prepared = MeanTeacherSFOD(plain).data_preprocessor.data_preprocessor
    assert not prepared._enable_normalize


def test_the_result_answers_and_a_new_teacher_is_in_evaluation_mode():
    model = LPLD(tiny_faster_rcnn())
    assert not any(m.training for m in model.teacher.modules())
    assert model.predict_on == "teacher"
    for name in ("teacher", "student"):
        network = getattr(model, name)
        network.predict = lambda *a, name=name, **k: (name, *a, k)
        network.extract_feat = lambda *a, name=name: (name, *a)
        network._forward = lambda *a, name=name: (name, *a)
    for name in ("teacher", "student"):
        model.predict_on = name
        assert model.predict(1, [2]) == (name, 1, [2], dict(rescale=True))
        assert model.predict(1, [2], False) == (name, 1, [2], dict(rescale=False))
        assert model.extract_feat(1) == (name, 1)
        assert model._forward(1, [2]) == (name, 1, [2])


def scripted(model, seen, **answers):
    """Let networks answer rows (box, label, score) for each image; note the calls."""

    def predict(name, inputs, samples, rescale=True):
        seen[name] = dict(inputs=inputs, samples=samples, rescale=rescale)
        seen[name] |= dict(mode=model.student.training, grad=torch.is_grad_enabled())
        for sample, rows in zip(samples, answers[name], strict=True):
            boxes, labels, scores = map(torch.tensor, zip(*rows, strict=True))
            found = InstanceData(bboxes=boxes, labels=labels, scores=scores)
            sample.pred_instances = found
        return samples

    for name in answers:
        network = getattr(model, name)
        network.predict = lambda *a, name=name, **k: predict(name, *a, **k)


def test_agreement_of_the_teachers_weak_and_the_students_strong_view():
    """The strong view lies 7 to the right and 3 up; only 0.25 of score is too little.

    Of the first image's 2 + 2 boxes one pair agrees (the other: not in class), of the
    second's 1 + 2 boxes one pair, given that the teacher's border is added.
    """
    batch = batch_of(2, poison=True)
    shift = np.array([[1, 0, 7], [0, 1, -3], [0, 0, 1]], np.float32)
    for sample in batch["data_samples"]["strong"]:
        sample.set_metainfo(dict(homography_matrix=shift))
    batch["data_samples"]["weak"][1].set_metainfo(dict(border=(2.0, 0.0, 3.0, 0.0)))
    model, seen = MeanTeacherSFOD(tiny_faster_rcnn(), hpl_threshold=0.5), {}
    first, second = ([10.0, 20, 30, 40], 2, 0.31), ([4.0, 4, 14, 24], 1, 0.9)
    unsure, bordered = ([40.0, 40, 60, 60], 0, 0.25), ([1.0, 2, 11, 22], 1, 0.4)
    same, other = ([17.0, 17, 37, 37], 2, 0.6), ([11.0, 1, 21, 21], 0, 0.9)
    third, alone = ([11.0, 1, 21, 21], 1, 0.3), ([0.0, 40, 9, 60], 1, 0.8)
    scripted(
        model,
        seen,
        teacher=[[first, second, unsure], [bordered]],
        student=[[same, other], [third, alone]],
    )
    views = model.data_preprocessor(copy.deepcopy(batch), True)["inputs"]
    stock = dict(weak="unsup_teacher", strong="unsup_student")
    given = {k: {stock[n]: v for n, v in of.items()} for k, of in batch.items()}
    for mode in (True, False):
        model.train(mode)
        assert model.view_agreement(given).tolist() == [4, 7]
        assert model.student.training == mode
        for name, view in (("teacher", "weak"), ("student", "strong")):
            asked = seen[name]
            assert torch.equal(asked["inputs"], views[view])
            assert not any("gt_instances" in s for s in asked["samples"])
            assert [asked[k] for k in ("rescale", "mode", "grad")] == [False] * 3
    for sample in given["data_samples"]["unsup_student"]:  # nothing was written there
        assert "gt_instances" in sample
        assert "batch_input_shape" not in sample
    for of in given.values():
        del of["unsup_student"]
    with pytest.raises(UserError, match="no image in branch 'strong'"):
        model.view_agreement(given)


def test_the_teacher_on_one_image_in_pixels_of_the_input():
    model, seen = MeanTeacherSFOD(tiny_faster_rcnn()), {}
    rows = [([1.0, 2, 11, 22], 1, 0.1)]
    scripted(model, seen, teacher=[rows])
    batch = batch_of(1, poison=True)
    sample = {k: v["weak"][0] for k, v in batch.items()}
    more = dict(border=(2.0, 0.0, 3.0, 0.0), scale_factor=(2.0, 2.0))
    sample["data_samples"].set_metainfo(more)
    found = model.teacher_boxes(sample)
    assert found.bboxes.tolist() == [[4, 4, 14, 24]]
    assert found.labels.tolist() == [1]
    asked = seen["teacher"]
    views = model.data_preprocessor(batch, True)["inputs"]
    assert torch.equal(asked["inputs"], views["weak"])
    assert (asked["rescale"], asked["grad"]) == (False, False)
    assert asked["samples"][0].scale_factor == (2.0, 2.0)
    assert "gt_instances" not in asked["samples"][0]


def test_a_missing_branch_is_said_with_those_that_have_images():
    views = dict(sup=[1], unsup_teacher=[2], strong=[])
    with pytest.raises(UserError, match=r"'strong' \(it has: sup, weak\)"):
        own_branches(views, ("weak", "strong"))


def test_mining_looks_at_boxes_of_the_same_image_only():
    sure = torch.tensor([[4.0, 0.0, 0.0, 2.0]])
    boxes = torch.tensor([[0.0, 0.0, 10.0, 10.0]])
    high = torch.tensor([[0.0, 0.0, 10.0, 9.0]])  # IoU 0.9 with the first two
    logits, boxes = sure.expand(3, -1), torch.cat([boxes, boxes, boxes + 40])
    assert mine_low_confidence(logits, boxes, high).tolist() == [False, False, True]
    image = torch.tensor([0, 1, 1])
    for owner, kept in ((0, [False, True, True]), (1, [True, False, True])):
        owners = torch.tensor([owner])
        found = mine_low_confidence(logits, boxes, high, image=image, high_image=owners)
        assert found.tolist() == kept


class TestOwnClass:
    def test_hand_worked_rows(self):
        deltas = torch.arange(24.0).view(2, 12)
        found = own_class(deltas, torch.tensor([2, 0]))
        assert found.tolist() == [[8.0, 9.0, 10.0, 11.0], [12.0, 13.0, 14.0, 15.0]]

    def test_draws_in_front_and_agnostic_boxes(self):
        deltas, labels = torch.randn(5, 3, 8), torch.tensor([1, 0, 1])
        found = own_class(deltas, labels)
        assert torch.equal(found[2, 1], deltas[2, 1, :4])
        assert torch.equal(found[4, 2], deltas[4, 2, 4:])
        assert own_class(found, labels) is found

    def test_no_row(self):
        none = own_class(torch.zeros(0, 12), torch.zeros(0, dtype=torch.long))
        assert none.shape == (0, 4)


class TestBoxHead:
    def rois(self):
        return torch.tensor([[0.0, 2.0, 3.0, 30.0, 40.0], [1.0, 8.0, 8.0, 60.0, 50.0]])

    def test_each_stage_of_a_cascade_answers_for_itself(self):
        torch.manual_seed(0)
        detector = MeanTeacherSFOD(tiny_cascade()).student.eval()
        features = detector.extract_feat(torch.randn(2, 3, 64, 64))
        last = run_box_head(detector, features, self.rois())
        for stage in (0, 1, 2):
            out = run_box_head(detector, features, self.rois(), stage)
            head = box_head(detector, stage)[1]
            assert torch.equal(head.fc_cls(out.features), out.logits)
            assert torch.equal(out.logits, last.logits) == (stage == 2)

    def test_one_branch_alone_is_the_same_to_the_bit(self):
        torch.manual_seed(0)
        detector = MeanTeacherSFOD(tiny_faster_rcnn()).student.eval()
        features = detector.extract_feat(torch.randn(2, 3, 64, 64))
        both = run_box_head(detector, features, self.rois())
        cls = run_box_head(detector, features, self.rois(), only="cls")
        reg = run_box_head(detector, features, self.rois(), only="reg")
        assert torch.equal(cls.logits, both.logits)
        assert torch.equal(reg.deltas, both.deltas)
        assert (cls.deltas, reg.logits, reg.features) == (None, None, None)


def test_proposals_learn_without_classes_and_samples_stay():
    torch.manual_seed(0)
    model = MeanTeacherSFOD(tiny_faster_rcnn()).train()
    batch = model.data_preprocessor(batch_of(2, poison=True), training=True)
    samples = batch["data_samples"]["weak"]
    features = model.student.extract_feat(batch["inputs"]["weak"])
    torch.manual_seed(1)
    losses, proposals = rpn_loss(model.student, features, samples)
    assert all(s.gt_instances.labels.tolist() == [2] for s in samples)
    assert len(proposals) == 2
    assert sum(losses["loss_rpn_bbox"]) > 0
    for sample in samples:  # another class: the same losses
        sample.gt_instances.labels += -1
    torch.manual_seed(1)
    again, _ = rpn_loss(model.student, features, samples)
    assert torch.equal(sum(losses["loss_rpn_cls"]), sum(again["loss_rpn_cls"]))


def test_zero_loss_reaches_every_weight():
    layer = torch.nn.Linear(3, 2)
    loss = zero_loss(layer)
    loss.backward()
    assert loss.item() == 0
    assert all(p.grad is not None and not p.grad.any() for p in layer.parameters())


@pytest.mark.parametrize("norm_eval", [False, True])
def test_batch_norm_of_neck_and_heads_keeps_its_statistics_if_asked(norm_eval):
    detector = tiny_faster_rcnn()
    detector.neck.norm_cfg = dict(type="BN", requires_grad=True)
    model = MeanTeacherSFOD(detector, hpl_threshold=0.5, norm_eval=norm_eval).train()
    layers = [m for m in model.student.neck.modules() if isinstance(m, BatchNorm2d)]
    assert layers
    assert {m.training for m in layers} == {not norm_eval}
    assert model.student.neck.training
    before = copy.deepcopy(layers[0].running_mean)
    fresh(model, batch_of(2))
    assert torch.equal(layers[0].running_mean, before) == norm_eval
    assert not any(m.training for m in model.teacher.modules())
