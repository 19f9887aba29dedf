"""Levels, noise and preconditioning of the processes; the ring of the samples."""

import math

import pytest
import torch

from pld_mmdet.diffusion.data.ring import GaussianRing, energy_distance
from pld_mmdet.diffusion.processes.levels import (
    CosineProcess,
    EDMProcess,
    EpsProcess,
)
from pld_mmdet.diffusion.processes.losses import ssim
from pld_mmdet.diffusion.processes.schedule import ScheduleProcess
from pld_mmdet.errors import UserError


def test_levels_of_edm():
    process = EDMProcess()
    found = process.sigmas[[0, 20, 500, 980, 999]].tolist()
    assert found == pytest.approx([0.002, 0.0032316, 2.52651, 72.0539, 80], rel=1e-5)
    level = (process.sigmas - 0.5).abs().argmin().reshape(1)
    process.sigmas[level] = 0.5

    def returns_zero(x, time, condition):
        return torch.zeros_like(x)

    x0 = torch.zeros(1, 2)
    loss = process.matching_loss(returns_zero, x0, level, torch.ones(1, 2), None)
    # D = c_skip (0 + 0.5) = 0.25, weight 1 / 0.25 + 1 / 0.25 = 8
    assert loss.item() == pytest.approx(8 * 0.25**2)


@pytest.mark.parametrize("process", [EDMProcess(), EpsProcess()])
def test_noise_is_found_again(process):
    x0, noise = torch.randn(2, 4, 3)
    level = torch.tensor([10, 300, 700, 999])
    x = process.add_noise(x0, level, noise)
    assert torch.allclose(process.noise_in(x, x0, level), noise, atol=1e-3)


def test_eps_levels_are_those_of_diffusers():
    import diffusers

    theirs = diffusers.DDPMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear"
    )
    process = EpsProcess()
    assert torch.allclose(process.a**2, theirs.alphas_cumprod, rtol=2e-4)
    assert torch.allclose(process.a**2 + process.s**2, torch.ones(1000))
    # A network that knows the noise: its x0 is the clean one, at every level.
    x0, noise = torch.randn(2, 4, 3)
    level = torch.tensor([0, 300, 700, 999])
    x = process.add_noise(x0, level, noise)
    guess = process.denoise(lambda x, time, condition: noise, x, level, None)
    assert torch.allclose(guess, x0, atol=1e-4)
    loss = process.matching_loss(lambda *_: noise, x0, level, noise, None)
    assert loss.item() == 0.0


def test_preconditioning_by_hand():
    """sigma 2, sigma_data 0.5: c_skip 1/17, c_out 1 / sqrt 4.25, c_in as much."""
    process = EDMProcess()
    process.sigmas[700] = 2.0
    level, x = torch.tensor([700]), torch.tensor([[3.0, -1.0]])

    def network(x, time, condition):
        return 10 * x + time[:, None]

    found = process.denoise(network, x, level, None)
    root = math.sqrt(4.25)
    raw = 10 * x / root + math.log(2) / 4
    assert torch.allclose(found, x / 17 + raw / root, rtol=1e-5)
    loss = process.matching_loss(network, x - 2, level, torch.ones(1, 2), None)
    expected = (0.25 + 4) * (found - (x - 2)).square().mean()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)


class NoisyAtZero(CosineProcess):
    """a = .8, s = .6 at all times but the last, where they are .28 and .96."""

    def alpha(self, t):
        return torch.where(t > 0.9, 0.28, 0.8)

    def sigma(self, t):
        return torch.where(t > 0.9, 0.96, 0.6)


def test_no_noise_is_left_in_a_sample():
    """One call says x0 = .28 x - .96 v; another step from .8 x0 + .6 eps follows."""
    process, asked = NoisyAtZero("v"), []

    def network(x, time, condition):
        asked.append((time.tolist(), condition))
        return torch.tensor([[0.5, -1.0]]).expand(len(x), -1)

    noise = torch.tensor([[1.0, -2.0], [0.0, 3.0]])
    found = process.sample(network, noise, 1, "cat")
    wanted = torch.tensor([[-0.2, 0.4], [-0.48, 1.8]])
    torch.testing.assert_close(found, wanted)
    assert asked == [([pytest.approx(0.99)] * 2, "cat")]
    # eps = .96 x + .28 v: (1.1, -2.2), then x = .8 x0 + .6 eps = (.5, -1)
    found = process.sample(network, noise[:1], 2)
    torch.testing.assert_close(found, torch.tensor([[0.8 * 0.5 - 0.3, -0.8 + 0.6]]))
    assert asked[1:] == [([pytest.approx(0.99)], None), ([pytest.approx(0.495)], None)]
    assert process.sample(network, noise[:0], 2).shape == (0, 2)
    with pytest.raises(UserError, match="NoisyAtZero: no sample comes from 0 steps"):
        process.sample(network, noise, 0)


@pytest.mark.parametrize("steps", [1, 3])
def test_a_network_that_knows_the_image_gives_it_back(steps):
    """Stable Diffusion's schedule, whose sigma(0) is .029."""
    process = ScheduleProcess(predicts="x0")
    assert process.sigma(torch.tensor(0.0)) > 0.02
    image = torch.tensor([[0.25, -0.5, 0.75]])
    found = process.sample(lambda *_: image, torch.tensor([[9.0, -4.0, 2.0]]), steps)
    assert torch.equal(found, image)


def test_structural_similarity_by_hand():
    """One pixel: the window's middle has .0707622, and zeros stand around."""
    place = torch.arange(-5, 6.0)
    w = (1 / (-(place**2) / 4.5).exp().sum()).item() ** 2
    assert w == pytest.approx(0.0707622, abs=1e-6)
    a, b = torch.tensor([0.9, 0.2]), torch.tensor([0.3, 0.2])
    found = ssim(a.view(2, 1, 1, 1), b.view(2, 1, 1, 1))
    m, k, covariance = w * 0.9, w * 0.3, w * 0.27 - w * w * 0.27
    spread = w * (0.81 + 0.09) - m * m - k * k
    wanted = (2 * m * k + 1e-4) * (2 * covariance + 9e-4)
    wanted /= (m * m + k * k + 1e-4) * (spread + 9e-4)
    assert found.tolist() == pytest.approx([wanted, 1.0], rel=1e-4)
    # two pixels, each seen from the other's place too
    bell = math.exp(-1 / 4.5)  # of the neighbour, beside the middle's 1
    x, y, total = (0.9, 0.4), (0.3, 0.8), 0.0
    for here, there in ((0, 1), (1, 0)):
        ends = [(p[here], p[there]) for p in (x, y)]
        means = [w * (near + bell * far) for near, far in ends]
        squares = [w * (near**2 + bell * far**2) for near, far in ends]
        both = w * (x[here] * y[here] + bell * x[there] * y[there])
        m, k = means
        alike = (2 * m * k + 1e-4) * (2 * (both - m * k) + 9e-4)
        apart = (m * m + k * k + 1e-4) * (sum(squares) - m * m - k * k + 9e-4)
        total += alike / apart / 2
    found = ssim(torch.tensor(x).view(1, 1, 1, 2), torch.tensor(y).view(1, 1, 1, 2))
    assert found.item() == pytest.approx(total, rel=1e-4)
    pictures = torch.rand(3, 4, 16, 12)
    torch.testing.assert_close(ssim(pictures, pictures), torch.ones(3))
    noised = (pictures + torch.rand_like(pictures)) / 2
    torch.testing.assert_close(ssim(pictures, noised), ssim(noised, pictures))
    assert (ssim(pictures, noised) < 1).all()
    assert ssim(pictures[:0], noised[:0]).shape == (0,)


def test_energy_distance():
    """Two points each: E|x - y| = 1.5, E|x - x'| = 1, E|y - y'| = 1."""
    x, y = torch.tensor([[0.0], [1.0]]), torch.tensor([[1.5], [2.5]])
    assert energy_distance(x, y) == pytest.approx(2 * 1.5 - 2)
    ring = GaussianRing("val").points
    assert abs(energy_distance(ring, GaussianRing("test").points)) < 2e-3
    assert energy_distance(ring, ring + 0.1) > 5e-3
    radii = ring.norm(dim=1)
    assert radii.mean().item() == pytest.approx(0.7, abs=0.01)
    with pytest.raises(UserError, match="part='all'"):
        GaussianRing("all")
