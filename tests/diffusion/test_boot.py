"""BOOT: the signal's step by hand and beside DDIM, gradients, its anchor, schedules."""

import itertools
import json
import math

import pytest
import torch
from torch import nn

from pld_mmdet.diffusion.boot import NoiseStarts, signal_step, step_ratio
from pld_mmdet.diffusion.processes.levels import CosineProcess, EDMProcess, ddim_step
from pld_mmdet.diffusion.processes.schedule import ScheduleProcess
from pld_mmdet.engine.optim.finite import FiniteOptimWrapper
from pld_mmdet.engine.run.progress import Progress
from pld_mmdet.errors import UserError
from pld_mmdet.registry import MODELS

MLP = dict(type="pld_mmdet.TimeMLP", dim=2, width=16, depth=2)


def build(taught=True, **changes):
    torch.manual_seed(0)
    settings = dict(
        process=dict(type="pld_mmdet.CosineProcess", predicts="x0"), network=MLP
    )
    settings |= dict(teacher=MLP) if taught else {}
    model = MODELS.build(dict(type="pld_mmdet.BOOT", **settings | changes))
    model.progress = Progress(step=3, steps=100)
    return model


def at(*values):
    return torch.tensor(values)


@pytest.mark.parametrize(
    ("times", "y", "f", "eps", "r", "expected"),
    [
        ((0.5, 0.4), 0.2, 1.0, 0.3, 0.726543, 0.418766),
        ((0.8, 0.7), -0.3, 0.6, 0.5, 0.637691, 0.026078),
    ],
)
def test_a_step_by_hand(times, y, f, eps, r, expected):
    process, (t, s) = CosineProcess(), (at(times[0]), at(times[1]))
    ratio = step_ratio(process, t, s)
    assert ratio.item() == pytest.approx(r, abs=1e-6)
    found = signal_step(at([y]), at([f]), ratio)
    assert found.item() == pytest.approx(expected, abs=1e-6)
    # DDIM says the same in x-space
    a, b = math.cos(math.pi / 2 * times[0]), math.sin(math.pi / 2 * times[0])
    x = a * y + b * eps
    e = (x - a * f) / b
    a, b = process.alpha(s).item(), process.sigma(s).item()
    following = ddim_step(at([f]), at([e]), a, b)
    assert (following.item() - b * eps) / a == pytest.approx(expected, abs=1e-5)
    assert torch.equal(signal_step(at([y]), at([f]), 1.0), at([y]))
    assert signal_step(at([y]), at([y]), ratio).item() == pytest.approx(y)


def says(raw):
    """A network with one answer."""
    return lambda x, t, condition: torch.tensor(raw).expand_as(x)


def test_a_teacher_of_the_noise_is_read_with_the_signal_bounded():
    """At t = .99 a = .0157073, s = .9998766: divided by .1; at .5 by cos(pi / 4)."""
    process = dict(type="pld_mmdet.CosineProcess", predicts="eps")
    model = build(process=process)
    model.teacher.network.forward = says([0.5, -2.0])
    x = torch.tensor([[1.0, -1.0], [3.0, 0.0]])
    found = model.clean(x, at(0.99, 0.5))
    half = math.sqrt(0.5)
    wanted = [
        [(1 - 0.9998766 * 0.5) / 0.1, (-1 + 0.9998766 * 2) / 0.1],
        [(3 - half * 0.5) / half, 2.0],
    ]
    torch.testing.assert_close(found, torch.tensor(wanted), atol=1e-4, rtol=1e-5)
    finer = build(process=process, least_signal=0.5)
    finer.teacher.network.forward = says([0.5, -2.0])
    torch.testing.assert_close(
        finer.clean(x[:1], at(0.99))[0], found[0] / 5, atol=1e-5, rtol=1e-5
    )
    # the student's answer is x0, near the end too, where y would be eps
    model.student.forward = says([0.25, 4.0])
    assert torch.equal(model.signal(x, at(0.01, 0.99)), says([0.25, 4.0])(x, 0, 0))
    assert model.signal(x.bfloat16(), at(0.01, 0.99)).dtype == torch.float32


def test_a_student_of_v_is_read_as_at_the_last_time():
    """y = a eps - s raw with a = .0157073, s = .9998766 at every time."""
    process = dict(type="pld_mmdet.CosineProcess", predicts="v")
    model, eps = build(process=process), torch.tensor([[1.0, -2.0], [0.0, 3.0]])
    model.student.forward = says([0.5, -1.0])
    wanted = [
        [0.0157073 - 0.4999383, -0.0314146 + 0.9998766],
        [-0.4999383, 0.0471219 + 0.9998766],
    ]
    for times in ((0.01, 0.99), (0.5, 0.2)):
        found = model.signal(eps, at(*times))
        torch.testing.assert_close(found, torch.tensor(wanted), atol=1e-6, rtol=1e-5)
    # where it begins as the teacher, it is the teacher at the last time
    model, end = build(process=process), at(0.99, 0.99)
    torch.testing.assert_close(model.signal(eps, end), model.clean(eps, end))


@pytest.mark.parametrize("least", [0.0, 1.0, -0.1])
def test_a_bound_that_bounds_nothing_is_refused(least):
    with pytest.raises(UserError, match=f"least_signal={least} bounds no signal"):
        build(least_signal=least)


def test_a_chain_of_targets_is_ddim():
    process, teacher = CosineProcess("x0"), build().teacher
    torch.manual_seed(1)
    eps, y = torch.randn(2, 16, 2)
    x = ddim_step(y, eps, process.alpha(at(0.9)).item(), process.sigma(at(0.9)).item())
    for now, following in itertools.pairwise(torch.linspace(0.9, 0.1, 9)):
        t, s = now.expand(16), following.expand(16)
        f = process.denoise(teacher, process.add_noise(y, t, eps), t)[0]
        y = signal_step(y, f, step_ratio(process, t, s))
        x0, e = process.denoise(teacher, x, t)
        x = ddim_step(x0, e, process.alpha(s), process.sigma(s))
    torch.testing.assert_close(process.add_noise(y, s, eps), x, atol=1e-5, rtol=1e-5)


def test_the_loss_by_hand():
    model = build(weight=0.5, beta=2.0)
    inputs = torch.zeros(8, 2)
    with torch.no_grad():  # or nothing differs
        model.student.last.bias += torch.tensor([0.3, -0.1])
    torch.manual_seed(4)
    losses = model.loss_distill(inputs)
    torch.manual_seed(4)
    eps = torch.randn_like(inputs)
    t = 0.03 + (0.99 - 0.03) * torch.rand(8)
    total = 0.0
    for k in range(8):
        e, now = eps[k : k + 1], t[k : k + 1]
        s = now - 0.02
        y = model.student(e, now, None)
        x = torch.cos(now * math.pi / 2) * y + torch.sin(now * math.pi / 2) * e
        f = model.teacher(x, now, None)
        r = (torch.tan(s * math.pi / 2) / torch.tan(now * math.pi / 2)).item()
        goal = r * y + (1 - r) * f
        error = (model.student(e, s, None) - goal) / (1 - r)
        total += error.square().mean().item() / 8
    assert losses["loss_bootstrap"].item() == pytest.approx(0.5 * total, rel=1e-3)
    # the anchor: at the last time student and teacher differ by the bias alone
    expected = 2 * (0.3**2 + 0.1**2) / 2
    assert losses["loss_boundary"].item() == pytest.approx(expected, rel=1e-4)


def test_gradients_stop_at_the_target():
    model = build()
    target, length = model.target(torch.randn(4, 2), at(*[0.5] * 4), at(*[0.4] * 4))
    assert not target.requires_grad
    torch.testing.assert_close(length, at(*[1 - 0.726543] * 4))
    model.parse_losses(model.loss_distill(torch.zeros(4, 2)))[0].backward()
    assert all(p.grad is None for p in model.teacher.parameters())
    assert all(p.grad is not None for p in model.student.parameters())


def test_a_constant_teacher_is_learned_at_once():
    model = build()
    for network in (model.student, model.teacher):
        network.forward = lambda x, t, c: torch.full_like(x, 0.7)
    losses = model.loss_distill(torch.zeros(64, 2))
    assert losses["loss_bootstrap"].item() == pytest.approx(0, abs=1e-6)
    assert losses["loss_boundary"].item() == 0


def test_data_are_not_read_and_an_empty_batch_is():
    model = build()
    torch.manual_seed(2)
    first = model.loss_distill(torch.zeros(4, 2))
    torch.manual_seed(2)
    second = model.loss_distill(torch.full((4, 2), 9.0))
    assert first["loss_bootstrap"].item() == second["loss_bootstrap"].item()
    answer = model.predict(torch.zeros(3, 2), torch.arange(3))[0]
    again = model.predict(torch.zeros(3, 2), torch.arange(3))[0]
    assert torch.equal(answer["samples"], again["samples"])
    t, s = torch.zeros(0), torch.zeros(0)
    assert model.target(torch.zeros(0, 2), t, s)[0].shape == (0, 2)


def test_the_linear_case_has_the_exact_map():
    """Data N(0, v): the path ends at sqrt(v) eps. Targets alone lead there."""
    v, process = 0.25, CosineProcess("x0")
    eps, y = at(1.7), at(0.0)
    times = torch.linspace(0.999, 0.001, 2000)
    for t, s in itertools.pairwise(times):
        a, b = process.alpha(t), process.sigma(t)
        f = a * v * (a * y + b * eps) / (a * a * v + b * b)
        y = signal_step(y, f, step_ratio(process, t, s))
    assert y.item() == pytest.approx(math.sqrt(v) * 1.7, rel=5e-3)


def test_stages_make_the_teacher_and_the_rival_stores_pairs():
    model = build(taught=False)
    model.progress = Progress(stage="distill", steps=2)
    with pytest.raises(UserError, match="BOOT has no teacher"):
        model.loss_distill(torch.zeros(4, 2))
    wrapper = FiniteOptimWrapper(torch.optim.SGD(model.student.parameters(), lr=0.1))
    model.progress.reset("teacher")
    logs = model.train_step(dict(inputs=torch.randn(8, 2)), wrapper)
    assert logs["loss_teacher"] > 0
    model.start_stage("distill", None, None)
    for name, value in model.teacher.network.state_dict().items():
        assert torch.equal(value, model.student.state_dict()[name])
    fresh = build(taught=False, start="random")
    fresh.start_stage("distill", None, None)
    ours, theirs = fresh.student.first.weight, fresh.teacher.network.first.weight
    assert not torch.equal(ours, theirs)
    rival = build(pairs=6, pair_steps=3)
    with torch.no_grad():  # or student and teacher are one
        rival.student.last.bias += torch.tensor([0.3, -0.1])
    torch.manual_seed(3)
    found = rival.loss_distill(torch.zeros(64, 2))
    assert set(found) == {"loss_regression"}
    noise, ends = rival._ends
    torch.testing.assert_close(
        ends, rival.process.sample(rival.teacher, noise, 3), atol=1e-6, rtol=0
    )
    torch.manual_seed(3)
    which = torch.randint(6, (64,))
    first = rival.student(noise[which], at(*[0.01] * 64), None)
    off = (first - ends[which]).square().mean()
    torch.testing.assert_close(found["loss_regression"], off)


def test_progressive_times_come_down():
    seen = []
    model = build(order="progressive")
    plain = model.target
    model.target = lambda eps, t, s, c: seen.append(t) or plain(eps, t, s, c)
    for step in (0, 98):
        model.progress = Progress(step=step, steps=100)
        model.loss_distill(torch.zeros(200, 2))
    assert seen[0].min() > 0.96
    assert seen[1].min() < 0.1


def test_guidance_by_hand():
    network = dict(MLP, num_classes=4)
    model = build(network=network, teacher=network, num_classes=3, guidance=2.0)
    x, t, c = torch.randn(5, 2), at(*[0.5] * 5), torch.tensor([0, 1, 2, 0, 1])
    none = torch.full_like(c, 3)
    wanted = 2 * model.teacher(x, t, c) - model.teacher(x, t, none)
    torch.testing.assert_close(model.clean(x, t, c), wanted)
    with pytest.raises(UserError, match="num_classes is 0"):
        build(guidance=2.0)
    with pytest.raises(UserError, match="leave no two times"):
        build(delta=0.99)
    assert NoiseStarts((2,), 5, 3)[4]["targets"] == 1
    assert NoiseStarts((1, 2))[0]["inputs"].shape == (1, 2)
    model.check_data(NoiseStarts((2,), 5, 3))
    with pytest.raises(UserError, match=r"BOOT: model\.num_classes is 3, .* 0 classes"):
        model.check_data(NoiseStarts((2,), 5))
    build().check_data(NoiseStarts((2,), 5))
    with pytest.raises(UserError, match="size=0"):
        NoiseStarts((2,), 0)


@pytest.mark.parametrize("schedule", ["linear", "scaled_linear", "squaredcos_cap_v2"])
def test_schedules_are_those_of_diffusers(schedule, tmp_path):
    from diffusers import DDIMScheduler

    zero = schedule == "scaled_linear"
    theirs = DDIMScheduler(
        beta_schedule=schedule,
        beta_start=0.001,
        beta_end=0.013,
        prediction_type="v_prediction",
        rescale_betas_zero_snr=zero,
        clip_sample=False,
    )
    theirs.save_pretrained(tmp_path / "scheduler")
    process = ScheduleProcess(str(tmp_path))
    assert process.predicts == "v"
    t = torch.tensor([0, 20, 500, 998]) / 999
    a = process.alpha(t)
    torch.testing.assert_close(
        a**2, theirs.alphas_cumprod[[0, 20, 500, 998]], atol=1e-5, rtol=1e-3
    )
    torch.testing.assert_close(a**2 + process.sigma(t) ** 2, torch.ones(4))
    assert process.clock(t)[1].item() == pytest.approx(20)
    if zero:
        assert process.alpha(at(1.0)).item() < 1e-6
    # sampling step by step equals the scheduler's own step
    torch.manual_seed(0)
    x, raw = torch.randn(2, 3, 2)
    theirs.set_timesteps(4)
    x0, eps = process.both(raw, x, (t[2]).expand(3))
    ahead = theirs.alphas_cumprod[250].sqrt().item()
    ours = ddim_step(x0, eps, ahead, math.sqrt(1 - ahead**2))
    stepped = theirs.step(raw, 500, x).prev_sample
    torch.testing.assert_close(ours, stepped, atol=1e-3, rtol=1e-3)


def test_edm_samples_by_eulers_rule_as_diffusers_does():
    from diffusers import EulerDiscreteScheduler

    process, steps = EDMProcess(num_levels=7, sigma_min=0.5, sigma_max=6.0), 6
    network = MODELS.build(MLP)
    torch.manual_seed(1)
    noise = torch.randn(4, 2)
    ours = process.sample(network, noise, None, steps)
    scheduler = EulerDiscreteScheduler(prediction_type="sample")
    scheduler.set_timesteps(steps)
    levels = process.sigmas.flip(0)  # our grid: 6 Euler steps, then one call at the end
    scheduler.sigmas = levels
    x = levels[0] * noise
    for number, t in enumerate(scheduler.timesteps):
        clean = process.denoise_at(network, x, steps - number, None)
        x = scheduler.step(clean, t, x).prev_sample
    last = process.denoise_at(network, x, 0, None)
    torch.testing.assert_close(ours, last, atol=1e-4, rtol=1e-4)


def test_unknown_schedules_get_a_sentence(tmp_path):
    with pytest.raises(UserError, match=r"no scheduler_config\.json"):
        ScheduleProcess(str(tmp_path))
    file = tmp_path / "scheduler_config.json"
    file.write_text(json.dumps(dict(prediction_type="flow")))
    with pytest.raises(UserError, match="flow"):
        ScheduleProcess(str(tmp_path))
    file.write_text(json.dumps(dict(beta_schedule="sigmoid")))
    with pytest.raises(UserError, match="sigmoid"):
        ScheduleProcess(str(tmp_path))


def test_another_architecture_gets_a_sentence():
    with pytest.raises(UserError, match=r"BOOT: .* do not fit model\.network"):
        build(teacher=dict(MLP, width=8))
    assert isinstance(build().student, nn.Module)


def test_the_anchor_is_at_the_last_time():
    """Signal t eps and a teacher that says 2 t eps: off by 0.99 eps."""
    model, inputs = build(beta=2.0), torch.zeros(5, 2)
    model.target = lambda eps, t, s, c: (eps, torch.ones(len(eps)))
    model.signal = lambda eps, t, c: t[:, None] * eps
    model.clean = lambda x, t, c: 2 * t[:, None] * x
    torch.manual_seed(4)
    found = model.loss_distill(inputs)["loss_boundary"]
    torch.manual_seed(4)
    wanted = 2 * 0.99**2 * torch.randn_like(inputs).square().mean()
    torch.testing.assert_close(found, wanted)


def test_who_answers_and_for_which_class():
    network = dict(MLP, num_classes=4)
    model = build(network=network, teacher=network, num_classes=3, teacher_steps=3)
    with torch.no_grad():
        model.student.last.bias += torch.tensor([0.3, -0.1])
    c, index = torch.tensor([2, 0, 1, 2]), torch.arange(7, 11)
    eps = torch.randn(4, 2, generator=torch.Generator().manual_seed(7))

    def answer():
        return model.predict(torch.zeros(4, 2), index, c)[0]["samples"]

    torch.testing.assert_close(answer(), model.student(eps, at(*[0.01] * 4), c))
    model.progress.stage = "teacher"  # it is still the student
    wanted = model.process.sample(model.student, eps, 3, c)
    torch.testing.assert_close(answer(), wanted)
    model.progress.stage, model.predict_on = "distill", "teacher"
    wanted = model.process.sample(model.teacher, eps, 3, c)
    torch.testing.assert_close(answer(), wanted)
    asked = []
    clean, signal = model.clean, model.signal
    model.clean = lambda x, t, c: asked.append(c) or clean(x, t, c)
    model.signal = lambda x, t, c: asked.append(c) or signal(x, t, c)
    model.loss_distill(torch.zeros(4, 2), c)
    assert len(asked) == 5
    assert all(torch.equal(one, c) for one in asked)
