"""MEAL V2: worked numbers, the discriminator's two forms, who learns."""

import math

import pytest
import torch

from pld_mmdet.classification.meal_v2 import MEALV2, Discriminator, discriminator_loss
from pld_mmdet.distill.divergences import kl
from pld_mmdet.distill.losses import entropy
from pld_mmdet.errors import UserError
from pld_mmdet.registry import MODELS
from pld_mmdet.shared.taught import mean_probabilities

NET = dict(type="pld_mmdet.MLP", sizes=(4, 3))


def build(**changes) -> MEALV2:
    torch.manual_seed(0)
    config = dict(
        type="pld_mmdet.MEALV2", student=NET, teachers=[NET, NET], num_classes=3
    )
    return MODELS.build(config | changes)


def batch(n: int = 6) -> dict:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(n, 4, generator=generator)
    return dict(inputs=x, targets=torch.arange(n) % 3)


def test_the_mean_of_probabilities_by_hand():
    """Both cases; the softmax of the mean logits would be another one."""
    one = [torch.tensor([[4.0, 0, 0]]), torch.tensor([[0.0, 1, 0]])]
    found = mean_probabilities(one)[0].tolist()
    assert found == pytest.approx([0.58830, 0.29689, 0.11480], abs=1e-5)
    two = [torch.tensor([[3.0, 1, 0]]), torch.tensor([[0.0, 0, 2]])]
    found = mean_probabilities(two)[0].tolist()
    assert found == pytest.approx([0.475151, 0.110351, 0.414498], abs=1e-6)
    losses = build(discriminator=False).losses(torch.tensor([[1.0, 0, 0]]), two)
    assert set(losses) == {"loss_sim"}
    assert losses["loss_sim"].item() == pytest.approx(1.076294, abs=1e-6)


def test_the_discriminators_loss_by_hand():
    zeros = torch.zeros(3, 2)
    assert discriminator_loss(zeros, zeros).item() == pytest.approx(math.log(2))
    student, teacher = torch.tensor([[2.0, 0.5]]), torch.tensor([[0.25, 1.0]])
    right = [2.0, -0.5, -0.25, 1.0]  # how far each logit points to its target
    expected = sum(math.log1p(math.exp(-z)) for z in right) / 4
    found = discriminator_loss(student, teacher).item()
    assert found == pytest.approx(expected, rel=1e-6)


def test_the_discriminators_shape():
    judge = Discriminator(1000)
    shapes = [tuple(p.shape) for p in judge.parameters() if p.dim() == 2]
    assert shapes == [(125, 1000), (15, 125), (2, 15)]
    assert judge(torch.randn(50, 1000)).min() >= 0


def test_the_discriminator_sees_the_student_and_the_mean_of_logits():
    """A judge that reads columns 0 and 2: (1, 0) of the student, and of (1.5, .5, 1).

    Softplus of -1, 0, 1.5 and -1, by target: .313262, .693147, 1.701413, .313262.
    """

    class Judge(torch.nn.Module):
        def forward(self, z):
            return z[:, ::2]

    z_s = torch.tensor([[1.0, 0, 0]])
    z_t = [torch.tensor([[3.0, 1, 0]]), torch.tensor([[0.0, 0, 2]])]
    for weight in (1.0, 3.0):
        model = build(d_weight=weight)
        model.discriminator = Judge()
        found = model.losses(z_s, z_t)
        assert found["loss_sim"].item() == pytest.approx(1.076294, abs=1e-6)
        assert found["loss_d"].item() == pytest.approx(weight * 0.755271, abs=3e-6)


def test_one_teacher_a_batch_is_drawn_from_all():
    model, data = build(combine="one", discriminator=False), batch()
    z_s, z_t = model.student(data["inputs"]), model.answers(data["inputs"])
    each = {round(model.losses(z_s, [z])["loss_sim"].item(), 5) for z in z_t}
    drawn = {round(model.loss(**data)["loss_sim"].item(), 5) for _ in range(20)}
    assert drawn == each
    assert len(each) == 2


def test_one_teacher_is_a_divergence_and_labels_do_not_enter():
    z_s, z_t = torch.randn(5, 3), torch.randn(5, 3)
    model = build(discriminator=False)
    value = model.losses(z_s, [z_t])["loss_sim"] - entropy(z_t).mean()
    assert value.item() == pytest.approx(kl(z_t, z_s).item(), abs=1e-6)
    data = batch()
    found = model.loss(**data)["loss_sim"]
    other = model.loss(data["inputs"], targets=data["targets"].flip(0))
    assert torch.equal(found, other["loss_sim"])


def test_adversarial_turns_the_students_gradient_only():
    z_s = torch.randn(5, 3)
    grads = []
    for adversarial in (False, True):
        model = build(adversarial=adversarial)
        z = z_s.clone().requires_grad_(True)
        for p in model.discriminator.parameters():
            torch.nn.init.constant_(p, 0.3)
        loss = model.losses(z, [z_s.flip(0)])["loss_d"]
        loss.backward()
        grads.append((z.grad, model.discriminator[0].weight.grad))
    assert grads[0][0].any()
    assert torch.allclose(grads[0][0], -grads[1][0])
    assert torch.allclose(grads[0][1], grads[1][1])


def test_who_learns_in_which_stage():
    model, data = build(), batch()
    model.train()
    sum(model.loss(**data).values()).backward()
    assert all(p.grad is None for p in model.teachers.parameters())
    assert all(p.grad is not None for p in model.student.parameters())
    assert all(p.grad is not None for p in model.discriminator.parameters())
    assert model.student.training
    assert model.discriminator.training
    assert not model.teachers.training
    assert not model.eval().student.training
    model.train().enter_stage("student")
    assert set(model.loss(**data)) == {"loss_ce"}
    assert not any(p.requires_grad for p in model.discriminator.parameters())
    model.enter_stage("teacher")
    assert set(model.loss(**data)) == {"loss_teacher_0", "loss_teacher_1"}


def test_mixed_images_reach_the_teachers_too():
    net = dict(type="pld_mmdet.SmallConvNet", widths=(3,), num_classes=3)
    model = build(student=net, teachers=[net], mixed=True, discriminator=False)
    seen = []
    for part in (model.student, model.teachers[0]):
        part.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    x = torch.rand(6, 1, 8, 8)
    for _ in range(9):  # a box may be empty, not nine times
        model.loss(x)
    assert all(map(torch.equal, seen[::2], seen[1::2]))
    assert not all(torch.equal(found, x) for found in seen)


def test_what_does_not_fit_is_said():
    with pytest.raises(UserError, match="is not known"):
        build(combine="all")
    with pytest.raises(UserError, match="no teacher"):
        build(teachers=[])
