"""SSLD: worked numbers, no label enters, what moves in the teacher."""

import pytest
import torch

from pld_mmdet.classification.ssld import DISTANCES, SSLD, symmetric_kl
from pld_mmdet.errors import UserError
from pld_mmdet.registry import MODELS

NET = dict(type="pld_mmdet.SmallConvNet", widths=(3, 4), num_classes=3)


def build(**changes) -> SSLD:
    torch.manual_seed(0)
    config = dict(type="pld_mmdet.SSLD", student=NET, teachers=[NET])
    return MODELS.build(config | changes)


def batch(n: int = 6) -> dict:
    generator = torch.Generator().manual_seed(1)
    x = torch.rand(n, 1, 8, 8, generator=generator)
    return dict(inputs=x, targets=torch.arange(n) % 3)


@pytest.mark.parametrize(
    ("p_s", "p_t", "expected"),
    [
        (
            (0.7, 0.2, 0.1),
            (0.5, 0.3, 0.2),
            dict(sym_kl=0.0885778, js=0.0219012, ce=1.1216859),
        ),
        ((0.6, 0.3, 0.1), (0.2, 0.5, 0.3), dict(sym_kl=0.380666, js=0.091121)),
    ],
)
def test_distances_by_hand(p_s, p_t, expected):
    z_s, z_t = (torch.tensor([p, p]).log() for p in (p_s, p_t))
    for name, value in expected.items():
        assert DISTANCES[name](z_s, z_t).item() == pytest.approx(value, abs=1e-6)


def test_it_is_symmetric_and_blind_to_a_constant():
    z_s, z_t = 2 * torch.randn(5, 4), torch.randn(5, 4)
    one, other = symmetric_kl(z_s, z_t), symmetric_kl(z_t, z_s)
    assert one.item() == pytest.approx(other.item(), rel=1e-5)
    assert symmetric_kl(z_s, z_s + 3).item() == pytest.approx(0.0, abs=1e-6)
    assert symmetric_kl(z_s[:0], z_t[:0]).item() == 0
    with pytest.raises(UserError):
        symmetric_kl(z_s, z_t[:4])


def test_no_label_enters():
    data, model = batch(), build()
    found = model.loss(**data)["loss_kd"]
    other = model.loss(data["inputs"], targets=data["targets"].flip(0))["loss_kd"]
    assert torch.equal(found, other)
    model.enter_stage("finetune")
    assert torch.equal(found, model.loss(**data)["loss_kd"])


@pytest.mark.parametrize("statistics", ["batch", "running"])
def test_the_teacher_normalises_as_it_is_told_and_nothing_moves(statistics):
    model, data = build(teacher_statistics=statistics), batch()
    model.train()
    before = {k: v.clone() for k, v in model.teachers.state_dict().items()}
    found = model.loss(**data)["loss_kd"]
    found.backward()
    after = model.teachers.state_dict()
    assert all(torch.equal(after[name], before[name]) for name in before)
    assert all(p.grad is None for p in model.teachers.parameters())
    assert all(p.grad is not None for p in model.student.parameters())
    teacher = model.teachers[0].train(statistics == "batch")
    z_t = teacher(data["inputs"]).detach()
    expected = symmetric_kl(model.student(data["inputs"]), z_t)
    assert found.item() == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize("name", list(DISTANCES))
def test_a_named_distance_is_taken_from_student_to_teacher(name):
    model, x = build(distance=name, teacher_statistics="running").eval(), batch()
    z_s, z_t = (net(x["inputs"]) for net in (model.student, model.teachers[0]))
    wanted = DISTANCES[name](3 * z_s, z_t).item()
    model.student.register_forward_hook(lambda _, args, z: 3 * z)
    assert model.loss(**x)["loss_kd"].item() == pytest.approx(wanted, rel=1e-5)


def test_what_does_not_fit_is_said():
    with pytest.raises(UserError, match="is not known"):
        build(distance="l2")
    with pytest.raises(UserError, match="one teacher"):
        build(teachers=[NET, NET])
