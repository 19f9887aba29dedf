"""iCT: grids, laws and weights by hand, where gradients stop, its two samplers."""

import copy

import pytest
import torch
from torch import nn

from pld_mmdet.diffusion.ict import (
    discretisation,
    karras_levels,
    level_probabilities,
    loss_weights,
)
from pld_mmdet.diffusion.processes.levels import CosineProcess, consistency, ddim_step
from pld_mmdet.engine.optim.finite import FiniteOptimWrapper
from pld_mmdet.engine.run.progress import Progress
from pld_mmdet.errors import UserError
from pld_mmdet.registry import MODELS

MLP = dict(type="pld_mmdet.TimeMLP", dim=2, width=16, depth=2)


def build(**changes):
    torch.manual_seed(0)
    model = MODELS.build(dict(type="pld_mmdet.ICT", network=MLP, s0=4, **changes))
    model.progress = Progress(step=3, steps=100)
    return model


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        (0, 11),
        (49_999, 11),
        (50_000, 21),
        (349_999, 641),
        (350_000, 1281),
        (10**9, 1281),
    ],
)
def test_the_curriculum(step, expected):
    assert discretisation(step, 400_000) == expected


def test_a_curriculum_whose_ratio_is_no_power_of_two():
    # log2(floor(25 / 3)) = 3, K' = 25; 3, 6, 12, 24, then the cap
    found = [discretisation(k, 100, 3, 25) for k in (0, 25, 50, 75, 99, 100)]
    assert found == [4, 7, 13, 25, 25, 26]
    assert discretisation(0, 1, 10, 1280) == 11  # shorter than its parts
    with pytest.raises(UserError, match="s0=9, s1=4"):
        discretisation(0, 10, 9, 4)


def test_the_grid():
    expected = [0.00200, 0.01672, 0.08509, 0.31828, 0.96542, 2.51522]
    expected += [5.83895, 12.38158, 24.40834, 45.31373, 80.0]
    assert karras_levels(11).tolist() == pytest.approx(expected, rel=1e-3)
    fine = karras_levels(21)
    assert fine[9:11].tolist() == pytest.approx([1.583984, 2.515219], rel=1e-5)
    assert (fine.diff() > 0).all()
    with pytest.raises(UserError, match="n=1"):
        karras_levels(1)


def test_the_law_of_the_intervals():
    law = level_probabilities(karras_levels(11))
    expected = [0.06263, 0.18174, 0.24550, 0.21349, 0.14245]
    expected += [0.08060, 0.04108, 0.01958, 0.00894, 0.00398]
    assert law.tolist() == pytest.approx(expected, abs=2e-5)
    assert law.sum().item() == pytest.approx(1, abs=1e-6)
    # more mass where the law's mean is
    left = level_probabilities(karras_levels(11), mean=-4.0)
    assert left[0] > law[0]


def test_the_weights():
    weights = loss_weights(karras_levels(11))
    assert weights[0].item() == pytest.approx(67.931, rel=1e-3)
    assert weights[-1].item() == pytest.approx(0.02883, rel=1e-3)
    assert loss_weights(karras_levels(21))[9].item() == pytest.approx(1.073842, 1e-5)


def test_the_consistency_function():
    seen = []

    class Net(nn.Module):
        def forward(self, x, time, condition):
            seen.append((x, time))
            return torch.full_like(x, 3.0)

    x = torch.tensor([[2.0, -1.0]] * 3)
    sigma = torch.tensor([0.002, 0.5, 80.0])
    y = consistency(Net(), x, sigma, None)
    assert torch.equal(y[0], x[0])
    assert y[1, 0].item() == pytest.approx(0.50200 * 2 + 0.35214 * 3, abs=1e-4)
    assert y[2, 1].item() == pytest.approx(-3.906e-5 + 0.49998 * 3, abs=1e-4)
    assert seen[0][0][1].tolist() == pytest.approx([2 * 1.41421, -1.41421], abs=1e-4)
    assert seen[0][1].tolist() == pytest.approx((sigma.log() / 4).tolist())


def test_the_distance_of_a_sample_and_of_its_elements():
    difference = torch.tensor([[1.0, -2.0, 2.0]])
    whole = build(c=0.05)._between(difference)
    assert whole.tolist() == pytest.approx([2.950417], abs=1e-6)
    parts = build(c=0.05, distance="element")._between(difference)
    assert parts.tolist() == pytest.approx([1.6175], abs=1e-4)
    assert build(distance="l2")._between(difference).tolist() == [3.0]
    # c of its own: 0.00054 sqrt(3)
    c = 0.00054 * 3**0.5
    own = build()._between(difference).item()
    assert own == pytest.approx((9 + c * c) ** 0.5 - c, abs=1e-6)


def test_student_stands_at_the_higher_level_and_the_target_gets_no_gradient():
    model = build()
    calls = []
    original = model.f

    def f(network, x, sigma):
        calls.append((torch.is_grad_enabled(), network, x, sigma))
        return original(network, x, sigma)

    model.f = f
    data = torch.randn(32, 2)
    loss = model.loss(data)["loss_consistency"]
    (grad_1, target, x_1, low), (grad_2, student, x_2, high) = calls
    assert (grad_1, grad_2) == (False, True)
    assert target is student is model.student
    assert (high > low).all()
    # one noise for both levels
    noise = (x_1 - data) / low[:, None]
    torch.testing.assert_close((x_2 - data) / high[:, None], noise, atol=5e-2, rtol=0)
    loss.backward()
    mine = [p.grad.clone() for p in model.student.parameters()]
    assert all(p.grad is None for p in model.teacher.parameters())
    # the same gradient with the target from a frozen copy
    frozen, other = copy.deepcopy(model.student), build()
    high_, low_ = calls[1][3], calls[0][3]
    guess = original(other.student, x_2, high_)
    with torch.no_grad():
        goal = original(frozen, x_1, low_)
    levels = karras_levels(other.intervals() + 1)
    weight = 1 / (high_ - low_)
    assert other.intervals() == 4
    assert set(low_.tolist()) <= set(levels.tolist())
    (weight * other._between(guess - goal)).mean().backward()
    theirs = [p.grad for p in other.student.parameters()]
    for a, b in zip(mine, theirs, strict=True):
        torch.testing.assert_close(a, b)


def test_both_passes_share_the_dropout_mask():
    masks = []

    class Drop(nn.Module):
        def forward(self, x, time, condition):
            masks.append(nn.functional.dropout(torch.ones_like(x), 0.3, training=True))
            return masks[-1]

    model = build()
    model.student = Drop()
    model.loss(torch.zeros(64, 2))
    model.loss(torch.zeros(64, 2))
    target, guess, next_target, _ = masks
    assert torch.equal(target, guess)
    assert not torch.equal(target, next_target)  # the next step draws anew


def test_the_slow_target_of_released_training_moves_after_the_step():
    model = build(target="ema", mu0=0.9)
    before = copy.deepcopy(model.slow.network.state_dict())
    wrapper = FiniteOptimWrapper(torch.optim.SGD(model.student.parameters(), lr=0.5))
    model.train_step(dict(inputs=torch.randn(16, 2)), wrapper)
    keep = 0.9 ** (4 / 5)  # s0 = 4 intervals, N = 5
    for name, value in model.slow.network.state_dict().items():
        expected = keep * before[name] + (1 - keep) * model.student.state_dict()[name]
        torch.testing.assert_close(value, expected)
    assert build().slow is None


def test_sampling_repeats_itself_and_two_steps_are_another_answer():
    model = build()
    data, index = torch.zeros(6, 2), torch.arange(6)
    one = model.predict(data, index)[0]["samples"]
    assert torch.equal(one, model.predict(data, index)[0]["samples"])
    assert not torch.equal(one, model.predict(data, index + 1)[0]["samples"])
    model.steps = 2
    two = model.predict(data, index)[0]["samples"]
    assert not torch.equal(one, two)
    with pytest.raises(UserError, match="steps=3"):
        build(steps=3)
    with pytest.raises(UserError, match="distance='l1'"):
        build(distance="l1")


@pytest.mark.parametrize("law", ["lognormal", "uniform"])
@pytest.mark.parametrize("weighting", ["inverse", "uniform"])
def test_law_and_weighting_are_separate_switches(monkeypatch, law, weighting):
    """Distances 2 and 5 in intervals 3 and 0 of a grid of its own."""
    model = build(law=law, weighting=weighting, sigma_min=0.01, sigma_max=5.0)
    asked = []
    monkeypatch.setattr(
        torch,
        "multinomial",
        lambda p, *_, **__: asked.append(p) or torch.tensor([3, 0]),
    )
    model._between = lambda difference: torch.tensor([2.0, 5.0])
    found = model.loss(torch.zeros(2, 2))["loss_consistency"].item()
    levels = karras_levels(5, 0.01, 5.0)
    plain = [1, 1, 1, 1]
    lognormal = level_probabilities(levels).tolist()
    assert asked[0].tolist() == pytest.approx(
        lognormal if law == "lognormal" else plain
    )
    gaps = levels.diff().tolist() if weighting == "inverse" else plain
    assert found == pytest.approx((2 / gaps[3] + 5 / gaps[0]) / 2, rel=1e-5)


def test_the_end_point_has_the_models_own_constants():
    """sigma_min .5, sigma_data 2, level 1.5: 4 / 5 of x and 2 / 2.5 of F = 3."""
    model = build(sigma_min=0.5, sigma_data=2.0)
    found = model.f(
        lambda x, *_: x * 0 + 3, torch.full((1, 2), 2.0), torch.tensor([1.5])
    )
    assert found.tolist() == [pytest.approx([0.8 * 2 + 0.8 * 3] * 2)]


def test_the_slow_target_answers():
    model, asked = build(target="ema"), []
    model.f = lambda network, x, sigma: asked.append(network) or network(x, sigma, None)
    model.loss(torch.zeros(3, 2))
    assert asked[0] is model.slow
    assert asked[1] is model.student


@pytest.mark.parametrize(("who", "factor"), [("teacher", 2), ("student", 3)])
def test_samples_by_hand(who, factor):
    """sigma_max 10, then tau .5 above sigma_min .3: noise of .4 is added."""
    model = build(predict_on=who, sigma_min=0.3, sigma_max=10.0, tau=0.5)
    model.f = lambda network, x, sigma: (
        (2 if network is model.teacher else 3) * x + sigma[:, None]
    )
    dice = torch.Generator().manual_seed(7)
    first, second = (torch.randn(4, 2, generator=dice) for _ in range(2))
    one = factor * 10 * first + 10
    inputs, index = torch.zeros(4, 2), torch.arange(7, 11)
    torch.testing.assert_close(model.predict(inputs, index)[0]["samples"], one)
    model.steps = 2
    two = factor * (one + 0.4 * second) + 0.5
    torch.testing.assert_close(model.predict(inputs, index)[0]["samples"], two)


class TestCosineProcess:
    def test_hand_numbers(self):
        # a = .8, s = .6: z = .8 x .5 + .6 x -1, v = a eps - s x0
        t = torch.tensor([torch.asin(torch.tensor(0.6)) * 2 / torch.pi])
        x0, eps = torch.tensor([[0.5]]), torch.tensor([[-1.0]])
        process = CosineProcess("v")
        z = process.add_noise(x0, t, eps)
        assert z.item() == pytest.approx(-0.2, abs=1e-6)
        v = process.target(x0, t, eps)
        assert v.item() == pytest.approx(-1.1, abs=1e-6)
        for kind in ("v", "x0", "eps"):
            process = CosineProcess(kind)
            back = process.both(process.target(x0, t, eps), z, t)
            assert back[0].item() == pytest.approx(0.5, abs=1e-6)
            assert back[1].item() == pytest.approx(-1.0, abs=1e-6)

    def test_a_ddim_step(self):
        x0, eps = torch.tensor([[1.0], [2.0]]), torch.tensor([[3.0], [-1.0]])
        assert ddim_step(x0, eps, 0.9, 0.2).flatten().tolist() == pytest.approx(
            [1.5, 1.6]
        )
        one_each = ddim_step(x0, eps, torch.tensor([1.0, 0.5]), torch.tensor([0.0, 2]))
        assert one_each.flatten().tolist() == pytest.approx([1.0, -1.0])

    def test_it_samples_as_diffusers_does(self):
        """On a network that is linear in x, at the times of our grid."""
        from diffusers import DDIMScheduler

        process, steps = CosineProcess("eps", last=0.96), 6
        times = torch.linspace(0.96, 0, steps + 1)
        kept = process.alpha(times).square().flip(0)  # ascending noise
        betas = 1 - kept / torch.cat([torch.ones(1), kept[:-1]])
        scheduler = DDIMScheduler(
            num_train_timesteps=steps + 1,
            trained_betas=betas.clamp(0, 0.9999).numpy(),
            clip_sample=False,
            set_alpha_to_one=True,
        )

        def network(x, time, condition):
            return 0.3 * x + 0.1

        x = torch.randn(5, 2, generator=torch.Generator().manual_seed(0))
        ours = process.sample(network, x, steps)
        theirs = x
        for level in range(steps, 0, -1):
            now, following = scheduler.alphas_cumprod[[level, level - 1]]
            eps = network(theirs, None, None)
            x0 = (theirs - (1 - now).sqrt() * eps) / now.sqrt()
            theirs = following.sqrt() * x0 + (1 - following).sqrt() * eps
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)
        scheduler.set_timesteps(steps + 1)
        stepped = x
        for level in range(steps, 0, -1):
            eps = network(stepped, None, None)
            stepped = scheduler.step(eps, level, stepped).prev_sample
        torch.testing.assert_close(ours, stepped, atol=1e-4, rtol=1e-4)

    def test_bad_words(self):
        with pytest.raises(UserError, match="predicts='score'"):
            CosineProcess("score")
