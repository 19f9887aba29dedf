"""SLA+SD: worked numbers, the order of the columns, gradient stops, its configs."""

import math

import pytest
import torch
from mmengine.config import Config
from torch.nn import functional as F

from pld_mmdet.catalogue import ROOT
from pld_mmdet.classification.sla_sd import SLASD, aggregate, transformed
from pld_mmdet.errors import UserError
from pld_mmdet.registry import MODELS

NET = dict(type="pld_mmdet.SmallConvNet", in_channels=3, widths=(4, 6), num_classes=5)


def build(**changes) -> SLASD:
    torch.manual_seed(0)
    config = dict(type="pld_mmdet.SLASD", network=NET, num_classes=5) | changes
    return MODELS.build(config)


def batch(n: int = 6, side: int = 8) -> dict:
    generator = torch.Generator().manual_seed(1)
    x = torch.rand(n, 3, side, side, generator=generator)
    return dict(inputs=x, targets=torch.arange(n) % 5)


def test_aggregate_reads_each_copy_at_its_own_column():
    """Two cases by hand, and the indices written out for three classes."""
    one = torch.tensor([[[1.0, 0, 2, 0], [0, 3, 0, 1]]])
    two = torch.tensor([[[2.0, 1, 0, -1], [0, 2, 1, 3]]])
    assert aggregate(one, 2).tolist() == [[2.0, 1.5]]
    assert aggregate(two, 2).tolist() == [[2.0, 1.5]]
    joint = torch.randn(3, 2, 6)
    expected = [
        [(joint[n, 0, c * 2] + joint[n, 1, c * 2 + 1]) / 2 for c in range(3)]
        for n in range(3)
    ]
    assert torch.allclose(aggregate(joint, 3), torch.tensor(expected))
    assert aggregate(torch.zeros(0, 4, 12), 3).shape == (0, 3)


def test_losses_by_hand():
    """The addendum's case: .94019 + .313262 + .027955."""
    joint = torch.tensor([[[2.0, 1, 0, -1], [0, 2, 1, 3]]])
    single = torch.tensor([[1.0, 0]])
    found = build().losses(joint, single, torch.tensor([0]))
    assert found["loss_joint"].item() == pytest.approx(0.94019, abs=1e-5)
    assert found["loss_single"].item() == pytest.approx(0.313262, abs=1e-6)
    assert found["loss_sd"].item() == pytest.approx(0.027955, abs=1e-6)
    assert sum(found.values()).item() == pytest.approx(1.281406, abs=1e-5)
    other = build(beta=0.25, joint_times=3.0)
    weighted = other.losses(joint, single, torch.tensor([0]))
    assert weighted["loss_joint"].item() == pytest.approx(3 * 0.94019, abs=1e-4)
    assert weighted["loss_single"].item() == pytest.approx(0.313262 / 4, abs=1e-6)


def test_the_divergence_is_softened_and_keeps_its_size():
    """tau = 2: p = softmax(1, .75), q = softmax(.5, 0); 4 (p ln p / q)."""
    joint = torch.tensor([[[2.0, 1, 0, -1], [0, 2, 1, 3]]])
    found = build(tau=2.0).losses(joint, torch.tensor([[1.0, 0]]), torch.tensor([0]))
    p, q = 1 / (1 + math.exp(-0.25)), 1 / (1 + math.exp(-0.5))
    expected = 4 * (p * math.log(p / q) + (1 - p) * math.log((1 - p) / (1 - q)))
    assert found["loss_sd"].item() == pytest.approx(expected, rel=1e-5)


def test_joint_labels_are_class_major():
    """Image of class 2 with four copies: 8, 9, 10, 11."""
    joint = torch.full((1, 4, 12), -40.0)
    for copy, column in enumerate((8, 9, 10, 11)):
        joint[0, copy, column] = 0
    model = build()
    right = model.losses(joint, torch.zeros(1, 3), torch.tensor([2]))["loss_joint"]
    assert right < 1e-6
    wrong = model.losses(joint, torch.zeros(1, 3), torch.tensor([1]))["loss_joint"]
    assert wrong > 39


def test_a_whole_batch_is_the_heads_on_all_copies_and_on_the_first():
    """What ``loss`` makes of images: joint logits of all turns, single ones of none."""
    model, data = build().eval(), batch()
    turned = [data["inputs"].rot90(m, (2, 3)) for m in range(4)]
    joint = torch.stack([model.joint(model.network.features(x)) for x in turned], 1)
    expected = model.losses(joint, model.network(turned[0]), data["targets"])
    for name, value in model.loss(**data).items():
        assert value.item() == pytest.approx(expected[name].item(), rel=1e-5), name


def test_the_aggregate_teaches_and_is_not_taught():
    joint = torch.randn(2, 4, 20, requires_grad=True)
    single = torch.randn(2, 5, requires_grad=True)
    model = build()
    model.losses(joint, single, torch.tensor([0, 4]))["loss_sd"].backward()
    assert joint.grad is None or not joint.grad.any()
    assert single.grad.any()
    equal = model.losses(joint, aggregate(joint, 5), torch.tensor([0, 4]))
    assert equal["loss_sd"].abs() < 1e-6


def test_copies_are_turned_and_recoloured():
    x = batch()["inputs"]
    turned = transformed(x, "rotation")
    assert turned.shape == (6, 4, 3, 8, 8)
    assert torch.equal(turned[:, 0], x)
    assert torch.equal(turned[:, 3].rot90(1, (2, 3)), x)
    first = turned[0, 1, 0]  # the right border becomes the upper one
    assert torch.equal(first[0], x[0, 0, :, -1])
    orders = transformed(x, "colour")
    assert orders.shape == (6, 6, 3, 8, 8)
    assert torch.equal(orders[:, 0], x)
    assert len({tuple(o[0, :, 0, 0].tolist()) for o in orders.unbind(1)}) == 6
    none = x[:0]
    assert transformed(none, "rotation").shape == (0, 4, 3, 8, 8)
    assert transformed(none, "colour").shape == (0, 6, 3, 8, 8)


def test_the_single_head_answers_or_all_copies_do():
    data, model = batch(), build().eval()
    assert torch.equal(model(mode="tensor", **data), model.network(data["inputs"]))
    many = build(predict_on="aggregated").eval()
    by_copy = [
        many.joint(many.network.features(data["inputs"].rot90(m, (2, 3))))
        for m in range(4)
    ]
    expected = torch.stack(by_copy, 1)
    found = many(mode="tensor", **data)
    assert torch.allclose(found, aggregate(expected, 5), atol=1e-5)


def test_same_labels_are_augmentation():
    """Without a joint head: the mean over four turned batches of cross-entropy."""
    model, data = build(labels="same").eval(), batch()
    turned = [
        F.cross_entropy(model.network(data["inputs"].rot90(m, (2, 3))), data["targets"])
        for m in range(4)
    ]
    found = model.loss(**data)
    assert set(found) == {"loss_same"}
    assert found["loss_same"].item() == pytest.approx(sum(turned).item() / 4, rel=1e-5)
    assert not hasattr(model, "joint")


def test_what_does_not_fit_is_said():
    with pytest.raises(UserError, match="is not known"):
        build(transform="flip")
    with pytest.raises(UserError, match="no joint head"):
        build(labels="same", predict_on="aggregated")
    with pytest.raises(UserError, match="for 3 classes"):
        aggregate(torch.zeros(2, 4, 8), 3)
    with pytest.raises(UserError, match="do not fit into one batch"):
        transformed(torch.zeros(2, 3, 8, 6), "rotation")
    with pytest.raises(UserError, match="no six orders"):
        transformed(torch.zeros(2, 1, 8, 8), "colour")


def test_the_published_setting_builds_and_steps():
    cfg = Config.fromfile(ROOT / "configs/sla_sd/paper.py")
    model = MODELS.build(cfg.model)
    weights = sum(p.numel() for p in model.network.parameters())
    assert weights / 1e6 == pytest.approx(0.47, abs=0.01)  # ResNet-32
    losses = model.loss(**batch(2, 32))
    assert all(torch.isfinite(loss) for loss in losses.values())
    assert model.joint.out_features == 400
