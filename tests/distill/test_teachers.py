"""Teachers stay in evaluation mode, get no gradient, and travel in the checkpoint."""

import torch
from torch import nn

from pld_mmdet.distill.teachers import Averaged, Frozen


def network():
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.5))


def test_train_does_not_reach_a_teacher():
    model = nn.ModuleDict({"student": network(), "teacher": Frozen(network())})
    model.train()
    assert model["student"].training
    assert not any(m.training for m in model["teacher"].modules())
    before = {k: v.clone() for k, v in model["teacher"].state_dict().items()}
    model["teacher"](torch.randn(5, 3))
    after = model["teacher"].state_dict()
    assert all(torch.equal(after[k], before[k]) for k in before)


def test_gradients_pass_through_to_the_input_only():
    teacher = Frozen(nn.Linear(3, 1))
    x = torch.ones(2, 3, requires_grad=True)
    teacher(x).sum().backward()
    torch.testing.assert_close(x.grad, teacher.network.weight.expand(2, 3))
    assert teacher.network.weight.grad is None


def test_an_averaged_teacher_is_a_copy():
    student = nn.Linear(3, 1)
    teacher = Averaged(student)
    assert torch.equal(teacher.network.weight, student.weight)
    assert student.weight.requires_grad
    with torch.no_grad():
        student.weight.add_(1)
    assert not torch.equal(teacher.network.weight, student.weight)
