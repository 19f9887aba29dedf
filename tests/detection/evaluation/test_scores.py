"""Label-free scores: numbers worked out by hand, limits, and the empty cases."""

import math

import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.structures import InstanceData

from pld_mmdet.detection.boxes.matching import count_agreeing, match
from pld_mmdet.detection.detectors.stock import build_detector
from pld_mmdet.detection.evaluation.scores import das
from pld_mmdet.detection.evaluation.scores.agreement import ViewAgreement
from pld_mmdet.detection.evaluation.scores.box_stability import (
    BoxStability,
    stable_overlaps,
)
from pld_mmdet.detection.evaluation.scores.das import (
    DetectionAdaptationScore,
    das_of_run,
    flatness,
    perturbed,
    prototype_ratio,
)
from pld_mmdet.detection.evaluation.scores.views import (
    kl_matrix,
    predict,
    score_distribution,
)
from pld_mmdet.detection.loops import scored_val
from pld_mmdet.detection.loops.scored_val import mean_over_processes, score_detector
from tests.adaptation.tiny import spread_scores
from tests.detection.helpers import batch_of
from tests.helpers import tiny_faster_rcnn


def instances(boxes, scores=None, labels=None, probs=None) -> InstanceData:
    boxes = torch.tensor(boxes, dtype=torch.float).reshape(-1, 4)
    found = InstanceData(
        bboxes=boxes,
        scores=torch.tensor(scores or [1.0] * len(boxes)),
        labels=torch.tensor(labels or [0] * len(boxes), dtype=torch.long),
    )
    if probs is not None:
        found.probs = torch.tensor(probs).reshape(len(boxes), -1)
    return found


def detector(seed=0):
    torch.manual_seed(seed)
    network = build_detector(ConfigDict(tiny_faster_rcnn(3)))
    network.init_weights()
    spread_scores(network)
    return network.eval()


def test_match_takes_the_cheapest_whole_not_the_cheapest_pair():
    rows, columns = match(torch.tensor([[0.0, 1.0], [0.5, 10.0]]))
    # 0 + 10 is more than 1 + 0.5, although 0 is the cheapest pair
    assert rows.tolist() == [0, 1]
    assert columns.tolist() == [1, 0]


def test_agreement_counts_by_hand():
    ours = torch.tensor([[0.0, 0, 10, 10], [20, 0, 30, 10], [40, 0, 50, 10]])
    theirs = torch.tensor([[0.0, 0, 10, 5], [20, 0, 30, 4], [40, 0, 50, 10]])
    labels, other = torch.tensor([0, 0, 1]), torch.tensor([0, 0, 2])
    # IoU 0.5: a pair; 0.4: none; third: same box, other class
    assert count_agreeing(ours, labels, theirs, other).tolist() == [2.0, 6.0]
    assert count_agreeing(ours, labels, ours, labels).tolist() == [6.0, 6.0]
    nothing = ours[:0], labels[:0]
    assert count_agreeing(*nothing, theirs, other).tolist() == [0.0, 3.0]
    assert count_agreeing(*nothing, *nothing).tolist() == [0.0, 0.0]


def test_one_box_has_one_partner():
    twice = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 10]])
    once, zero = twice[:1], torch.zeros(2, dtype=torch.long)
    assert count_agreeing(twice, zero, once, zero[:1]).tolist() == [2.0, 3.0]


def test_overlaps_that_are_no_pair_do_not_tear_one_apart():
    """0.6 is a pair; two of 0.45 are more in sum, and none."""
    ours = torch.tensor([[0.0, 0, 10, 10], [6.3, 0, 16.3, 10]])
    theirs = torch.tensor([[2.5, 0, 12.5, 10], [-3.8, 0, 6.2, 10]])
    labels = torch.tensor([3, 3])
    assert count_agreeing(ours, labels, theirs, labels).tolist() == [2.0, 4.0]
    large = torch.tensor([[0.0, 0, 800, 600]]).half()  # an area beyond half precision
    found = count_agreeing(large, labels[:1], large, labels[:1])
    assert found.tolist() == [2.0, 2.0]
    assert found.dtype == torch.float


def test_partners_overlap_as_much_as_is_asked_for():
    """64 of 136 px, 0.47; the box around both would make it 0.42."""
    one, other = torch.tensor([[0.0, 0, 10, 10]]), torch.tensor([[2.0, 2, 12, 12]])
    label = torch.tensor([3])
    assert count_agreeing(one, label, other, label).tolist() == [0.0, 2.0]
    found = count_agreeing(one, label, other, label, min_iou=0.45)
    assert found.tolist() == [2.0, 2.0]


def test_stability_is_the_mean_overlap_of_the_best_pairs():
    plain = instances([[0, 0, 10, 10], [20, 0, 30, 10]])
    moved = instances([[20, 0, 30, 5], [0, 0, 10, 8], [90, 90, 99, 99]])
    assert sorted(stable_overlaps(plain, moved).tolist()) == pytest.approx([0.5, 0.8])
    assert len(stable_overlaps(plain, instances([]))) == 0


def test_kl_by_hand():
    p, q = torch.tensor([[0.75, 0.25]]), torch.tensor([[0.5, 0.5], [0.75, 0.25]])
    expected = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    assert kl_matrix(p, q)[0].tolist() == pytest.approx([expected, 0.0], abs=1e-5)
    sure = torch.tensor([[1.0, 0.0]])
    assert torch.isfinite(kl_matrix(sure, 1 - sure)).all()


def test_flatness_by_hand():
    plain = instances([[0, 0, 10, 10]], probs=[0.5, 0.5])
    moved = instances([[0, 0, 10, 8], [50, 50, 60, 60]], probs=[0.75, 0.25] * 2)
    kl = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    assert flatness(plain, moved) == pytest.approx(0.8 - kl, abs=1e-4)
    assert flatness(plain, plain) == pytest.approx(1.0, abs=1e-6)
    assert flatness(plain, instances([])) is None


def test_prototype_ratio_by_hand():
    source = torch.tensor([[0.0, 0.0], [3.0, 0.0]])
    target = torch.tensor([[0.0, 4.0], [3.0, 4.0]])
    # across classes and domains 5 (3-4-5 triangle), in a domain 3 and 3, same class 4
    assert prototype_ratio(source, target) == pytest.approx(5 * 3 * 3 / 4)
    nearer = torch.tensor([[0.0, 1.0], [3.0, 1.0]])
    assert prototype_ratio(source, nearer) > prototype_ratio(source, target)
    # source 3, target 7, across 5 and sqrt(65), same class 4 and sqrt(32)
    wider = torch.tensor([[0.0, 4.0], [7.0, 4.0]])
    expected = (5 + 65**0.5) / 2 * 3 * 7 / ((4 + 32**0.5) / 2)
    assert prototype_ratio(source, wider) == pytest.approx(expected)


def test_surest_images_are_the_source_and_a_score_is_of_what_was_added_since(
    monkeypatch,
):
    """Mean scores 0.9, 0.5 and none: the first one alone against the other two.

    Prototypes 5/3 and 3 against 10/3 and 38/9: across 13/9, inside 4/3 and 8/9, and
    the same class 13/9.
    """

    def image(scores, features, softmax):
        found = instances([[0, 0, 10, 10]] * len(scores), scores)
        found.probs = torch.tensor([[0.25, 0.75]] * len(scores)).reshape(-1, 2)
        proposals = torch.tensor(features)[:, None], torch.tensor(softmax)
        found.set_metainfo(dict(proposals=proposals))
        return found

    def of_view(network, batch, view, shared):
        assert view == "weak"
        return batch

    def moved(network, inputs, samples):
        way = network.weight - plain.weight, network.bias - plain.bias
        lengths.append(math.hypot(*(part.item() for part in way)))
        return inputs

    monkeypatch.setattr(das, "detect", of_view)
    monkeypatch.setattr(das, "view_of", lambda *args: (of_view(*args), []))
    monkeypatch.setattr(das, "predict", moved)
    plain, score, lengths = torch.nn.Linear(1, 1), DetectionAdaptationScore(), []
    unsure = image([], [4.0, 6.0], [[0.5, 0.5], [0.0, 1.0]])
    sure = image([0.9], [1.0, 3.0], [[1.0, 0.0], [0.5, 0.5]])
    score.add(plain, [unsure, sure], {})
    score.add(plain, [image([0.4, 0.6], [2.0], [[0.25, 0.75]])], {})
    ratio = 13 / 9 * 4 / 3 * 8 / 9 / (13 / 9)
    expected = dict(das_fis=1.0, das_pdr=ratio, das=1 + math.log(ratio))
    assert score.compute() == pytest.approx(expected, abs=1e-5)
    torch.nn.init.constant_(plain.weight, 7.0)
    score.add(plain, [sure], {})
    assert score.compute() == pytest.approx(dict(das_fis=1.0, das=1.0), abs=1e-5)
    assert lengths == pytest.approx([1.0] * 3, abs=1e-5)


def test_published_score_of_a_run():
    assert das_of_run([0.2, 0.4, 0.3], [10.0, 20.0, 30.0]) == [0.0, 1.5, 1.5]
    assert das_of_run([0.2, 0.4], []) == [0.0, 1.0]
    assert das_of_run([0.3, 0.3], [1.0, 2.0]) == [0.0, 1.0]
    assert math.isnan(das_of_run([math.nan, 0.4, 0.2], [])[0])


def test_a_score_stands_at_its_class_and_the_rest_at_background():
    probs = score_distribution(instances([[0, 0, 1, 1]], [0.7], [1]), classes=3)
    assert probs[0].tolist() == pytest.approx([0.0, 0.7, 0.0, 0.3])


def test_perturbing_moves_a_copy_by_the_step_and_always_the_same_way():
    network = torch.nn.Linear(3, 2)
    before = [p.clone() for p in network.parameters()]
    moved = perturbed(network, step=0.5)
    way = torch.cat(
        [(a - b).flatten() for a, b in zip(moved.parameters(), before, strict=True)]
    )
    assert way.norm().item() == pytest.approx(0.5, abs=1e-5)
    pairs = zip(network.parameters(), before, strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
    again = perturbed(network, step=0.5)
    assert torch.equal(again.weight, moved.weight)
    assert (way > 0).all()  # uniform in [0, 1), as in the release
    other = perturbed(network, step=0.5, seed=1)
    assert not torch.allclose(other.weight, moved.weight)
    whole = perturbed(network).weight - network.weight
    assert torch.allclose(whole, 2 * (moved.weight - network.weight), atol=1e-6)


def test_predictions_carry_the_softmax_of_their_own_box_and_the_proposals():
    network = detector()
    data = network.data_preprocessor(
        dict(
            inputs=batch_of(2)["inputs"]["weak"],
            data_samples=batch_of(2)["data_samples"]["weak"],
        ),
        False,
    )
    with torch.no_grad():
        found = predict(network, data["inputs"], data["data_samples"])
    assert all(len(f) > 0 for f in found)
    for image in found:
        assert image.probs.shape == (len(image), 4)
        assert torch.allclose(image.probs.sum(1), torch.ones(len(image)), atol=1e-5)
        features, softmax = image.metainfo["proposals"]
        assert features.shape == (len(softmax), 16)


def scores():
    return [ViewAgreement(0.05), BoxStability(0.1, 0.05), DetectionAdaptationScore()]


def test_all_scores_on_a_real_detector_in_one_pass():
    network, loader = detector(), [batch_of(2), batch_of(2, seed=1)]
    before = {k: v.clone() for k, v in network.state_dict().items()}
    torch.manual_seed(0)
    values = score_detector(network, loader, scores())
    assert set(values) == {
        "agreement", "box_stability", "das", "das_fis", "das_pdr"
    }  # fmt: skip
    assert 0 <= values["agreement"] <= 1
    assert 0 < values["box_stability"] < 1
    assert values["das_fis"] <= 1
    assert values["das"] == pytest.approx(
        values["das_fis"] + math.log(values["das_pdr"])
    )
    assert all(torch.equal(v, before[k]) for k, v in network.state_dict().items())
    torch.manual_seed(0)
    assert score_detector(network, loader, scores()) == values


def test_equal_views_no_dropout_and_no_step_are_perfect():
    network, batch = detector(), batch_of(2)
    batch["inputs"]["strong"] = batch["inputs"]["weak"]
    perfect = [
        ViewAgreement(0.05), BoxStability(0.0, 0.05), DetectionAdaptationScore(0.0)
    ]  # fmt: skip
    values = score_detector(network, [batch], perfect)
    assert values["agreement"] == 1.0
    assert values["box_stability"] == pytest.approx(1.0, abs=1e-5)
    assert values["das_fis"] == pytest.approx(1.0, abs=1e-4)


def test_a_detector_that_sees_nothing_is_never_the_best():
    network = detector()
    with torch.no_grad():
        network.roi_head.bbox_head.fc_cls.weight.zero_()
        network.roi_head.bbox_head.fc_cls.bias.copy_(torch.tensor([0.0, 0, 0, 50]))
    values = score_detector(network, [batch_of(2)], scores())
    assert values["agreement"] == values["box_stability"] == 0.0
    assert math.isnan(values["das"])
    assert not values["das"] > -1e9


def test_a_score_that_meets_boxes_that_are_not_finite_is_left_out_with_a_word(
    monkeypatch,
):
    """YOLOX under feature dropout answers with infinite boxes: exp of a large size."""
    network, batch = detector(), batch_of(2)
    plain, said = type(network).predict, []

    def explode(self, *args, **kwargs):
        found = plain(self, *args, **kwargs)
        if self.backbone._forward_hooks:  # box stability's dropout
            found[0].pred_instances.bboxes[0, 2] = math.inf
        return found

    monkeypatch.setattr(type(network), "predict", explode)
    monkeypatch.setattr(scored_val, "print_log", lambda text, *_: said.append(text))
    values = score_detector(network, [batch], scores())
    assert math.isnan(values["box_stability"])
    assert 0 <= values["agreement"] <= 1
    assert math.isfinite(values["das_fis"])
    assert len(said) == 1
    assert said[0].startswith("BoxStability: the detector answered with boxes")


def test_processes_agree_on_the_mean_of_their_shares(monkeypatch):
    assert mean_over_processes(dict(a=0.5)) == dict(a=0.5)
    parts = [dict(a=0.2, b=3.0), dict(a=0.4)]
    monkeypatch.setattr(scored_val, "all_gather_object", lambda values: parts)
    assert mean_over_processes(parts[1]) == dict(a=pytest.approx(0.3), b=3.0)
    # a process that saw no box at all, and one without the second part
    parts = [
        dict(das=-3.0, das_fis=0.25, das_pdr=0.03, c=math.nan),
        dict(das=math.nan, das_fis=math.nan, das_pdr=0.05, c=math.nan),
        dict(das=0.5, das_fis=0.5, c=math.nan),
    ]
    means = mean_over_processes(parts[1])
    assert math.isnan(means.pop("c"))
    wanted = dict(das=-3.0, das_fis=0.375, das_pdr=pytest.approx(0.04))
    assert means == wanted
