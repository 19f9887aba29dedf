"""Random teachers: worked numbers, where the student starts, what it can learn."""

import pytest
import torch
from torch import nn

from pld_mmdet.classification.random_teachers import move_towards, variance_correction
from pld_mmdet.errors import UserError
from pld_mmdet.registry import MODELS

HEADED = dict(
    type="pld_mmdet.HeadedEncoder",
    encoder=dict(type="pld_mmdet.SmallConvNet", widths=(4, 6)),
    hidden=16,
    bottleneck=5,
    outputs=40,
)


def build(**changes):
    torch.manual_seed(0)
    return MODELS.build(dict(type="pld_mmdet.RandomTeachers", student=HEADED) | changes)


def images(count: int = 7) -> torch.Tensor:
    return torch.rand(count, 1, 8, 8, generator=torch.Generator().manual_seed(2))


def test_the_loss_by_hand():
    """z_T = (.5, -.5, 0), z_S = (.2, .1, -.3)."""
    model = build()
    model.teacher.network.forward = lambda x: torch.tensor([[0.5, -0.5, 0.0]])
    model.student.forward = lambda x: torch.tensor([[0.2, 0.1, -0.3]])
    found = model.loss(images(1))
    assert found["loss"].item() == pytest.approx(1.093058, abs=1e-6)
    assert found["excess"].item() == pytest.approx(0.072867, abs=1e-6)


def test_temperatures_by_hand():
    """tau_T = .5 makes (1, -1, 0) of z_T, tau_S = 2 makes (.1, .05, -.15) of z_S."""
    model = build(tau_teacher=0.5, tau_student=2.0)
    model.teacher.network.forward = lambda x: torch.tensor([[0.5, -0.5, 0.0]])
    model.student.forward = lambda x: torch.tensor([[0.2, 0.1, -0.3]])
    p = torch.tensor([1.0, -1.0, 0.0]).softmax(0)
    log_q = torch.tensor([0.1, 0.05, -0.15]).log_softmax(0)
    found = model.loss(images(1))
    assert found["loss"].item() == pytest.approx(-(p * log_q).sum().item(), abs=1e-6)
    excess = (p * (p.log() - log_q)).sum().item()
    assert found["excess"].item() == pytest.approx(excess, abs=1e-6)


def test_logits_are_cosines_of_the_heads_vector_and_the_rows():
    model = build().eval().student
    vector = model.head(model.features(images()))
    cosines = nn.functional.cosine_similarity(
        vector[:, None], model.last.weight[None], dim=2
    )
    assert torch.allclose(model(images()), cosines, atol=1e-5)
    kinds = [type(layer) for layer in model.head]
    assert kinds == [nn.Linear, nn.GELU, nn.Linear, nn.GELU, nn.Linear]


def test_the_heads_draw():
    """A normal of deviation .02, cut at two: what is left has .0176."""
    net = MODELS.build(dict(HEADED, hidden=200, bottleneck=50))
    layers = [layer for layer in (*net.head, net.last) if isinstance(layer, nn.Linear)]
    assert len(layers) == 4
    for layer in layers:
        assert layer.weight.abs().max() <= 0.04
        assert layer.weight.std().item() == pytest.approx(0.0176, rel=0.1)
        assert layer.bias is None or not layer.bias.any()


def test_the_student_is_moved_and_the_teacher_is_not():
    raw, plain, corrected = (
        build(**changes)
        for changes in (
            dict(alpha=1.0),
            dict(alpha=0.3, corrected=False),
            dict(alpha=0.3),
        )
    )
    r, t = raw.student.last.weight, raw.teacher.network.last.weight
    for model in (plain, corrected):
        assert torch.equal(model.teacher.network.last.weight, t)
    expected = 0.7 * t + 0.3 * r
    assert torch.allclose(plain.student.last.weight, expected, atol=1e-6)
    assert torch.allclose(corrected.student.last.weight, expected / 0.761577, atol=1e-6)


def test_variance_correction_by_hand():
    wanted = {0: 1, 0.2: 0.8246211, 0.3: 0.761577, 0.5: 0.7071068, 1: 1}
    for alpha, value in wanted.items():
        assert variance_correction(alpha) == pytest.approx(value, abs=1e-6)
    with pytest.raises(UserError, match="no share"):
        variance_correction(1.2)


def test_where_the_student_starts():
    torch.manual_seed(3)
    student, teacher = nn.Linear(2, 1), nn.Linear(2, 1)
    for layer, rows in ((student, [3.0, -1.0]), (teacher, [1.0, 2.0])):
        layer.weight.data.copy_(torch.tensor([rows]))
        layer.bias.data.fill_(0.25)  # no draw: stays
    move_towards(student, teacher, 0.3)
    expected = torch.tensor([[0.7 + 0.9, 1.4 - 0.3]]) / 0.761577
    assert torch.allclose(student.weight, expected, atol=1e-5)
    assert student.bias.item() == 0.25
    student.weight.data.copy_(torch.tensor([[3.0, -1.0]]))
    move_towards(student, teacher, 0.3, corrected=False)
    assert torch.allclose(student.weight, torch.tensor([[1.6, 1.1]]))
    with pytest.raises(UserError, match="different weights"):
        move_towards(nn.Linear(3, 1), teacher, 0.3)
    copy, own = build(alpha=0.0), build(alpha=1.0)
    theirs = dict(copy.teacher.network.named_parameters())
    assert all(torch.equal(p, theirs[k]) for k, p in copy.student.named_parameters())
    moved = [
        not torch.equal(p, dict(own.teacher.network.named_parameters())[k])
        for k, p in own.student.named_parameters()
    ]
    assert sum(moved) > 4


def test_a_copy_learns_from_the_norms_alone():
    """In evaluation mode there is no gradient; in training mode there is one."""
    model = build(alpha=0.0).double()
    norms = {}
    for mode in (False, True):
        model.train(mode)
        model.zero_grad()
        found = model.loss(images().double())
        found["loss"].backward()
        norms[mode] = max(p.grad.abs().max() for p in model.student.parameters())
        assert (found["excess"] > 1e-12) == mode
        assert found["excess"] > -1e-12
    assert norms[False] < 1e-9 < 1e-6 < norms[True]
    assert not any(p.requires_grad for p in model.teacher.parameters())


def test_the_teacher_keeps_its_first_statistics():
    model = build(alpha=0.5)
    before = {k: v.clone() for k, v in model.teacher.state_dict().items()}
    model.train()
    optimizer = torch.optim.Adam(model.student.parameters(), 3e-3)
    losses = []
    for _ in range(60):
        optimizer.zero_grad()
        loss = model.loss(images())["loss"]
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    assert all(torch.equal(v, before[k]) for k, v in model.teacher.state_dict().items())
    assert model.teacher.network.encoder.backbone[1].running_var.eq(1).all()
    assert not model.student.encoder.backbone[1].running_var.eq(1).all()


def test_answers_and_features():
    model = build(predict_on="teacher", alpha=1.0).eval()
    z = model.teacher(images())
    assert z.shape == (7, 40)
    assert z.abs().max() <= 1 + 1e-6
    found = model.predict(images(), torch.arange(7))[0]
    expected = model.teacher.network.encoder.features(images())
    assert torch.equal(found["features"], expected)
    none = model.predict(images(0), torch.arange(0))[0]
    assert none["features"].shape == (0, 6)
    with pytest.raises(UserError, match="tau_student"):
        build(tau_student=0.0)
