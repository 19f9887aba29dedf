"""MarvelOVD: the specification's hand-worked numbers, gradient stops, whole steps."""

import pytest
import torch
from mmdet.structures.bbox import bbox_overlaps

from pld_mmdet.detection.marvel_ovd import mine_novel, novel_weights, stratified_assign

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
