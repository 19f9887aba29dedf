"""MarvelOVD: what each RoI of both views weighs, and what numbers of a config move."""

import copy

import pytest
import torch
from mmdet.structures import DetDataSample

from pld_mmdet.detection.marvel_ovd import (
    _require_same_geometry,
    mine_novel,
    novel_weights,
    stratified_assign,
)
from pld_mmdet.errors import UserError
from tests.detection.helpers import batch_of, fresh
from tests.detection.test_marvel_ovd import MIXED, C, build, labelled, truth_of


def test_other_shares_than_halves():
    weights = novel_weights(
        torch.tensor([1, 0, C]),
        torch.tensor([False, True, False]),
        torch.tensor([0.8, 0.8, 0.8]),
        torch.tensor([0.4, 0.4, 0.4]),
        C,
        mix=0.25,
        gamma=3.0,
    )
    assert torch.allclose(weights, torch.tensor([1.95, 1.0, 1.0]))  # 3 (.2 + .45)
    confidence, keep = mine_novel(
        torch.tensor([0.8, 0.4]),
        torch.tensor([0.3, 0.6]),
        torch.tensor([False, False]),
        mix=0.25,
        threshold=0.6,
    )
    assert torch.allclose(confidence, torch.tensor([0.575, 0.85]))
    assert keep.tolist() == [False, True]


def test_without_a_match_the_best_box_of_all_is_named():
    iou = torch.tensor([[0.2, 0.45, 0.1], [0.3, 0.1, 0.6], [0.25, 0.4, 0.7]])
    is_base = torch.tensor([True, False, False])
    matched, foreground = stratified_assign(iou, is_base)
    assert matched.tolist() == [1, 0, 2]
    assert foreground.tolist() == [False, False, True]
    matched, foreground = stratified_assign(iou, is_base, threshold=0.2)
    assert matched.tolist() == [0, 0, 2]
    assert foreground.tolist() == [True] * 3


@pytest.fixture
def step(monkeypatch):
    """A step on two images; returns what the box head's loss is given, and more."""

    def step(model, batch):
        seen, head = {}, model.detector.roi_head.bbox_head
        stock, select = head.loss, model.select

        def loss(logits, deltas, rois, labels, weights, *boxes):
            seen.update(rois=rois, labels=labels, weights=weights, logits=logits)
            return stock(logits, deltas, rois, labels, weights, *boxes)

        def choose(*args):
            seen.update(chosen=select(*args))
            return seen["chosen"]

        monkeypatch.setattr(head, "loss", loss)
        monkeypatch.setattr(model, "select", choose)
        torch.manual_seed(0)
        seen["losses"] = fresh(model, copy.deepcopy(batch))
        return seen

    return step


def mixed_batch():
    """Two images whose candidates differ in score; the strong view is darker."""
    batch = labelled(MIXED)
    for samples in batch["data_samples"].values():
        samples[1].gt_instances.clip_score[1] = 0.91
        samples[1].gt_instances.confidence[1] = 0.91
    return batch


def confidence_of(seen):
    """[R] of the nearest believed candidate of each RoI's image (two views a image)."""
    by_image = [i.confidence[i.labels == 2] for i in seen["chosen"]]
    assert all(len(i) == 1 for i in by_image)
    return torch.cat(by_image)[seen["rois"][:, 0].long() % 2]


PHASES = {
    "burn-in": dict(burn_in=9),
    "no reweighting": dict(reweighting=False, threshold=0.4),
    "no mining": dict(mining=False),
}


@pytest.mark.parametrize("phase", PHASES)
def test_a_candidate_weighs_its_confidence(step, phase):
    model = build(**PHASES[phase])
    model.steps.fill_(9)
    seen = step(model, mixed_batch())
    novel = seen["labels"] == 2
    assert {*seen["rois"][novel, 0].tolist()} == {0, 1, 2, 3}
    expected = torch.ones(len(novel))
    expected[novel] = confidence_of(seen)[novel]
    other = seen["labels"] == 3  # base is 0; 3 is believed without mining only
    assert other.any() == (phase != "burn-in")
    assert torch.allclose(seen["weights"][~other], expected[~other])
    if phase == "no mining":
        assert torch.allclose(seen["weights"][other], torch.tensor(0.6))


def test_after_the_burn_in_belief_and_the_weak_views_background_count(step):
    model = build(burn_in=8, threshold=0.4, weight_mix=0.3, gamma=1.7)
    model.steps.fill_(9)
    layer = model.detector.roi_head.bbox_head.fc_cls.linear
    layer.weight.data *= 0.02  # backgrounds that are neither 0 nor 1
    batch = mixed_batch()
    seen = step(model, batch)
    assert int(model.steps) == 10
    data = model.data_preprocessor(copy.deepcopy(batch), training=True)
    features = model.detector.extract_feat(data["inputs"]["weak"])
    rois = seen["rois"].clone()
    rois[:, 0] %= 2
    logits = model.detector.roi_head._bbox_forward(features, rois)["cls_score"]
    background = logits.softmax(1)[:, -1]
    strong = seen["rois"][:, 0] >= 2
    assert background.std() > 0.01
    assert not torch.allclose(logits[strong], seen["logits"][strong], atol=1e-2)
    novel = seen["labels"] == 2
    assert (novel & strong).any()
    assert (novel & ~strong).any()
    belief = 0.3 * confidence_of(seen) + 0.7 * (1 - background)
    assert torch.allclose(seen["weights"][novel], 1.7 * belief[novel], atol=1e-4)
    known = (seen["labels"] == 0) | (seen["labels"] == C)
    assert (seen["weights"][known] == 1).all()


@pytest.mark.parametrize(("steps", "weighed"), [(8, False), (9, True)])
def test_the_last_step_of_the_burn_in_still_goes_by_the_file(step, steps, weighed):
    model = build(burn_in=8, threshold=0.0)
    model.steps.fill_(steps)
    seen = step(model, mixed_batch())
    assert [len(i) for i in seen["chosen"]] == [3 if weighed else 2] * 2
    novel = seen["labels"] == 2
    by_file = torch.tensor([0.97, 0.91])[seen["rois"][:, 0].long() % 2]
    same = torch.allclose(seen["weights"][novel], by_file[novel])
    assert same != weighed


def test_thresholds_of_the_config_are_the_ones_that_choose():
    model = build(burn_in=3, burn_in_threshold=0.625, mix=0.8, threshold=0.7)
    rows = [(*MIXED[1][:5], score, 0) for score in (0.625, 0.62, 0.7)]
    features = model.detector.extract_feat(torch.randn(1, 3, 64, 64))
    (chosen,) = model.select([truth_of(*rows)], features)
    assert chosen.confidence.tolist() == pytest.approx([0.625, 0.7])
    assert [len(i) for i in model.pseudo_boxes["novel"]] == [2]
    model.steps.fill_(4)
    (mined,) = model.select([truth_of(*rows)], features)
    # the same box three times: the detector's part is 0.2 for each
    assert mined.confidence.tolist() == pytest.approx([0.7, 0.76], abs=1e-4)


def test_rois_take_the_box_that_they_match():
    model = build()
    truth = truth_of((0, 0, 20, 20, 1, 1.0, 1), (30, 30, 60, 60, 2, 0.97, 0))
    proposals = torch.tensor([[32.0, 30, 60, 60], [30.0, 30, 50, 60], [2.0, 40, 9, 60]])
    for limit, count in ((0.5, 4), (0.7, 3)):  # IoU 0.93 and 0.67
        model.detector.roi_head.train_cfg.assigner.pos_iou_thr = limit
        sampled = model._sample(proposals, truth)
        assert sampled.pos_assigned_gt_inds.tolist() == [0] + [1] * (count - 1)
        assert sampled.pos_gt_labels.tolist() == [1] + [2] * (count - 1)
        assert torch.equal(sampled.pos_gt_bboxes[1], truth.bboxes[1])
        assert len(sampled.neg_priors) == 5 - count


@pytest.mark.parametrize("key", ["img_path", "img_shape", "flip", "flip_direction"])
def test_both_views_share_all_that_moves_boxes(key):
    weak, strong = (batch_of(2)["data_samples"][view] for view in ("weak", "strong"))
    _require_same_geometry(weak, strong)
    strong[1].set_metainfo({key: "another"})
    with pytest.raises(UserError, match=f"differ in {key} "):
        _require_same_geometry(weak, strong)
    with pytest.raises(ValueError, match="zip"):
        _require_same_geometry([DetDataSample()], [])
