"""The learners inside FST: CutMix and ClassMix self-training, by hand."""

import copy

import pytest
import torch
from torch import nn

from pld_mmdet.segmentation.data.mixing import class_masks
from pld_mmdet.segmentation.learners.losses import pixel_ce
from pld_mmdet.segmentation.learners.self_training import (
    ClassMixSelfTraining,
    CutMixSelfTraining,
)
from pld_mmdet.shared.mixing import box_masks, mix
from tests.segmentation.helpers import semi_batch, tiny_segmentor


def test_pixel_ce_and_its_divisors():
    """Two pixels of ln 2 and one ignored: ln 2 over valid ones, 2/3 of it over all."""
    logits, targets = torch.zeros(1, 2, 1, 3), torch.tensor([[[0, 1, 255]]])
    assert pixel_ce(logits, targets).item() == pytest.approx(0.693147)
    assert pixel_ce(logits, targets, over="all").item() == pytest.approx(0.462098)
    weight = torch.tensor([[[1.0, 0.0, 1.0]]])
    assert pixel_ce(logits, targets, weight).item() == pytest.approx(0.3465736)
    assert pixel_ce(logits, torch.full((1, 1, 3), 255)).item() == 0


def test_masks_and_mix():
    masks = box_masks(200, (20, 40), area=0.5)
    assert masks.float().mean().item() == pytest.approx(0.5, abs=0.02)
    targets = torch.tensor([[[0, 1, 2]], [[3, 255, 255]]])
    chosen = class_masks(targets)
    assert not chosen[targets == 255].any()
    assert 0 < chosen.sum() < 4
    ours, theirs = torch.zeros(2, 3, 1, 3), torch.ones(2, 3, 1, 3)
    assert mix(ours, theirs, chosen).mean(1).bool().equal(chosen)


def test_cutmix_learner_scales_up_what_it_keeps():
    """B H W / kept times the mean over kept; labels of the unlabelled are not read."""
    learner = CutMixSelfTraining(tiny_segmentor(), cutmix=0.0, drop_percent=100.0)
    learner.train()

    def loss(batch, **changes):
        fresh = copy.deepcopy(learner)  # a pass moves the teacher's statistics
        vars(fresh).update(changes)
        return fresh.loss(**batch)["loss_unlabelled"]

    batch = semi_batch()
    whole, half = loss(batch), loss(batch, drop_percent=50.0)
    assert half != whole
    threefold = loss(batch, drop_percent=50.0, weight=3.0)
    assert threefold.item() == pytest.approx(3 * half.item())
    batch["targets"][2:] = 1
    assert loss(batch).equal(whole)


def test_classmix_confidence_is_one_number_for_the_batch():
    learner = ClassMixSelfTraining(
        tiny_segmentor(), tau=0.0, ignore_rows=(0, 0), feature_weight=0.0
    )
    learner.train()
    assert learner.loss(**semi_batch())["confident"] == 1
    learner.tau = 1.1
    losses = learner.loss(**semi_batch())
    assert losses["confident"] == 0
    assert losses["loss_mixed"] > 0  # the pasted source pixels weigh 1


_NORMS = nn.modules.batchnorm._NormBase


def fixed_logits(monkeypatch, learner, table):
    """Networks that answer constants: {network: [C] logits at every pixel}."""
    asked, modes = [], learner.__dict__.setdefault("modes", {})

    def answer(segmentor, images, *_):
        name = "teacher" if segmentor is learner.teacher else "student"
        asked.append((name, images.clone()))
        norms = [m.training for m in segmentor.modules() if isinstance(m, _NORMS)]
        modes.setdefault(name, []).append((segmentor.training, *sorted(set(norms))))
        row = torch.tensor(table[name])
        return row[None, :, None, None].expand(len(images), -1, *images.shape[-2:])

    monkeypatch.setattr(
        "pld_mmdet.segmentation.learners.self_training.full_logits", answer
    )
    monkeypatch.setattr(learner.student, "extract_feat", lambda images: images)
    monkeypatch.setattr(
        "pld_mmdet.segmentation.learners.self_training.head_logits",
        lambda segmentor, images, size, *_: answer(segmentor, images),
    )
    monkeypatch.setattr(
        "pld_mmdet.segmentation.networks.segmentors.head_logits",
        lambda segmentor, images, size, *_: answer(segmentor, images),
    )
    return asked


def two_and_two():
    """Two source images (0 and 10), two targets (20 and 30), 4 x 8."""
    values = torch.tensor([0.0, 10, 20, 30])[:, None, None, None]
    targets = torch.zeros(4, 4, 8, dtype=torch.long)
    targets[:2, :, :2] = 255  # a quarter of the source's pixels has no label
    return dict(
        inputs=values.expand(4, 3, 4, 8).clone(),
        targets=targets,
        labelled=torch.tensor([True, True, False, False]),
    )


def test_classmix_by_hand(monkeypatch):
    """The teacher's class 1 labels the target; q and the rows weigh it; source is 1.

    Student: p = softmax(2, 0), CE of class 0 is .126928, of class 1 2.126928. Teacher:
    p(1) = softmax(0, 3)_1 = .952574, so q = 1 at tau .95 and 0 at .96. Nothing is
    pasted. The first of 4 rows and the last have weight 0: a half of 2.126928.
    """
    learner = ClassMixSelfTraining(
        tiny_segmentor(), tau=0.95, ignore_rows=(1, 1), feature_weight=0.0
    )
    learner.train()
    table = dict(student=[2.0, 0.0], teacher=[0.0, 3.0])
    asked = fixed_logits(monkeypatch, learner, table)
    monkeypatch.setattr(
        "pld_mmdet.segmentation.learners.self_training.class_masks",
        lambda truth: torch.zeros(truth.shape, dtype=torch.bool),
    )
    monkeypatch.setattr(torch, "rand", lambda *_, **__: torch.zeros(()))  # no jitter
    losses = learner.loss(**two_and_two())
    assert losses["loss_ce"].item() == pytest.approx(0.75 * 0.126928, abs=1e-6)
    assert losses["loss_mixed"].item() == pytest.approx(0.5 * 2.126928, abs=1e-6)
    assert losses["confident"] == 1
    labelled = [images for name, images in asked if name == "teacher"]
    assert [images.unique().tolist() for images in labelled] == [[20, 30]]
    # its batch norms use the batch, nothing else of it trains
    assert learner.modes["teacher"] == [(False, True)]
    assert not learner.teacher.backbone.layer1[0].bn1.training
    learner.tau = 0.96
    assert learner.loss(**two_and_two())["loss_mixed"] == 0
    learner.source_over = "valid"
    found = learner.loss(**two_and_two())["loss_ce"].item()
    assert found == pytest.approx(0.126928, abs=1e-6)
    # three quarters pasted: their label is 0, their weight 1, wherever they are
    monkeypatch.setattr(
        "pld_mmdet.segmentation.learners.self_training.class_masks",
        lambda truth: truth == 0,
    )
    found = learner.loss(**two_and_two())["loss_mixed"].item()
    assert found == pytest.approx(0.75 * 0.126928, abs=1e-6)
    mixed = asked[-1][1]
    assert mixed[0, 0, 0].tolist() == [20, 20, 0, 0, 0, 0, 0, 0]


def test_cutmix_by_hand(monkeypatch):
    """The teacher labels unlabelled images alone and drops by its own entropy."""
    learner = CutMixSelfTraining(tiny_segmentor(), cutmix=0.0, drop_percent=100.0)
    learner.train()
    table = dict(student=[2.0, 0.0], teacher=[0.0, 3.0])
    asked = fixed_logits(monkeypatch, learner, table)
    losses = learner.loss(**two_and_two())
    assert losses["loss_ce"].item() == pytest.approx(0.126928, abs=1e-6)
    assert losses["loss_unlabelled"].item() == pytest.approx(2.126928, abs=1e-6)
    found = [(name, images.unique().tolist()) for name, images in asked]
    everything = [0, 10, 20, 30]
    # it labels in evaluation mode; the second pass moves its statistics
    assert learner.modes["teacher"] == [(False, False), (True, True)]
    assert not learner.teacher.training
    assert found[0] == ("teacher", [20, 30])
    assert found[1] == ("teacher", everything)
    assert [name for name, _ in found] == ["teacher", "teacher", "student"]
    # with probability 1 each image has a box of its neighbour
    learner.cutmix = 1.0
    monkeypatch.setattr(
        "pld_mmdet.segmentation.learners.self_training.box_masks",
        lambda count, size: (torch.arange(8) < 3).expand(count, 4, 8),
    )
    learner.loss(**two_and_two())
    mixed = asked[-2][1]
    assert mixed[2, 0, 0].tolist() == [30] * 3 + [20] * 5
    assert mixed[3, 0, 0].tolist() == [20] * 3 + [30] * 5


def test_the_kept_half_is_the_sure_half_and_weighs_twice(monkeypatch):
    """Doubt rises with the column: the left half keeps its labels."""
    learner = CutMixSelfTraining(tiny_segmentor(), cutmix=0.0, drop_percent=50.0)
    learner.train()
    ramp = torch.linspace(4, 0.5, 8)

    def answer(segmentor, images, *_):
        sure = ramp if segmentor is learner.teacher else ramp.flip(0)
        shape = (len(images), 1, 4, 8)
        return torch.cat([torch.zeros(shape), sure.expand(shape)], 1)

    monkeypatch.setattr(
        "pld_mmdet.segmentation.learners.self_training.full_logits", answer
    )
    monkeypatch.setattr(learner.student, "extract_feat", lambda images: images)
    monkeypatch.setattr(
        "pld_mmdet.segmentation.learners.self_training.head_logits",
        lambda segmentor, images, size, *_: answer(segmentor, images),
    )
    found = learner.loss(**two_and_two())["loss_unlabelled"].item()
    student = torch.nn.functional.softplus(-ramp.flip(0))  # CE of class 1
    assert found == pytest.approx(2 * student[:4].mean().item(), rel=1e-5)
