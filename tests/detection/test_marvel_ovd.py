"""MarvelOVD: hand-worked numbers, gradient stops, whole steps."""

import copy

import pytest
import torch
from mmdet.structures.bbox import bbox_overlaps
from mmengine.config import ConfigDict
from mmengine.structures import InstanceData

from pld_mmdet.detection.marvel_ovd import (
    MarvelOVD,
    mine_novel,
    novel_weights,
    stratified_assign,
)
from pld_mmdet.errors import UserError
from tests.detection.helpers import batch_of, fresh
from tests.helpers import tiny_faster_rcnn

C = 4


def mine(clip, novelty, base, **kwargs):
    confidence, keep = mine_novel(
        torch.tensor(clip), torch.tensor(novelty), torch.tensor(base), **kwargs
    )
    return confidence, keep.tolist()


class TestMining:
    def test_hand_worked_beside_a_base_box_that_holds_the_maximum(self):
        confidence, keep = mine(
            [0.99, 0.97, 1.0, 1.0], [0.4, 0.36, 0.32, 0.8], [False] * 3 + [True]
        )
        assert torch.allclose(confidence, torch.tensor([0.745, 0.71, 0.70, 1.0]))
        assert keep == [False, False, False, True]

    def test_hand_worked_without_the_base_box(self):
        confidence, keep = mine([0.99, 0.97, 1.0], [0.4, 0.36, 0.32], [False] * 3)
        assert torch.allclose(confidence, torch.tensor([0.995, 0.935, 0.90]))
        assert keep == [True] * 3  # 0.90 up to rounding

    @pytest.mark.parametrize("novelty", [1e-6, 0.3, 1.0])
    def test_a_lone_candidate_ignores_the_detector(self, novelty):
        confidence, keep = mine([0.85], [novelty], [False])
        assert confidence.item() == pytest.approx(0.925)
        assert keep == [True]
        confidence, keep = mine([0.79], [novelty], [False])
        assert confidence.item() == pytest.approx(0.895)
        assert keep == [False]

    def test_novelty_of_zero_everywhere_is_no_nan(self):
        confidence, keep = mine([0.9, 0.3], [0.0, 0.0], [False, True])
        assert confidence.tolist() == pytest.approx([0.45, 1.0])
        assert keep == [False, True]

    def test_no_boxes(self):
        empty = torch.zeros(0)
        confidence, keep = mine_novel(empty, empty, empty.bool())
        assert confidence.shape == keep.shape == (0,)
        assert keep.dtype == torch.bool

    def test_candidate_with_score_one_is_no_base_box(self):
        _, keep = mine([1.0, 0.5], [0.1, 0.8], [False, False])
        assert keep == [False, False]


class TestAssignment:
    BOXES = torch.tensor([[0.0, 0, 100, 100], [10.0, 0, 110, 100]])  # base, novel
    IS_BASE = torch.tensor([True, False])

    def assign(self, proposals, boxes=BOXES, is_base=IS_BASE):
        iou = bbox_overlaps(boxes, torch.tensor(proposals))
        matched, foreground = stratified_assign(iou, is_base)
        assert matched.dtype == torch.int64
        return matched.tolist(), foreground.tolist()

    def test_hand_worked(self):
        matched, foreground = self.assign(
            [
                [10.0, 0, 110, 100],  # .818 base, 1.0 novel -> base
                [0.0, 0, 100, 50],  # exactly .5 -> base
                [60.0, 0, 160, 100],  # .25, .333 -> background
            ]
        )
        assert matched[:2] == [0, 0]
        assert foreground == [True, True, False]

    def test_only_the_rest_looks_at_novel_boxes(self):
        matched, foreground = self.assign([[60.0, 0, 110, 100]])  # .364, .5
        assert (matched, foreground) == ([1], [True])

    def test_one_kind_alone_is_the_ordinary_arg_max(self):
        for is_base in (True, False):
            matched, foreground = self.assign(
                [[10.0, 0, 110, 100], [0.0, 0, 90, 100]],
                is_base=torch.tensor([is_base, is_base]),
            )
            assert matched == [1, 0]
            assert foreground == [True, True]

    def test_no_boxes_and_no_proposals(self):
        matched, foreground = stratified_assign(
            torch.zeros(0, 3), torch.zeros(0).bool()
        )
        assert matched.tolist() == [0, 0, 0]
        assert foreground.tolist() == [False] * 3
        matched, foreground = stratified_assign(torch.zeros(2, 0), self.IS_BASE)
        assert matched.shape == foreground.shape == (0,)


class TestWeights:
    def test_hand_worked(self):
        weights = novel_weights(
            torch.tensor([1, 1, 0, C, C]),
            torch.tensor([False, False, True, False, True]),
            torch.tensor([0.95, 0.95, 1.0, 0.95, 1.0]),
            torch.tensor([0.0, 1.0, 0.7, 0.1, 0.9]),
            C,
        )
        assert torch.allclose(weights, torch.tensor([1.95, 0.95, 1.0, 1.0, 1.0]))

    def test_no_gradient(self):
        background = torch.tensor([0.3], requires_grad=True)
        weights = novel_weights(
            torch.tensor([0]), torch.tensor([False]), torch.ones(1), background, C
        )
        assert not weights.requires_grad


def tiny_ovd() -> ConfigDict:
    model = tiny_faster_rcnn(C, norm="frozen")
    model.roi_head.bbox_head.update(
        reg_class_agnostic=True,
        cls_predictor_cfg=dict(
            type="pld_mmdet.TextEmbeddingClassifier", path="orthonormal", emb_dim=16
        ),
    )
    return model


def build(**kwargs) -> MarvelOVD:
    torch.manual_seed(0)
    model = MarvelOVD(tiny_ovd(), **{"novel": [2, 3], "burn_in": 0, **kwargs})
    model.init_weights()
    with torch.no_grad():  # answers that differ from box to box
        model.detector.roi_head.bbox_head.fc_cls.linear.weight.normal_(0, 3.0)
    return model.train()


def truth_of(*rows) -> InstanceData:
    """Rows (x1, y1, x2, y2, label, clip score, base)."""
    table = torch.tensor(rows, dtype=torch.float).reshape(-1, 7)
    base = table[:, 6].bool()
    return InstanceData(
        bboxes=table[:, :4],
        labels=table[:, 4].long(),
        clip_score=table[:, 5],
        confidence=table[:, 5].clone(),
        is_base=base,
    )


MIXED = (
    (2, 2, 30, 30, 0, 1.0, 1),
    (30, 10, 60, 50, 2, 0.97, 0),
    (5, 30, 25, 62, 3, 0.6, 0),
)


def labelled(rows=MIXED, images: int = 2) -> dict:
    batch = batch_of(images)
    for samples in batch["data_samples"].values():
        for sample in samples:
            sample.gt_instances = truth_of(*rows)
    return batch


class TestMarvelOVD:
    def test_background_logit_is_zero_and_text_is_never_trained(self):
        model = build()
        layer = model.detector.roi_head.bbox_head.fc_cls
        before = layer.text.clone()
        logits = layer(torch.randn(5, 32))
        assert torch.equal(logits[:, -1], torch.zeros(5))
        torch.manual_seed(0)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, weight_decay=0.1)
        total, _ = model.parse_losses(fresh(model, labelled()))
        total.backward()
        optimizer.step()
        assert torch.equal(layer.text, before)
        assert "text" not in dict(layer.named_parameters())
        assert layer.linear.weight.grad.abs().sum() > 0

    def test_burn_in_by_confidence_then_mining(self):
        model = build(burn_in=1)
        truth = [truth_of(*MIXED)]
        features = model.detector.extract_feat(torch.randn(1, 3, 64, 64))
        for step, mined in ((0, False), (1, False), (2, True)):
            model.steps.fill_(step)
            (chosen,) = model.select(truth, features)
            if not mined:
                assert chosen.labels.tolist() == [0, 2]
                assert chosen.confidence[1].item() == pytest.approx(0.97)
            else:
                assert chosen.is_base[0]
                assert (chosen.confidence >= 0.9 - 1e-6).all()
                assert chosen.confidence[0] == 1
        assert model.pseudo_counts["novel"].shape == (C,)

    def test_mining_pools_at_the_boxes_and_sums_the_novel_classes(self):
        model = build()
        model.steps.fill_(5)
        features = model.detector.extract_feat(torch.randn(1, 3, 64, 64))
        truth = truth_of(*MIXED)
        rois = torch.cat([torch.zeros(3, 1), truth.bboxes], 1)
        logits = model.detector.roi_head._bbox_forward(features, rois)["cls_score"]
        z = logits.softmax(1)[:, 2:4].sum(1)
        confidence, keep = mine_novel(truth.clip_score, z, truth.is_base)
        (chosen,) = model.select([truth], features)
        assert torch.allclose(chosen.confidence, confidence[keep])
        assert torch.equal(chosen.bboxes, truth.bboxes[keep])

    def test_gt_boxes_are_assigned_too(self):
        """A candidate on a base box becomes base, also as its own proposal."""
        model = build()
        truth = truth_of((0, 0, 40, 40, 0, 1.0, 1), (4, 0, 44, 40, 2, 0.97, 0))
        for stratified, labels in ((True, {0}), (False, {0, 2})):
            model.stratified = stratified
            sampled = model._sample(torch.zeros(0, 4), truth)
            assert set(sampled.pos_gt_labels.tolist()) == labels
            assert len(sampled.pos_priors) == 2

    @pytest.mark.parametrize("strong", [True, False])
    def test_all_base_images_give_the_stock_losses(self, strong):
        """Weights of 1: plain cross-entropy mean and plain L1 / R."""
        rows = [(2, 2, 30, 30, 0, 1.0, 1), (30, 10, 60, 50, 1, 1.0, 1)]
        model = build(strong_view=strong)
        model.steps.fill_(9)
        torch.manual_seed(4)
        ours = fresh(model, labelled(rows))
        model = build(strong_view=strong, mining=False)
        data = model.data_preprocessor(labelled(rows), training=True)
        views = ("weak", "strong") if strong else ("weak",)
        inputs = torch.cat([data["inputs"][v] for v in views])
        samples = [s for v in views for s in data["data_samples"][v]]
        for sample in samples:
            truth = sample.gt_instances
            sample.gt_instances = InstanceData(bboxes=truth.bboxes, labels=truth.labels)
        model.detector.roi_head.bbox_sampler.add_gt_as_proposals = True
        torch.manual_seed(4)
        stock = model.detector.loss(inputs, samples)
        for key in ("loss_cls", "loss_bbox"):
            assert torch.allclose(ours[key], stock[key], atol=1e-6), key
        for a, b in zip(ours["loss_rpn_cls"], stock["loss_rpn_cls"], strict=True):
            assert torch.equal(a, b)

    def test_novel_boxes_are_weighed_by_background_of_the_weak_view(self, monkeypatch):
        model = build()
        model.steps.fill_(9)
        seen = {}
        from pld_mmdet.detection import marvel_ovd

        def spy(labels, is_base, confidence, background, *rest):
            weights = novel_weights(labels, is_base, confidence, background, *rest)
            seen.update(labels=labels, weights=weights, background=background)
            return weights

        monkeypatch.setattr(marvel_ovd, "novel_weights", spy)
        batch = labelled([(30, 10, 60, 50, 2, 0.97, 0)], images=1)
        losses = fresh(model, batch)
        novel = seen["labels"] == 2
        assert novel.any()
        expected = 0.985 + 1 - seen["background"][novel]
        assert torch.allclose(seen["weights"][novel], expected)
        assert (seen["weights"][~novel] == 1).all()
        # the same box in both views: one background score, that of the weak view
        half = len(seen["labels"]) // 2
        assert torch.allclose(
            seen["background"][:1], seen["background"][half : half + 1]
        )
        assert torch.isfinite(losses["loss_cls"])

    @pytest.mark.parametrize(
        "flags", [dict(mining=False), dict(reweighting=False), dict(stratified=False)]
    )
    def test_ablations_take_a_step(self, flags):
        model = build(**flags)
        model.steps.fill_(9)
        total, _ = model.parse_losses(fresh(model, labelled()))
        total.backward()
        assert torch.isfinite(total)
        if flags == dict(mining=False):
            assert model.pseudo_counts["novel"].tolist() == [0, 0, 1, 1]

    def test_images_without_boxes(self):
        model = build()
        model.steps.fill_(9)
        losses = fresh(model, labelled([]))
        total, _ = model.parse_losses(losses)
        total.backward()
        assert losses["loss_cls"] > 0
        assert losses["loss_bbox"] == 0
        assert torch.isfinite(total)

    def test_steps_are_counted_and_saved(self):
        model = build(burn_in=500)
        fresh(model, labelled())
        other = build(burn_in=500)
        other.load_state_dict(copy.deepcopy(model.state_dict()))
        assert other.steps.item() == 1
        plain = model.detector.state_dict()
        other.load_state_dict(dict(plain), strict=True)

    def test_new_words_at_test_time(self):
        model = build().eval()
        data = dict(
            inputs=batch_of(1)["inputs"]["weak"],
            data_samples=batch_of(1)["data_samples"]["weak"],
        )
        layer = model.detector.roi_head.bbox_head.fc_cls
        x = torch.randn(3, 32)
        before = layer(x)
        changed = layer.text[:C].clone()
        changed[3] = torch.ones(16)
        model.set_vocabulary(["a", "b", "c", "d"], changed)
        assert torch.allclose(layer(x)[:, [0, 1, 2, 4]], before[:, [0, 1, 2, 4]])
        assert not torch.allclose(layer(x)[:, 3], before[:, 3])
        model.set_vocabulary([f"word {i}" for i in range(7)], torch.randn(7, 16))
        found = model.test_step(copy.deepcopy(data))[0].pred_instances
        assert len(found) > 0
        assert found.labels.max() < 7

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (dict(novel=[4]), "are not labels"),
            (dict(novel=[]), "are not labels"),
        ],
    )
    def test_novel_must_be_labels(self, change, message):
        with pytest.raises(UserError, match=message):
            build(**change)

    def test_class_specific_boxes_are_refused(self):
        with pytest.raises(UserError, match="class-agnostic"):
            MarvelOVD(tiny_faster_rcnn(C), novel=[3])

    def test_views_of_other_geometry_are_refused(self):
        batch = batch_of(1, flip_strong=True)
        for samples in batch["data_samples"].values():
            samples[0].gt_instances = truth_of(*MIXED)
        with pytest.raises(UserError, match="differ in flip"):
            fresh(build(), batch)
