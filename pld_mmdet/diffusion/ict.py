"""iCT: a one-step generator from data alone; its teacher is itself a level lower."""

import math

import torch
from torch import Tensor, nn

from pld_mmdet.diffusion.processes.levels import consistency
from pld_mmdet.distill.ema import ema_update
from pld_mmdet.distill.losses import pseudo_huber
from pld_mmdet.distill.teachers import Averaged
from pld_mmdet.engine.run.method import Method
from pld_mmdet.errors import UserError, one_of
from pld_mmdet.registry import MODELS


@MODELS.register_module()
class ICT(Method):
    r"""Improved consistency training (Song and Dhariwal 2023, arXiv 2310.14189).

    f(x, s) = c_skip(s) x + c_out(s) F(c_in(s) x, ln(s) / 4), so f(x, s_min) = x. In
    step k of K, with N(k) levels of Karras' grid::

        i ~ P(i), a discretised lognormal over the N - 1 intervals; one eps for both
        L = mean 1 / (s_{i+1} - s_i) d( f(x + s_{i+1} eps, s_{i+1}),
                                        sg f(x + s_i eps, s_i) )
        d(a, b) = sqrt(|a - b|^2 + c^2) - c, the norm over a whole sample

    The target is the student itself, with the same dropout mask and without gradient.
    ``teacher`` is an average for evaluation only: move it by ``TeacherEMAHook``.

    No code of the authors exists; consistency training (CT, Song et al. 2023) was
    released, and its choices are arguments: ``target='ema'``, ``distance='l2'``,
    ``law='uniform'``, ``weighting='uniform'``.

    Args:
        network: Config of F, ``(x, time, None) -> x``.
        s0, s1: Intervals of the first and of the last part of training [10, 1280].
        target: ``self`` [the paper's], or ``ema``: an average whose keep rate is
            mu_0^(s0 / N) (released CT).
        distance: ``sample`` [the paper's vector pseudo-Huber], ``element`` (public
            re-implementations), or ``l2`` (CT).
        law: ``lognormal`` [mean -1.1, std 2.0], or ``uniform``.
        weighting: ``inverse`` [1 / (s_{i+1} - s_i)], or ``uniform``.
        c: Of pseudo-Huber [0.00054 sqrt(numbers of a sample)].
        mu0: Of ``target='ema'`` [0.9, CT on CIFAR-10].
        sigma_min, sigma_max, sigma_data: Of the levels and of f [0.002, 80, 0.5].
        steps: Calls of the network while sampling, 1 or 2 [1].
        tau: Noise level of the second call [0.821, CIFAR-10].
        predict_on: ``teacher`` (the average) or ``student``.

    Raises:
        UserError: An unknown word, or other than one or two steps.
    """

    def __init__(
        self,
        network: dict,
        s0: int = 10,
        s1: int = 1280,
        target: str = "self",
        distance: str = "sample",
        law: str = "lognormal",
        weighting: str = "inverse",
        c: float | None = None,
        mu0: float = 0.9,
        sigma_min: float = 0.002,
        sigma_max: float = 80.0,
        sigma_data: float = 0.5,
        steps: int = 1,
        tau: float = 0.821,
        predict_on: str = "teacher",
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        one_of(
            "ICT",
            target=(target, ("self", "ema")),
            distance=(distance, ("sample", "element", "l2")),
            law=(law, ("lognormal", "uniform")),
            weighting=(weighting, ("inverse", "uniform")),
            predict_on=(predict_on, ("teacher", "student")),
        )
        self.student = MODELS.build(network)
        self.teacher = Averaged(self.student)
        self.slow = Averaged(self.student) if target == "ema" else None
        self.s0, self.s1 = s0, s1
        self.distance, self.law, self.weighting = distance, law, weighting
        self.c, self.mu0, self.tau = c, mu0, tau
        self.sigma_min, self.sigma_max = sigma_min, sigma_max
        self.sigma_data, self.predict_on = sigma_data, predict_on
        self.in_steps(steps)

    def in_steps(self, count: int) -> None:
        """Sample in so many calls of the network."""
        if count not in (1, 2):
            raise UserError(
                f"ICT: steps={count} is not possible.", "It samples in 1 or 2 steps."
            )
        self.steps = count

    def intervals(self) -> int:
        """N(k) - 1 at this point of the run."""
        progress = self.progress.known()
        return discretisation(progress.step, progress.steps, self.s0, self.s1) - 1

    def f(self, network: nn.Module, x: Tensor, sigma: Tensor) -> Tensor:
        """The end point of x [N, ...] at levels [N] on its way to the data."""
        return consistency(network, x, sigma, None, self.sigma_min, self.sigma_data)

    def loss(self, inputs: Tensor, **_) -> dict[str, Tensor]:
        """Consistency of two neighbouring levels: real samples N x ..."""
        count = self.intervals()
        levels = karras_levels(count + 1, self.sigma_min, self.sigma_max).to(inputs)
        law = torch.ones_like(levels[1:])
        if self.law == "lognormal":
            law = level_probabilities(levels)
        i = torch.multinomial(law, len(inputs), replacement=True)
        noise, shape = torch.randn_like(inputs), (-1, *[1] * (inputs.dim() - 1))
        low, high = levels[i], levels[i + 1]
        # The target runs first, so that the student draws the same dropout mask.
        devices = [inputs.device] if inputs.is_cuda else []
        with torch.no_grad(), torch.random.fork_rng(devices):
            network = self.student if self.slow is None else self.slow
            target = self.f(network, inputs + low.view(shape) * noise, low)
        guess = self.f(self.student, inputs + high.view(shape) * noise, high)
        weight = loss_weights(levels)[i] if self.weighting == "inverse" else 1.0
        return {
            "loss_consistency": (weight * self._between(guess - target)).mean(),
            "levels": guess.new_tensor(count + 1.0),
        }

    def step_distill(self, batch: dict, optim_wrapper) -> dict[str, Tensor]:
        """One step; CT's slow target follows."""
        logs = self.step(optim_wrapper, lambda: self.loss(**batch))
        if self.slow is not None and optim_wrapper.should_update():
            keep = math.exp(self.s0 * math.log(self.mu0) / (self.intervals() + 1))
            ema_update(self.slow.network, self.student, keep)
        return logs

    def predict(self, inputs: Tensor, index: Tensor, **_) -> list[dict]:
        """As many samples as there are inputs, beside the inputs.

        The noise depends on ``index`` only, so an evaluation can be repeated.
        """
        dice = torch.Generator().manual_seed(int(index[0]))
        network = self.teacher if self.predict_on == "teacher" else self.student

        def noise() -> Tensor:
            return torch.randn(inputs.shape, generator=dice).to(inputs)

        level = inputs.new_full((len(inputs),), self.sigma_max)
        samples = self.f(network, self.sigma_max * noise(), level)
        if self.steps == 2:
            spread = math.sqrt(self.tau**2 - self.sigma_min**2)
            level = torch.full_like(level, self.tau)
            samples = self.f(network, samples + spread * noise(), level)
        return [{"samples": samples, "references": inputs}]

    def _between(self, difference: Tensor) -> Tensor:
        """The distance of each sample, [N, ...] -> [N]."""
        flat = difference.flatten(1)
        if self.distance == "l2":
            return flat.square().mean(1)
        c = self.c if self.c is not None else 0.00054 * math.sqrt(flat.shape[1])
        if self.distance == "sample":
            return pseudo_huber(flat, c, "sample")
        return pseudo_huber(flat.reshape(-1, 1), c, "sample").view_as(flat).mean(1)


def discretisation(step: int, steps: int, s0: int = 10, s1: int = 1280) -> int:
    """N(k) = min(s0 2^floor(k / K'), s1) + 1, K' = floor(K / (log2 floor(s1/s0) + 1)).

    Args:
        step: k, from 0.
        steps: K.
        s0: Intervals at the start.
        s1: Most intervals.

    Returns:
        The number of levels; the intervals between them are one fewer.

    Raises:
        UserError: ``s1 < s0 < 1``-like values, or a step outside the run.
    """
    if not 1 <= s0 <= s1 or steps < 1 or step < 0:
        raise UserError(
            f"discretisation: step {step} of {steps} with s0={s0}, s1={s1}.",
            "1 <= s0 <= s1, steps >= 1 and step >= 0.",
        )
    part = max(math.floor(steps / (math.log2(s1 // s0) + 1)), 1)
    # bounded before the power: a step far behind the end would overflow it
    doublings = min(step // part, math.ceil(math.log2(s1 / s0)))
    return min(s0 * 2**doublings, s1) + 1


def karras_levels(
    n: int, sigma_min: float = 0.002, sigma_max: float = 80.0, rho: float = 7.0
) -> Tensor:
    """n noise levels, ascending [n], evenly spaced in sigma^(1/rho) (Karras 2022).

    Raises:
        UserError: Fewer than two levels, or ``0 < sigma_min < sigma_max`` is not so.
    """
    if n < 2 or not 0 < sigma_min < sigma_max:
        raise UserError(
            f"karras_levels: n={n}, sigma_min={sigma_min}, sigma_max={sigma_max}.",
            "n >= 2 and 0 < sigma_min < sigma_max.",
        )
    low, high = sigma_min ** (1 / rho), sigma_max ** (1 / rho)
    ramp = torch.linspace(0, 1, n, dtype=torch.float64)
    return ((low + ramp * (high - low)) ** rho).float()


def level_probabilities(levels: Tensor, mean: float = -1.1, std: float = 2.0) -> Tensor:
    """Probability of each interval under a lognormal law, [n] -> [n - 1], sums to 1.

    Args:
        levels: Ascending.
        mean: Of ln sigma [-1.1].
        std: Of ln sigma [2.0].
    """
    below = torch.erf((levels.double().log() - mean) / (math.sqrt(2) * std))
    mass = below.diff()
    return (mass / mass.sum()).to(levels)


def loss_weights(levels: Tensor) -> Tensor:
    """1 / (sigma_{i+1} - sigma_i), [n] ascending -> [n - 1]."""
    return 1.0 / levels.diff()
