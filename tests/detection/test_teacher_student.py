"""What all wrappers share: loading, refusing, counting; and the parts of a box head."""

import pytest
import torch
from mmengine.structures import InstanceData

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
from pld_mmdet.detection.teacher_student import TeacherStudentDetector
from pld_mmdet.errors import UserError
from tests.detection.helpers import batch_of, tiny_cascade
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
@pytest.mark.parametrize("option", [dict(teacher_scales=(2.0,)), dict(loss_weights={})])
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
