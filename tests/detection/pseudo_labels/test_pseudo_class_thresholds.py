"""Class-wise thresholds: by hand, without data, off, and over a resumed run."""

import copy

import pytest
import torch
from mmengine.structures import InstanceData

from pld_mmdet.detection.lpld import LPLD
from pld_mmdet.detection.mean_teacher import MeanTeacherSFOD, high_confidence
from pld_mmdet.detection.ps_ttl import PSTTL
from pld_mmdet.detection.pseudo_labels import ClassThresholds
from pld_mmdet.errors import UserError
from tests.detection.helpers import batch_of, fresh, give_confidence
from tests.helpers import tiny_faster_rcnn

LOW = torch.tensor([0.35, 0.45, 0.55, 0.65])  # a class that is never sure
HIGH = torch.tensor([0.75, 0.85, 0.92, 0.97])


def scored(window=10, **kwargs):
    made = ClassThresholds(3, 0.7, window=window, **{"min_count": 4, **kwargs})
    labels = torch.tensor([0] * 4 + [1] * 4 + [2])
    made.observe(labels, torch.cat([LOW, HIGH, torch.tensor([0.2])]))
    return made


def test_every_class_keeps_the_same_share():
    """Of 8 detections above 0.3, 4 lie above 0.7: each class keeps half of its own.

    Class 0: between 0.45 and 0.55, nearest to 0.7 is 0.54 (above it: 0.55, 0.65).
    Class 1: between 0.85 and 0.92, nearest to 0.7 is 0.85. Class 2: not counted.
    """
    values = scored().values()
    assert values.tolist() == pytest.approx([0.54, 0.85, 0.7])
    assert (values[0] < LOW).sum() == 2
    assert (values[1] < HIGH).sum() == 2


def test_values_are_bounded_and_rare_classes_keep_the_base():
    values = scored(lowest=0.6, highest=0.8).values()
    assert values.tolist() == pytest.approx([0.6, 0.8, 0.7])
    assert scored(min_count=5).values().tolist() == pytest.approx([0.7] * 3)


def test_nothing_seen_and_nothing_found_are_the_base():
    made = ClassThresholds(3, 0.7)
    assert made.values().tolist() == pytest.approx([0.7] * 3)
    made.observe(torch.zeros(0, dtype=torch.long), torch.zeros(0))
    assert made.values().tolist() == pytest.approx([0.7] * 3)
    assert int(made.steps) == 1


def test_one_class_has_the_single_threshold():
    made = ClassThresholds(1, 0.7, min_count=1)
    made.observe(torch.zeros(8, dtype=torch.long), torch.cat([LOW, HIGH]))
    assert made.values().tolist() == pytest.approx([0.7])


def test_the_window_forgets():
    made = scored(window=2)
    for _ in range(2):
        made.observe(torch.zeros(0, dtype=torch.long), torch.zeros(0))
    assert int(made.counts.sum()) == 0
    assert made.values().tolist() == pytest.approx([0.7] * 3)


def test_limits_must_grow():
    with pytest.raises(UserError, match="do not grow"):
        ClassThresholds(3, 0.3, lowest=0.4)
    with pytest.raises(UserError, match="remembers nothing"):
        ClassThresholds(3, 0.7, window=0)


def test_high_confidence_takes_one_number_a_class():
    found = InstanceData(
        bboxes=torch.zeros(4, 4),
        scores=torch.tensor([0.5, 0.6, 0.6, 0.9]),
        labels=torch.tensor([0, 0, 1, 1]),
    )
    kept = high_confidence(found, torch.tensor([0.55, 0.6]))
    assert kept.scores.tolist() == pytest.approx([0.6, 0.9])
    assert kept.labels.tolist() == [0, 1]


def build(kind=MeanTeacherSFOD, **kwargs):
    torch.manual_seed(0)
    model = kind(tiny_faster_rcnn(), hpl_threshold=0.5, **kwargs)
    model.init_weights()
    give_confidence(model)
    return model.train()


def losses(model, seed=0):
    torch.manual_seed(3)
    return fresh(model, batch_of(2, seed=seed))


@pytest.mark.parametrize("kind", [MeanTeacherSFOD, LPLD])
def test_bounds_that_leave_no_choice_change_no_bit(kind):
    same = dict(lowest=0.5, highest=0.5)
    off, on = build(kind), build(kind, class_thresholds=same)
    for seed in range(2):
        ours, theirs = losses(off, seed), losses(on, seed)
        for name, value in off.parse_losses(ours)[1].items():
            assert torch.equal(value, on.parse_losses(theirs)[1][name]), name
    assert not any("class_thresholds" in k for k in off.state_dict())


@pytest.mark.parametrize("kind", [MeanTeacherSFOD, LPLD])
def test_the_wrapper_uses_them(kind):
    model = build(kind, class_thresholds=dict(min_count=1, lowest=0.3))
    losses(model)
    limits = model.hpl_threshold
    assert len(set(limits.tolist())) > 1
    data = model.data_preprocessor(batch_of(2), training=True)
    steps = int(model.class_thresholds.steps)
    model.eval()
    high = model.pseudo_labels(data["inputs"]["weak"], data["data_samples"]["weak"])
    assert int(model.class_thresholds.steps) == steps  # looking changes nothing
    for found in high.high:
        assert (found.scores > limits[found.labels]).all()


def test_a_resumed_run_has_the_same_thresholds():
    model = build(class_thresholds=dict(min_count=1, lowest=0.3))
    for seed in range(3):
        losses(model, seed)
    other = build(class_thresholds=dict(min_count=1, lowest=0.3))
    other.load_state_dict(copy.deepcopy(model.state_dict()), strict=True)
    assert torch.equal(other.hpl_threshold, model.hpl_threshold)
    losses(model, 5)
    losses(other, 5)
    assert torch.equal(other.class_thresholds.counts, model.class_thresholds.counts)


def test_checkpoints_without_a_window_start_with_an_empty_one():
    plain = build()
    model = build(class_thresholds=dict(min_count=1))
    losses(model)
    model.load_state_dict(plain.state_dict(), strict=True)
    assert int(model.class_thresholds.steps) == 0
    assert model.hpl_threshold.tolist() == pytest.approx([0.5] * 3)
    model.load_state_dict(plain.student.state_dict(), strict=True)


def test_wrappers_that_would_not_read_an_option_refuse_it():
    with pytest.raises(UserError, match="PSTTL does not read class_thresholds"):
        PSTTL(tiny_faster_rcnn(), class_thresholds={})
    with pytest.raises(UserError, match="LPLD does not read teacher_scales"):
        LPLD(tiny_faster_rcnn(), teacher_scales=(1.0, 2.0))
