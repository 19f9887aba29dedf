"""SimCLRv2: worked numbers, what each stage trains, what the teacher is."""

import math

import pytest
import torch
from torch.nn import functional as F

from pld_mmdet.distill.contrastive import nt_xent
from pld_mmdet.errors import UserError
from pld_mmdet.registry import MODELS
from pld_mmdet.shared.views import blurred, contrasted

NET = dict(type="pld_mmdet.SmallConvNet", widths=(4, 6))


def build(**changes):
    torch.manual_seed(0)
    config = dict(
        type="pld_mmdet.SimCLRv2",
        student=dict(type="pld_mmdet.MLP", sizes=(64, 9, 5)),
        teacher=NET,
        num_classes=5,
        outputs=7,
        view="digits",
    )
    return MODELS.build(config | changes)


def images(count: int = 6) -> torch.Tensor:
    return torch.rand(count, 1, 8, 8, generator=torch.Generator().manual_seed(1))


def test_the_contrast_by_hand():
    """The page's orthogonal pairs and the addendum's skew ones: sums of directions."""
    same = torch.eye(2)
    assert nt_xent(same, same, 0.1).item() == pytest.approx(1.81592e-4, rel=1e-3)
    assert nt_xent(same, same, 0.5).item() == pytest.approx(2 * 0.2395448, rel=1e-5)
    a, b = torch.tensor([[1.0, 0], [1, 1]]), torch.tensor([[1, 0.5], [0, 1.0]])
    assert nt_xent(a, b, 0.5).item() == pytest.approx(1.719348, abs=1e-5)
    assert nt_xent(a, b, 0.1).item() == pytest.approx(1.900299, abs=1e-5)


def test_pretraining_is_the_sum_of_both_directions():
    """The addendum's pairs as the head's answers: 1.719348 at .5."""
    model = build(temperature=0.5)
    model.enter_stage("pretrain")
    model.head.forward = lambda h: torch.tensor([[1.0, 0], [1, 1], [1, 0.5], [0, 1]])
    found = model.loss(inputs=images(2))["loss"]
    assert found.item() == pytest.approx(1.719348, abs=1e-5)


def test_the_heads_layers():
    linear, norm, relu = torch.nn.Linear, torch.nn.BatchNorm1d, torch.nn.ReLU
    kinds = [linear, norm, relu, linear, norm, relu, linear, norm]
    layers = build().head.layers
    assert [type(layer) for layer in layers] == kinds
    assert [layers[i].weight.shape for i in (0, 3, 6)] == [(6, 6), (6, 6), (7, 6)]
    assert all(layers[i].bias is None for i in (0, 3, 6, 7))


@pytest.mark.parametrize(
    ("stage", "calls", "networks"),
    [
        ("pretrain", ["contrast", "contrast"], ["encoder"]),
        ("finetune", ["easy"], ["encoder"]),
        ("student", ["easy"], ["student"]),
        ("distill", ["easy"], ["encoder", "student"]),
    ],
)
def test_views_of_a_stage(stage, calls, networks):
    """What was asked for a view, and that all networks see that one."""
    model, asked, seen = build(), [], {}
    model.enter_stage(stage)

    def view(name):
        return lambda x: asked.append(name) or x + len(asked)

    model.contrast, model.easy = view("contrast"), view("easy")
    model.student.register_forward_pre_hook(
        lambda _, args: seen.update(student=args[0])
    )
    model.encoder.backbone.register_forward_pre_hook(
        lambda _, args: seen.update(encoder=args[0])
    )
    model.loss(inputs=images(), targets=torch.arange(6) % 5)
    assert asked == calls
    assert sorted(seen) == networks
    expected = torch.cat([images() + 1 + i for i in range(len(calls))])
    assert all(torch.equal(found, expected) for found in seen.values())


def test_fine_tuning_keeps_the_heads_first_layer_only():
    for from_layer in (0, 1):
        model = build(from_layer=from_layer)
        model.train().enter_stage("finetune")
        first, rest = model.head.layers[:3], model.head.layers[3:]
        assert all(p.requires_grad == bool(from_layer) for p in first.parameters())
        assert first[1].training == bool(from_layer)
        assert not any(p.requires_grad for p in rest.parameters())


def test_the_named_network_answers():
    x = images()
    for who in ("student", "teacher"):
        model = build(predict_on=who).eval()
        model.classifier.weight.data.normal_()
        assert torch.equal(model(mode="tensor", inputs=x), getattr(model, who)(x))


def test_fine_tuning_starts_after_the_heads_first_layer_with_ln_c():
    model = build().eval()
    x, y = images(), torch.tensor([0, 3, 4, 1, 1, 2])
    h = model.encoder.features(x)
    layers = model.head.layers
    assert torch.equal(model.head.first(h), layers[2](layers[1](layers[0](h))))
    model.enter_stage("finetune")
    assert model.loss(inputs=x, targets=y)["loss"].item() == pytest.approx(math.log(5))
    model.classifier.weight.data.normal_()
    expected = model.classifier(model.eval().head.first(model.encoder.features(x)))
    assert torch.allclose(model.teacher(x), expected)
    other = build(from_layer=0).eval()
    other.load_state_dict(model.state_dict())
    assert torch.allclose(other.teacher(x), model.classifier(h))
    assert layers[7].bias is None
    assert not any("bias" in k for k in model.head.state_dict() if "1" not in k[:9]
                   and "4" not in k[:9])  # fmt: skip


@pytest.mark.parametrize(
    ("stage", "parts", "frozen"),
    [
        ("pretrain", ("encoder", "head"), ("classifier", "student")),
        ("finetune", ("encoder", "classifier"), ("student",)),
        ("distill", ("student",), ("encoder", "head", "classifier")),
        ("student", ("student",), ("encoder", "head", "classifier")),
    ],
)
def test_who_learns_in_a_stage(stage, parts, frozen):
    model = build()
    model.classifier.weight.data.normal_()
    model.enter_stage(stage)
    losses = model.loss(inputs=images(), targets=torch.arange(6) % 5)
    sum(losses.values()).backward()
    for name in parts:
        grads = [p.grad for p in getattr(model, name).parameters()]
        assert any(g is not None and g.abs().sum() > 0 for g in grads), name
    for name in frozen:
        assert all(p.grad is None for p in getattr(model, name).parameters()), name
    later = model.head.layers[3:]
    assert all(p.requires_grad == (stage == "pretrain") for p in later.parameters())
    assert later[1].training == (stage == "pretrain")


def test_distillation_by_hand():
    """T = 2: T^2 CE of the softened answers; a mix with the labels that there are."""
    model = build(tau=2.0, alpha=0.75)
    model.enter_stage("distill")
    model.easy = lambda x: x
    z_t, z_s = torch.tensor([[3.0, 1.0, 0.0]]), torch.tensor([[1.0, 0.5, -1.0]])
    model.teacher = lambda x: z_t.expand(len(x), -1)
    model.student.forward = lambda x: z_s.expand(len(x), -1)
    found = model.loss(inputs=images(1), targets=torch.tensor([1]))
    p = (z_t / 2).softmax(1)
    # softmax (1.5, .5, 0) = (.628532, .231224, .140244); log softmax (.5, .25, -.5)
    assert p[0].tolist() == pytest.approx([0.628532, 0.231224, 0.140244], abs=1e-6)
    value = 4 * (0.628532 * 0.763923 + 0.231224 * 1.013923 + 0.140244 * 1.763923)
    assert found["loss_kd"].item() == pytest.approx(0.75 * value, abs=1e-4)
    ce = F.cross_entropy(z_s, torch.tensor([1]))
    assert found["loss_ce"].item() == pytest.approx(0.25 * ce.item(), rel=1e-6)
    one_of_two = model.loss(inputs=images(2), targets=torch.tensor([-1, 1]))
    assert one_of_two["loss_ce"].item() == pytest.approx(0.25 * ce.item(), rel=1e-6)
    unlabelled = model.loss(inputs=images(1), targets=torch.tensor([-1]))
    assert unlabelled["loss_ce"] == 0
    model.alpha = 1.0
    assert list(model.loss(inputs=images(1), targets=torch.tensor([1]))) == ["loss_kd"]


def test_views_stay_images():
    x = torch.rand(5, 3, 20, 16)
    for view in (contrasted, blurred):
        found = view(x)
        assert found.shape == x.shape
        assert -1e-5 <= found.min() <= found.max() <= 1 + 1e-5
        assert view(x[:0]).shape == (0, 3, 20, 16)
    assert torch.equal(blurred(x, share=0.0), x)
    flat = torch.full((2, 3, 9, 9), 0.3)
    assert torch.allclose(blurred(flat, share=1.0), flat)
    point = torch.zeros(1, 1, 9, 9)
    point[0, 0, 4, 4] = 1
    soft = blurred(point, share=1.0, sigma=(0.8, 0.8))[0, 0]
    side = math.exp(-0.5 / 0.64)  # of 3 pixels: 1 / (1 + 2 side) squared in the middle
    assert soft[4, 4].item() == pytest.approx((1 / (1 + 2 * side)) ** 2, rel=1e-5)
    assert soft[4, 5] == soft[3, 4] < soft[4, 4]


def test_what_does_not_fit_is_said():
    for wrong in (dict(alpha=1.5), dict(num_classes=1)):
        with pytest.raises(UserError, match="alpha"):
            build(**wrong)
    for wrong in (dict(view="wild"), dict(from_layer=2), dict(tau=0.0)):
        with pytest.raises(UserError, match="SimCLRv2"):
            build(**wrong)
