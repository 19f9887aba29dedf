"""Self-distillation theory: the published series, closed form, limits, both models."""

import math

import pytest
import torch
from mmengine.config import Config
from torch.nn import functional as F

from pld_mmdet.catalogue import ROOT
from pld_mmdet.classification import self_distillation_theory as theory
from pld_mmdet.errors import UserError
from pld_mmdet.registry import MODELS

LAM, GAMMA = 0.2, 80.0


def sine_errors(alpha: float, steps: int = 6) -> list[float]:
    """Squared error to the true sine at 101 points after each step."""
    x, y = theory.noisy_sine()
    asked = torch.arange(101, dtype=torch.float64)[:, None] / 100
    kernel = theory.rbf(x, x, GAMMA)
    now, errors = y, []
    for _ in range(steps):
        dual = theory.distilled(kernel, y, now, LAM, alpha)
        now = kernel @ dual
        found = theory.rbf(asked, x, GAMMA) @ dual
        gap = found - (2 * math.pi * asked).sin()
        errors.append(gap.square().mean().item())
    return errors


@pytest.mark.parametrize(
    ("alpha", "expected"),
    [
        (0.0, [0.16477, 0.15076, 0.14915, 0.15561, 0.16735, 0.18251]),
        (0.25, [0.16477, 0.15309, 0.14958, 0.14903, 0.14946, 0.15011]),
        (0.35, [0.16477, 0.15424, 0.15089, 0.14983, 0.14954, 0.14948]),
    ],
)
def test_the_series_of_the_authors_notebook(alpha, expected):
    assert sine_errors(alpha) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(("alpha", "limit"), [(0.25, 0.15250), (0.35, 0.14959)])
def test_many_steps_are_a_ridge_of_lam_over_alpha(alpha, limit):
    assert sine_errors(alpha, 200)[-1] == pytest.approx(limit, abs=1e-5)
    x, y = theory.noisy_sine()
    kernel = theory.rbf(x, x, GAMMA)
    many = theory.fit(kernel, y, LAM, [alpha] * 200)[-1]
    one = theory.fit(kernel, y, LAM / alpha, [1.0])[0]
    assert torch.allclose(many, one, atol=1e-12)


def test_factors_by_hand():
    """d = 4, lam = 1: a = .8; and d = lam = 1 at alpha = .5."""
    found = theory.spectrum(torch.tensor([4.0], dtype=torch.float64), 1.0, [0.3] * 5)
    expected = [0.8, 0.688, 0.62528, 0.590157, 0.570488]
    assert torch.cat(found).tolist() == pytest.approx(expected, abs=1e-6)
    even = theory.spectrum(torch.ones(1, dtype=torch.float64), 1.0, [0.5] * 4)
    assert torch.cat(even).tolist() == [0.5, 0.375, 0.34375, 0.3359375]
    last = theory.spectrum(torch.tensor([4.0]), 1.0, [0.3] * 90)[-1].item()
    assert last == pytest.approx(4 / (4 + 1 / 0.3), abs=1e-6)  # .545455


def test_steps_are_the_factors_in_the_eigenbasis():
    """With another alpha in each step; alpha = 0 are powers."""
    x, y = theory.noisy_sine()
    kernel = theory.rbf(x, x, GAMMA)
    alphas = [0.9, 0.2, 0.0, 0.7]
    values, vectors = torch.linalg.eigh(kernel)
    factors = theory.spectrum(values, LAM, alphas)
    for found, factor in zip(theory.fit(kernel, y, LAM, alphas), factors, strict=True):
        closed = vectors @ (factor[:, None] * (vectors.T @ y))
        assert torch.allclose(found, closed, atol=1e-12)
    a = values / (values + LAM)
    assert torch.allclose(theory.spectrum(values, LAM, [0.0] * 3)[-1], a**3)
    assert theory.fit(kernel, y, LAM, []) == []


def test_fit_keeps_the_type_and_takes_whole_numbers():
    kernel = torch.tensor([[2.0, 0.5], [0.5, 1.0]])
    labels = torch.tensor([[1, 0], [0, 1]])
    exact = theory.fit(kernel, labels, 0.5, [1.0])[0]
    # (K + I/2)^-1 = ((1.5, -.5), (-.5, 2.5)) / 3.5
    expected = torch.tensor([[2.75, 0.25], [0.25, 2.25]], dtype=torch.float64) / 3.5
    assert exact.dtype == torch.float64
    assert torch.allclose(exact, expected)
    assert theory.fit(kernel, labels.float(), 0.5, [1.0])[0].dtype == torch.float32


def test_the_best_alpha_is_that_of_a_grid():
    generator = torch.Generator().manual_seed(3)
    truth, first, pure = torch.randn(3, 9, 2, generator=generator)
    truth = truth + 2 * first
    found = theory.best_alpha(truth, first, pure)
    grid = torch.linspace(0, 1, 2001)[:, None, None]
    errors = (truth - grid * first - (1 - grid) * pure).square().sum((1, 2))
    assert found == pytest.approx(grid[errors.argmin()].item(), abs=1e-3)
    # sin's second step: -.622 before it is cut, pure distillation
    x, y = theory.noisy_sine()
    asked = torch.arange(101, dtype=torch.float64)[:, None] / 100
    kernel, seen = theory.rbf(x, x, GAMMA), theory.rbf(asked, x, GAMMA)
    first = theory.distilled(kernel, y, y, LAM, 1.0)
    second = theory.distilled(kernel, y, kernel @ first, LAM, 0.0)
    sine = (2 * math.pi * asked).sin()
    assert theory.best_alpha(sine, seen @ first, seen @ second) == 0.0
    assert theory.best_alpha(sine, sine, sine) == 1.0


def test_the_model_repeats_the_function():
    cfg = Config.fromfile(ROOT / "configs/self_distillation_theory/toy.py").model
    cfg.support.labelled, cfg.lam, cfg.alpha = 3, 0.7, 0.3
    model = MODELS.build(cfg)
    for _ in range(3):
        losses = model.loss()
    kernel = theory.rbf(model.points, model.points, cfg.gamma)
    expected = theory.fit(kernel, model.truth, 0.7, [0.3] * 3)[-1]
    inputs = model.points.view(-1, 1, 8, 8)
    assert torch.allclose(model(inputs=inputs), expected.float(), atol=1e-6)
    error = (expected - model.truth).square().mean().item()
    assert losses["loss"].item() == pytest.approx(error, rel=1e-5)


def chain(**changes):
    student = dict(type="pld_mmdet.MLP", sizes=(4, 3))
    torch.manual_seed(0)
    return MODELS.build(
        dict(type="pld_mmdet.SelfDistillationChain", student=student, **changes)
    )


def test_the_chain_by_hand_and_where_it_stops():
    """Squared errors of probabilities over B C, the teacher a constant."""
    model, x = chain(alpha=0.25), torch.randn(6, 4)
    y = torch.arange(6) % 3
    p = model.student(x).softmax(1)
    truth = (p - F.one_hot(y, 3)).square().sum().item() / 18
    first = model.loss(inputs=x, targets=y)
    assert set(first) == {"loss_truth"}
    assert first["loss_truth"].item() == pytest.approx(truth, rel=1e-5)
    before = {k: v.clone() for k, v in model.student.state_dict().items()}
    model.start_stage("fit_2", None, None)
    model.progress.stage = "fit_2"
    for name, value in model.teacher.network.state_dict().items():
        assert torch.equal(value, before[name])
    assert not torch.equal(model.student[1].weight, model.teacher.network[1].weight)
    p, p_t = model.student(x).softmax(1), model.teacher(x).softmax(1)
    later = model.loss(inputs=x, targets=y)
    expected = (p - p_t).square().sum().item() / 18 * 0.75
    assert later["loss_teacher"].item() == pytest.approx(expected, rel=1e-5)
    truth = (p - F.one_hot(y, 3)).square().sum().item() / 18 * 0.25
    assert later["loss_truth"].item() == pytest.approx(truth, rel=1e-5)
    sum(later.values()).backward()
    assert all(v.grad is None for v in model.teacher.parameters())
    assert all(v.grad is not None for v in model.student.parameters())


def test_every_step_has_a_student_of_its_own_whatever_the_seed():
    weights = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        model = MODELS.build(
            dict(type="pld_mmdet.SelfDistillationChain",
                 student=dict(type="pld_mmdet.MLP", sizes=(4, 3)))
        )  # fmt: skip
        first = model.student[1].weight.clone()
        model.start_stage("fit_1", None, None)
        assert torch.equal(model.student[1].weight, first)
        for stage in ("fit_2", "fit_3", "fit_12"):
            model.start_stage(stage, None, None)
            weights.append(model.student[1].weight.clone())
    assert all(map(torch.equal, weights[:3], weights[3:]))
    assert not torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_the_best_alpha_is_cut_at_one():
    """The truth lies three times as far from g as f_1 does."""
    pure, first = torch.tensor([[1.0, -2.0]]), torch.tensor([[2.0, 0.5]])
    assert theory.best_alpha(pure + 3 * (first - pure), first, pure) == 1.0
    part = theory.best_alpha(pure + 0.3 * (first - pure), first, pure)
    assert part == pytest.approx(0.3, abs=1e-6)


def test_what_does_not_fit_is_said():
    kernel, y = torch.eye(3), torch.ones(3, 2)
    with pytest.raises(UserError, match=r"alpha=1\.5"):
        theory.fit(kernel, y, 0.1, [0.2, 1.5])
    with pytest.raises(UserError, match="lam"):
        theory.fit(kernel, y, 0.0, [0.2])
    with pytest.raises(UserError, match="a kernel"):
        theory.fit(kernel, y[:2], 0.1, [0.2])
    with pytest.raises(UserError, match="alpha=-1"):
        chain(alpha=-1)
    cfg = Config.fromfile(ROOT / "configs/self_distillation_theory/toy.py").model
    cfg.num_classes = 7
    with pytest.raises(UserError, match="for 7 classes"):
        MODELS.build(cfg)


def test_the_published_setting_builds_and_steps():
    cfg = Config.fromfile(ROOT / "configs/self_distillation_theory/paper.py")
    model = MODELS.build(cfg.model)
    model.progress.stage = cfg.train_cfg.stages[-1].name
    found = model.loss(inputs=torch.rand(2, 3, 32, 32), targets=torch.tensor([3, 8]))
    assert all(torch.isfinite(loss) for loss in found.values())
    assert len(found) == 2
