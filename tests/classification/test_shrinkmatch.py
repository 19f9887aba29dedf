"""ShrinkMatch: worked numbers of shrinking and alignment, weights, gradient stops."""

import math

import pytest
import torch
from mmengine.config import Config

from pld_mmdet.catalogue import ROOT
from pld_mmdet.classification.shrinkmatch import ShrinkMatch, shrink
from pld_mmdet.errors import UserError
from pld_mmdet.registry import MODELS

NET = dict(type="pld_mmdet.SmallConvNet", in_channels=3, widths=(4, 8), num_classes=5)


def build(classes: int = 5, **changes) -> ShrinkMatch:
    torch.manual_seed(0)
    config = dict(
        type="pld_mmdet.ShrinkMatch",
        student=dict(NET, num_classes=classes),
        num_classes=classes,
    )
    return MODELS.build(config | changes)


def batch(labelled: int = 4, others: int = 6) -> dict:
    generator = torch.Generator().manual_seed(1)
    x = torch.rand(labelled + others, 3, 16, 16, generator=generator)
    y = torch.arange(labelled + others) % 5
    y[labelled:] = -1
    return dict(inputs=x, targets=y)


@pytest.mark.parametrize(
    ("q", "threshold", "kept", "confidence"),
    [
        ((0.5, 0.3, 0.15, 0.03, 0.02), 0.9, (0, 3, 4), 0.9090909),
        ((0.5, 0.3, 0.15, 0.03, 0.02), 0.7, (0, 2, 3, 4), 0.7142857),
        ((0.5, 0.3, 0.15, 0.03, 0.02), 0.95, (0, 4), 0.9615385),
        ((0.5, 0.3, 0.15, 0.03, 0.02), 0.99, (0, 4), 0.9615385),  # nothing helps
        ((0.4, 0.35, 0.15, 0.1), 0.75, (0, 3), 0.8),
        ((0.4, 0.35, 0.15, 0.1), 0.6, (0, 2, 3), 0.615385),
        ((0.1, 0.35, 0.4, 0.15), 0.6, (0, 2, 3), 0.615385),  # in another order
        ((0.4, 0.35, 0.15, 0.1), 0.3, (0, 1, 2, 3), 0.4),  # certain as it is
        # .375 / (.375 + .125) is the threshold itself
        ((0.375, 0.3125, 0.1875, 0.0625, 0.0625), 0.75, (0, 3, 4), 0.75),
        ((0.6, 0.4), 0.95, (0, 1), 0.6),
        ((1.0,), 0.95, (0,), 1.0),
    ],
)
def test_shrink_by_hand(q, threshold, kept, confidence):
    keep, found = shrink(torch.tensor([q]), threshold)
    assert keep[0].nonzero().flatten().tolist() == list(kept)
    assert found.item() == pytest.approx(confidence, abs=1e-6)


def test_shrink_is_the_loop_over_classes():
    q = torch.randn(40, 7, generator=torch.Generator().manual_seed(2)).softmax(1)
    keep, confidence = shrink(q, 0.8)
    for row, mask, value in zip(q, keep, confidence, strict=True):
        order = row.argsort(descending=True).tolist()
        rest = order[1:]
        while row[order[0]] / row[[order[0], *rest]].sum() < 0.8 and len(rest) > 1:
            rest = rest[1:]
        assert sorted([order[0], *rest]) == mask.nonzero().flatten().tolist()
        expected = row[order[0]] / row[[order[0], *rest]].sum()
        assert value.item() == pytest.approx(expected.item(), abs=1e-6)


def test_shrink_at_its_edges():
    keep, confidence = shrink(torch.zeros(0, 4), 0.9)
    assert keep.shape == (0, 4)
    assert confidence.shape == (0,)
    with pytest.raises(UserError, match="shape"):
        shrink(torch.rand(4), 0.9)
    with pytest.raises(UserError, match="threshold"):
        shrink(torch.rand(2, 4), 1.5)


@pytest.mark.parametrize(
    ("q", "logits", "threshold", "ce", "weighted"),
    [
        (
            (0.5, 0.3, 0.15, 0.03, 0.02),
            (1, 0.8, 0.2, -0.5, -1),
            0.9,
            0.3063557,
            0.1531779,
        ),
        ((0.4, 0.35, 0.15, 0.1), (1, 0.5, 0.5, 0), 0.75, 0.313262, 0.125305),
        ((0.4, 0.35, 0.15, 0.1), (1, 0.5, 0.5, 0), 0.6, 0.68027, 0.272108),
    ],
)
def test_the_shrunk_loss_by_hand(q, logits, threshold, ce, weighted):
    """Two images; the second is certain, so means are halves, and r = 1/2 too."""
    q = torch.tensor([q, [0.99, *[0.01 / (len(q) - 1)] * (len(q) - 1)]])
    a = torch.tensor([logits, logits], dtype=torch.float)
    z = torch.zeros_like(a)
    found = build(len(logits), threshold=threshold).losses(q, z, a)
    assert found["loss_shrink"].item() == pytest.approx(weighted / 4, abs=1e-6)
    assert found["shrunk"].item() == found["certain"].item() == 0.5
    # a uniform answer costs ln C, whatever the soft label
    expected = torch.tensor(float(len(logits))).log().item() / 2
    assert found["loss_u"].item() == pytest.approx(expected, rel=1e-6)
    other = build(len(logits), threshold=threshold, use="unweighted", weight=3.0)
    assert other.losses(q, z, a)["loss_shrink"].item() == pytest.approx(
        3 * ce / 2, abs=1e-5
    )


def test_soft_labels_of_certain_images_by_hand():
    """z = (1, 0, -1), q = (.625, .25, .125) at its threshold: .907606; the other: 0."""
    q = torch.tensor([[0.625, 0.25, 0.125], [0.5, 0.25, 0.25]])
    z = torch.tensor([[1.0, 0, -1], [3.0, 0, 0]])
    found = build(3, threshold=0.625, weight=3.0, use="certain").losses(q, z, None)
    assert found["loss_u"].item() == pytest.approx(3 * 0.907606 / 2, abs=1e-5)
    assert found["certain"].item() == 0.5
    assert set(found) == {"loss_u", "certain"}


def test_numbers_for_the_log_and_a_confidence_at_the_threshold():
    """Of four images one is certain, one reaches .75 itself without two classes."""
    rows = [
        [0.375, 0.3125, 0.1875, 0.0625, 0.0625],  # drops 2
        [0.21, 0.2, 0.2, 0.2, 0.19],  # nothing helps
        [0.5, 0.4, 0.04, 0.03, 0.03],  # drops 1
        [0.8, 0.05, 0.05, 0.05, 0.05],
    ]
    z = torch.zeros(4, 5)
    found = build(threshold=0.75).losses(torch.tensor(rows), z, z)
    assert found["certain"].item() == 0.25
    assert found["shrunk"].item() == 0.5
    assert found["dropped"].item() == 1.5
    # uniform answers among 3 and 4 classes, weighed by max q, r = 1 / 4
    expected = 0.25 * (0.375 * math.log(3) + 0.5 * math.log(4)) / 4
    assert found["loss_shrink"].item() == pytest.approx(expected, rel=1e-5)


def test_which_view_and_which_head_a_term_looks_at():
    """Weak views are 0.9 of an image, strong ones 0.3: every term written out."""
    model, data = build(threshold=0.28, weight=2.0).eval(), batch()
    model.weak, model.strong = lambda x: 0.9 * x, lambda x: 0.3 * x
    with torch.no_grad():
        model.student.fc.weight.mul_(200)  # so that answers differ
        for layer in model.auxiliary[::3]:
            layer.weight.mul_(20)
    x, u, y = data["inputs"][:4], data["inputs"][4:], data["targets"][:4]
    net = model.student
    expected = {"loss_x": torch.nn.functional.cross_entropy(net(0.9 * x), y)}
    q = net(0.9 * u).softmax(1)
    q = q / q.mean(0)
    strong = net.features(0.3 * u)
    expected |= build(threshold=0.28, weight=2.0).losses(
        q / q.sum(1, keepdim=True), net.fc(strong), model.auxiliary(strong)
    )
    assert 0 < expected["certain"] < 1
    assert expected["shrunk"] > 0
    found = model.loss(**data)
    for name, value in expected.items():
        assert found[name].item() == pytest.approx(value.item(), rel=1e-4), name
    found["loss_shrink"].backward()
    assert net.backbone[0].weight.grad.any()
    assert net.fc.weight.grad is None


def test_the_average_is_a_copy_and_the_head_is_narrow():
    model = build()
    assert model.teacher.network is not model.student
    kinds = [type(layer).__name__ for layer in model.auxiliary]
    assert kinds == [*2 * ["Linear", "BatchNorm1d", "LeakyReLU"], "Linear"]
    assert {layer.negative_slope for layer in model.auxiliary[2:6:3]} == {0.1}
    assert [model.auxiliary[i].out_features for i in (0, 3, 6)] == [2, 2, 5]


def test_a_tie_keeps_the_class_that_is_the_label():
    """Equal classes: the one that ``max`` takes is never among the dropped."""
    q = torch.tensor([[0.1, 0.4, 0.4, 0.1]])
    found = build(4, threshold=0.6).losses(q, torch.zeros(1, 4), torch.zeros(1, 4))
    assert found["loss_shrink"].isfinite()


def test_what_nothing_helps_has_no_weight():
    q, a = torch.tensor([[0.5, 0.3, 0.2]]), torch.tensor([[0.0, 2.0, 1.0]])
    model = build(3, use="unweighted")
    assert model.losses(q, a, a)["loss_shrink"].item() == 0
    assert build(3, threshold=0.0).losses(q, a, a)["loss_shrink"].item() == 0


def test_alignment_by_hand():
    """A queue of one row, whatever the number of empty ones."""
    model = build(3)
    model.means.push(torch.tensor([[0.5, 0.3, 0.2]]))
    model.means.push = lambda rows: None
    found = model.aligned(torch.tensor([[0.4, 0.4, 0.2]]))
    expected = (0.25532, 0.42553, 0.31915)
    assert found[0].tolist() == pytest.approx(expected, abs=1e-5)
    fresh = build(3).aligned(torch.tensor([[0.6, 0.3, 0.1]]))  # by its own mean
    assert fresh[0].tolist() == pytest.approx([1 / 3] * 3)


def test_alignment_remembers_batches_not_images():
    """A queue of two keeps the means of the last two batches, of whatever size."""
    model = build(3, queue=2)
    batches = [torch.rand(n, 3).softmax(1) for n in (4, 2, 3)]
    for q in batches:
        found = model.aligned(q)
    means = torch.stack([q.mean(0) for q in batches[1:]])
    assert torch.allclose(model.means.read(), means, atol=1e-6)
    expected = batches[2] / means.mean(0)
    assert torch.allclose(found, expected / expected.sum(1, keepdim=True), atol=1e-6)


def test_the_ratio_lives_on_or_starts_anew():
    model = build(ratio_keep=0.75)
    shares = [model._ratio(torch.tensor(s)).item() for s in (0.4, 0.8, 0.0)]
    assert shares == pytest.approx([0.4, 0.5, 0.375])
    other = build(ratio_keep=0.75, ratio_span=2)
    found = []
    for step, share in enumerate((0.4, 0.8, 0.2, 0.6)):
        other.progress.step = step
        found.append(other._ratio(torch.tensor(share)).item())
    assert found == pytest.approx([0.4, 0.5, 0.2, 0.3])


def test_gradients_stop_at_q_and_at_the_average():
    model = build(threshold=0.8)
    rows = [[0.5, 0.3, 0.15, 0.03, 0.02], [0.05, 0.9, 0.02, 0.02, 0.01]]
    q = torch.tensor(3 * rows).requires_grad_()
    z, a = torch.randn(6, 5), torch.randn(6, 5, requires_grad=True)
    found = model.losses(q, z, a)
    assert found["shrunk"] > 0
    found["loss_shrink"].backward()
    assert q.grad is None
    assert a.grad.isfinite().all()
    losses = model.loss(**batch())
    sum(v for k, v in losses.items() if "loss" in k).backward()
    assert all(p.grad is None for p in model.teacher.parameters())
    assert all(p.grad is not None for p in model.student.parameters())


def test_rivals_have_fewer_terms_and_the_average_answers():
    names = {
        use: {k for k in build(use=use).loss(**batch()) if "loss" in k}
        for use in ("nothing", "certain", "shrink")
    }
    assert names["nothing"] == {"loss_x"}
    assert names["certain"] == {"loss_x", "loss_u"}
    assert names["shrink"] == {"loss_x", "loss_u", "loss_shrink"}
    model = build().eval()
    with torch.no_grad():
        model.student.fc.bias.add_(3.0)
    x = batch()["inputs"]
    assert torch.equal(model(mode="tensor", inputs=x), model.teacher(x))
    assert not torch.equal(model.student(x), model.teacher(x))


def test_what_does_not_fit_is_said():
    with pytest.raises(UserError, match="4 labelled and 0 other"):
        build().loss(**batch(others=0))
    with pytest.raises(UserError, match="0 labelled"):
        build().loss(**batch(labelled=0))
    with pytest.raises(UserError, match="threshold=2"):
        build(threshold=2)
    with pytest.raises(UserError, match="no features"):
        build(student=dict(type="pld_mmdet.MLP", sizes=(4, 5)))


def test_the_published_setting_builds_and_steps():
    cfg = Config.fromfile(ROOT / "configs/shrinkmatch/paper.py")
    model = MODELS.build(cfg.model)
    y = torch.tensor([3, 8, -1, -1, -1])
    found = model.loss(torch.rand(5, 3, 32, 32), y)
    assert all(torch.isfinite(loss) for loss in found.values())
