"""YONOS-SR: pyramid, what teacher and student see, reductions, the decoder's stage."""

import numpy as np
import pytest
import torch
from mmengine.optim import OptimWrapper, OptimWrapperDict
from torch import nn
from torch.nn import functional as F

from pld_mmdet.diffusion.networks.denoisers import PatchLogits
from pld_mmdet.diffusion.processes.levels import CosineProcess
from pld_mmdet.diffusion.scores.fidelity import PatchDistance
from pld_mmdet.diffusion.yonos_sr import enlarged, gradient_variance, shrunk
from pld_mmdet.engine.run.progress import Progress
from pld_mmdet.errors import UserError
from pld_mmdet.registry import MODELS

NET = dict(
    type="pld_mmdet.Beside",
    network=dict(
        type="pld_mmdet.ConvDenoiser", channels=6, out_channels=3, width=8, depth=1
    ),
)


def build(**changes):
    torch.manual_seed(0)
    settings = dict(
        process=dict(type="pld_mmdet.CosineProcess", predicts="x0"),
        network=NET,
        space=dict(type="pld_mmdet.PixelSpace", width=4),
        teacher=NET,
    )
    model = MODELS.build(dict(type="pld_mmdet.YonosSR", **settings | changes))
    model.progress = Progress(step=1, steps=10)
    return model


def flat(module):
    return nn.utils.parameters_to_vector(module.parameters()).detach().clone()


def images(n=4, size=8):
    torch.manual_seed(9)
    return torch.rand(n, 3, size, size)


@pytest.mark.parametrize(
    ("a", "s", "x0", "eps", "noised", "v"),
    [(0.6, 0.8, 1.0, 0.5, 1.0, -0.5), (0.8, 0.6, 0.5, -1.0, -0.2, -1.1)],
)
def test_v_by_hand(a, s, x0, eps, noised, v):
    process = CosineProcess("v")
    t = torch.tensor([2 / np.pi * np.arctan2(s, a)], dtype=torch.float)
    clean, noise = torch.tensor([[x0]]), torch.tensor([[eps]])
    z = process.add_noise(clean, t, noise)
    assert z.item() == pytest.approx(noised)
    raw = process.target(clean, t, noise)
    assert raw.item() == pytest.approx(v)
    back, same = process.both(raw, z, t)
    assert back.item() == pytest.approx(x0)
    assert same.item() == pytest.approx(eps)


def test_the_pyramid():
    x = images()
    torch.testing.assert_close(shrunk(x, 4), shrunk(shrunk(x, 2), 2))
    small = torch.tensor([[[[1.0, 2], [3, 6]]]])
    assert shrunk(small, 2).item() == 3.0
    assert enlarged(small, 2)[0, 0].tolist() == [
        [1, 1, 2, 2],
        [1, 1, 2, 2],
        [3, 3, 6, 6],
        [3, 3, 6, 6],
    ]
    assert shrunk(x[:0], 4).shape == (0, 3, 2, 2)
    with pytest.raises(UserError, match="8 x 8 can't be shrunk 3 times"):
        shrunk(x, 3)
    for scale in (3, 0):
        with pytest.raises(UserError, match=f"scale={scale}"):
            build(scale=scale)


def test_teacher_and_student_see_one_noise_and_two_conditions():
    model, x, seen = build(), images(), {}
    plain = model.clean

    def clean(network, z, t, low):
        seen["teacher" if network is model.teacher else "student"] = z, t, low
        return plain(network, z, t, low)

    model.clean = clean
    model.loss_distill(x)
    (z, t, easy), (same, also, hard) = seen["teacher"], seen["student"]
    assert torch.equal(z, same)
    assert torch.equal(t, also)
    torch.testing.assert_close(easy, 2 * enlarged(shrunk(x, 2), 2) - 1)
    torch.testing.assert_close(hard, 2 * enlarged(shrunk(x, 4), 4) - 1)


def test_the_teacher_learns_the_easier_scale_from_the_truth():
    model, x, factors = build(scale=8), images(size=16), []
    plain = model.condition
    model.condition = lambda x, factor: factors.append(factor) or plain(x, factor)
    model.clean = lambda network, z, t, low: torch.zeros_like(z)
    loss = model.loss_teacher(x)["loss_teacher"]
    assert loss.item() == pytest.approx((2 * x - 1).square().mean().item(), rel=1e-5)
    model.loss_distill(x)
    assert factors == [4, 4, 8]


def test_the_loss_by_hand():
    """Networks that add numbers to the condition: the loss is the difference."""
    model = build()

    class Constant(nn.Module):
        def __init__(self, add):
            super().__init__()
            self.add = nn.Parameter(torch.tensor(add))

        def forward(self, z, t, low):
            return low.mean((1, 2, 3), keepdim=True) * torch.ones_like(z) + self.add

    model.student, model.teacher.network = Constant(0.5), Constant(0.2)
    loss = model.loss_distill(images())["loss_scale"]
    assert loss.item() == pytest.approx(0.09, rel=1e-5)
    loss.backward()
    assert model.student.add.grad.item() == pytest.approx(0.6, rel=1e-5)
    assert model.teacher.network.add.grad is None


def test_a_perfect_teacher_is_ground_truth():
    x = images()
    losses = []
    for target in ("teacher", "truth"):
        model = build(target=target)
        plain = model.clean
        model.clean = lambda network, z, t, low, model=model, plain=plain: (
            2 * x - 1 if network is model.teacher else plain(network, z, t, low)
        )
        torch.manual_seed(5)
        loss = model.loss_distill(x)["loss_scale"]
        loss.backward()
        gradient = model.student.network.first.weight.grad
        losses.append((loss.item(), gradient))
    assert losses[0][0] == losses[1][0]
    assert torch.equal(losses[0][1], losses[1][1])
    # one network at one scale has nothing to learn from itself
    model = build()
    model.condition = lambda x, factor: torch.zeros_like(x)
    assert model.loss_distill(x)["loss_scale"].item() == 0


def test_one_step_calls_the_network_once_at_the_last_time():
    model, times = build(), []
    model.student.register_forward_hook(lambda m, a, o: times.append(a[1]))
    answer = model.predict(images(), torch.arange(4))[0]
    assert [t.tolist() for t in times] == [pytest.approx([0.99] * 4)]
    assert answer["samples"].shape == (4, 3, 8, 8)
    again = model.predict(images(), torch.arange(4))[0]["samples"]
    assert torch.equal(answer["samples"], again)
    # only the shrunk image is read
    other = enlarged(shrunk(images(), 4), 4)
    same = model.predict(other, torch.arange(4))[0]["samples"]
    torch.testing.assert_close(answer["samples"], same)


def test_who_answers_at_which_scale_in_how_many_steps():
    model, x, asked, factors = build(steps=3), images(), [], []
    plain = model.condition
    model.condition = lambda x, factor: factors.append(factor) or plain(x, factor)
    model.process.sample = lambda network, noise, steps, low: (
        asked.append((network, steps)) or 5 * noise
    )
    for stage, word in (
        ("distill", "student"),
        ("distill", "teacher"),
        ("teacher", "student"),
    ):
        model.progress.reset(stage)
        model.predict_on = word
        samples = model.predict(x, torch.arange(4))[0]["samples"]
        assert samples.min() == 0  # pixels
        assert samples.max() == 1
    assert factors == [4, 2, 2]
    assert asked == [(model.student, 3), (model.teacher, 3), (model.student, 3)]


def test_the_variance_of_two_gradients_is_half_their_squared_distance():
    model, batches, gradients = build(), [images(), images() ** 2], []
    torch.manual_seed(4)
    for x in batches:
        z, t = 2 * x - 1, torch.full((4,), 0.7)
        noised = model.process.add_noise(z, t, torch.randn_like(z))
        guess = model.clean(model.student, noised, t, model.condition(x, 4))
        loss = (guess - z).square().mean()
        found = torch.autograd.grad(loss, list(model.student.parameters()))
        gradients.append(torch.cat([g.flatten() for g in found]))
    wanted = (gradients[0] - gradients[1]).square().sum().item() / 2
    torch.manual_seed(4)
    found = gradient_variance(model, batches, 0.7, "truth")
    assert found == pytest.approx(wanted, rel=1e-4)


def test_the_decoders_stage_leaves_the_network_alone():
    critic = dict(type="pld_mmdet.PatchLogits", width=4)
    model = build(critic=critic, gan=0.5)
    model.progress.reset("decoder")
    wrappers = OptimWrapperDict(
        space=OptimWrapper(torch.optim.SGD(model.space.parameters(), lr=0.1)),
        critic=OptimWrapper(torch.optim.SGD(model.critic.parameters(), lr=0.1)),
    )
    before = [flat(part) for part in (model.student, model.space, model.critic)]
    x = images()
    with torch.no_grad():
        torch.manual_seed(1)
        made = model.space.decode(model.restored(x, torch.randn_like(x), 1))
        gan = 0.5 * F.softplus(-model.critic(made)).mean()
        fake = F.softplus(model.critic(made)).mean()
        real = F.softplus(-model.critic(x)).mean()
    torch.manual_seed(1)
    logs = model.train_step(dict(inputs=x), wrappers)
    l1 = (made - x).abs().mean()
    assert logs["decoder_loss_l1"].item() == pytest.approx(l1.item(), rel=1e-5)
    assert logs["decoder_loss_gan"].item() == pytest.approx(gan.item(), rel=1e-5)
    told = (fake + real).item()
    assert logs["loss_critic"].item() == pytest.approx(told, rel=1e-5)
    after = [flat(part) for part in (model.student, model.space, model.critic)]
    assert torch.equal(before[0], after[0])
    assert not torch.equal(before[1], after[1])
    assert not torch.equal(before[2], after[2])
    # without a weight no discriminator
    alone = build(critic=critic, gan=0.0)
    alone.progress.reset("decoder")
    assert "loss_critic" not in alone.train_step(dict(inputs=x), wrappers)
    # the residual decoder begins as none
    z = 2 * x - 1
    torch.testing.assert_close(build().space.decode(z), x)


def test_gradients_of_a_perfect_teacher_vary_as_those_of_the_truth():
    model, batches = build(), [images(), images() ** 2, images() * 0.5]
    torch.manual_seed(2)
    truth = gradient_variance(model, batches, 0.7, "truth")
    model.clean_ = model.clean
    turn = iter([2 * x - 1 for x in batches])
    model.clean = lambda network, *rest: (
        next(turn) if network is model.teacher else model.clean_(network, *rest)
    )
    torch.manual_seed(2)
    assert gradient_variance(model, batches, 0.7, "teacher") == truth > 0
    assert gradient_variance(model, batches[:1] * 2, 0.7, "truth") > 0


def test_patches_of_the_same_pictures_are_near():
    torch.manual_seed(0)
    x = torch.rand(8, 3, 8, 8)
    far = PatchDistance(size=4)
    far.process({}, [dict(samples=x, references=x * 0.3)])
    near = PatchDistance(size=4)
    near.process({}, [dict(samples=torch.rand(8, 3, 8, 8), references=x)])
    one, other = (m.compute_metrics(m.results)["patch_distance"] for m in (far, near))
    assert one > 1.0 > abs(other)
    assert PatchLogits(width=4)(x).shape == (8, 1, 2, 2)


def test_latents_of_diffusers():
    space = dict(
        type="pld_mmdet.LatentSpace",
        block_out_channels=(8, 8),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        latent_channels=3,
        norm_num_groups=4,
        scaling_factor=0.5,
    )
    model = build(space=space, scale=2)
    x = images(2, 16)
    z = model.space.encode(x)
    assert z.shape == (2, 3, 8, 8)
    raw = model.space.vae.encode(2 * x - 1).latent_dist.mode()
    torch.testing.assert_close(z, 0.5 * raw)
    assert torch.isfinite(model.loss_distill(x)["loss_scale"])
    assert model.predict(x, torch.arange(2))[0]["samples"].shape == x.shape
    assert not any(p.requires_grad for p in model.space.vae.encoder.parameters())
    assert all(p.requires_grad for p in model.space.vae.decoder.parameters())
