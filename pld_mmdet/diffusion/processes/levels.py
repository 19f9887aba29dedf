"""Noise levels, and what a network's raw output means: always a guess of the clean x0.

A process has no weights, so one object serves teacher, critic and generator. Level 0 is
the least noisy one, ``num_levels - 1`` is (nearly) pure noise.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from pld_mmdet.errors import UserError, one_of
from pld_mmdet.registry import MODELS


class NoiseProcess(nn.Module):
    """Interface; ``network(x, time, condition)`` is the raw network everywhere.

    Attributes:
        num_levels: T.
    """

    num_levels: int

    def add_noise(self, x0: Tensor, level: Tensor, noise: Tensor) -> Tensor:
        """x0 [N, ...] at levels [N] -> noised [N, ...]."""
        raise NotImplementedError

    def pure_noise(self, noise: Tensor) -> Tensor:
        """Standard normal noise -> the generator's input at the last level."""
        raise NotImplementedError

    def noise_in(self, x: Tensor, x0: Tensor, level: Tensor) -> Tensor:
        """The noise that ``add_noise`` would have made x from x0 with."""
        raise NotImplementedError

    def denoise(
        self, network: nn.Module, x: Tensor, level: Tensor, condition: Tensor | None
    ) -> Tensor:
        """The network's x0 [N, ...] in float32."""
        raise NotImplementedError

    def denoise_at(
        self, network: nn.Module, x: Tensor, step: int, condition: Tensor | None
    ) -> Tensor:
        """:meth:`denoise` of samples that have all the same level."""
        level = torch.full((len(x),), step, device=x.device)
        return self.denoise(network, x, level, condition)

    def guided(
        self,
        network: nn.Module,
        x: Tensor,
        level: Tensor,
        condition: Tensor | None,
        scale: float,
        nothing: int,
    ) -> Tensor:
        """Classifier-free guidance (Ho and Salimans 2022): ``u + scale (c - u)``.

        Args:
            network: The raw network.
            x: Noised samples, N x ...
            level: [N].
            condition: Classes [N].
            scale: 1 is no guidance, and one call.
            nothing: The class that stands for none, of u.
        """
        guess = self.denoise(network, x, level, condition)
        if scale == 1.0:
            return guess
        plain = self.denoise(network, x, level, torch.full_like(condition, nothing))
        return plain + scale * (guess - plain)

    def few_steps(
        self,
        network: nn.Module,
        noise: Tensor,
        condition: Tensor | None,
        levels: Sequence[int],
        fresh_noise: Callable[[Tensor], Tensor],
    ) -> Tensor:
        """x0 by noising and denoising in turn (consistency sampling).

        Only the last call of the network is with gradient.

        Args:
            network: The raw network.
            noise: Standard normal, N x ...
            condition: Classes [N], or None.
            levels: One for each call, descending.
            fresh_noise: Makes standard normal noise like a tensor.
        """
        x = self.pure_noise(noise)
        with torch.no_grad():
            for step, following in pairwise(levels):
                clean = self.denoise_at(network, x, step, condition)
                level = torch.full((len(x),), following, device=x.device)
                x = self.add_noise(clean, level, fresh_noise(clean))
        return self.denoise_at(network, x, levels[-1], condition)

    def sample(
        self, network: nn.Module, noise: Tensor, condition: Tensor | None, steps: int
    ) -> Tensor:
        """Deterministic sampling: DDIM, which is Euler's rule for EDM.

        Args:
            network: The raw network.
            noise: Standard normal, N x ...
            condition: Classes [N], or None.
            steps: Evenly spaced steps from the last level to level 0; the network is
                called once more, at level 0.

        Returns:
            x0, N x ...
        """
        levels = torch.linspace(self.num_levels - 1, 0, steps + 1).round().long()
        x = self.pure_noise(noise)
        for step, following in pairwise(levels.tolist()):
            clean = self.denoise_at(network, x, step, condition)
            level = torch.full((len(x),), step, device=x.device)
            noise = self.noise_in(x, clean, level)
            x = self.add_noise(clean, torch.full_like(level, following), noise)
        return self.denoise_at(network, x, 0, condition)

    def network_inputs(self, x: Tensor, level: Tensor) -> tuple[Tensor, Tensor]:
        """What the raw network is fed: scaled x and time [N]."""
        raise NotImplementedError

    def matching_loss(
        self,
        network: nn.Module,
        x0: Tensor,
        level: Tensor,
        noise: Tensor,
        condition: Tensor | None,
    ) -> Tensor:
        """Denoising score matching, mean over all elements."""
        raise NotImplementedError


@MODELS.register_module()
class EDMProcess(NoiseProcess):
    """x = x0 + sigma * noise with EDM's preconditioning (Karras et al. 2022, table 1).

    D(x) = c_skip x + c_out F(c_in x, ln(sigma) / 4); levels are
    (s_min^(1/rho) + i / (T - 1) (s_max^(1/rho) - s_min^(1/rho)))^rho, ascending.

    Args:
        num_levels: T [1000, DMD2's code].
        sigma_min, sigma_max, rho, sigma_data: Of EDM [0.002, 80, 7, 0.5].
    """

    def __init__(
        self,
        num_levels: int = 1000,
        sigma_min: float = 0.002,
        sigma_max: float = 80.0,
        rho: float = 7.0,
        sigma_data: float = 0.5,
    ) -> None:
        super().__init__()
        low, high = sigma_min ** (1 / rho), sigma_max ** (1 / rho)
        ramp = torch.linspace(0, 1, num_levels, dtype=torch.float64)
        sigmas = (low + ramp * (high - low)) ** rho
        self.register_buffer("sigmas", sigmas.float(), persistent=False)
        self.num_levels, self.sigma_data = num_levels, sigma_data

    def _sigma(self, level: Tensor, like: Tensor) -> Tensor:
        return _spread(self.sigmas[level], like)

    def add_noise(self, x0: Tensor, level: Tensor, noise: Tensor) -> Tensor:
        """Returns x0 + sigma noise."""
        return x0 + self._sigma(level, x0) * noise

    def pure_noise(self, noise: Tensor) -> Tensor:
        """sigma_max * noise."""
        return noise * self.sigmas[-1]

    def noise_in(self, x: Tensor, x0: Tensor, level: Tensor) -> Tensor:
        """(x - x0) / sigma."""
        return (x - x0) / self._sigma(level, x)

    def network_inputs(self, x: Tensor, level: Tensor) -> tuple[Tensor, Tensor]:
        """Scales x to unit variance; the time is ln(sigma) / 4."""
        sigma = self._sigma(level, x)
        scaled = x / (sigma**2 + self.sigma_data**2).sqrt()
        return scaled, self.sigmas[level].log() / 4

    def denoise(
        self, network: nn.Module, x: Tensor, level: Tensor, condition: Tensor | None
    ) -> Tensor:
        """D(x)."""
        raw = network(*self.network_inputs(x, level), condition)
        sigma, data = self._sigma(level, x), self.sigma_data
        total = sigma**2 + data**2
        # Float32 also under autocast: c_skip x cancels against c_out F at high sigma.
        return data**2 / total * x.float() + sigma * data / total.sqrt() * raw.float()

    def matching_loss(
        self,
        network: nn.Module,
        x0: Tensor,
        level: Tensor,
        noise: Tensor,
        condition: Tensor | None,
    ) -> Tensor:
        """(1 / sigma^2 + 1 / sigma_data^2) (D - x0)^2."""
        guess = self.denoise(
            network, self.add_noise(x0, level, noise), level, condition
        )
        sigma = self._sigma(level, x0)
        return ((sigma**-2 + self.sigma_data**-2) * (guess - x0) ** 2).mean()


@MODELS.register_module()
class EpsProcess(NoiseProcess):
    """x = a x0 + s * noise, a^2 + s^2 = 1; the network predicts the noise (DDPM).

    The levels are Stable Diffusion's (``scaled_linear``: betas whose square roots are
    evenly spaced), as in diffusers' schedulers.

    Args:
        num_levels: T [1000].
        beta_start, beta_end: Variances of the first and last step [0.00085, 0.012].
    """

    def __init__(
        self,
        num_levels: int = 1000,
        beta_start: float = 0.00085,
        beta_end: float = 0.012,
    ) -> None:
        super().__init__()
        roots = torch.linspace(
            beta_start**0.5, beta_end**0.5, num_levels, dtype=torch.float64
        )
        kept = torch.cumprod(1 - roots**2, 0)
        self.register_buffer("a", kept.sqrt().float(), persistent=False)
        self.register_buffer("s", (1 - kept).sqrt().float(), persistent=False)
        self.num_levels = num_levels

    def add_noise(self, x0: Tensor, level: Tensor, noise: Tensor) -> Tensor:
        """Returns a x0 + s noise."""
        return _spread(self.a[level], x0) * x0 + _spread(self.s[level], x0) * noise

    def pure_noise(self, noise: Tensor) -> Tensor:
        """The noise itself."""
        return noise

    def noise_in(self, x: Tensor, x0: Tensor, level: Tensor) -> Tensor:
        """(x - a x0) / s."""
        return (x - _spread(self.a[level], x) * x0) / _spread(self.s[level], x)

    def network_inputs(self, x: Tensor, level: Tensor) -> tuple[Tensor, Tensor]:
        """Leaves x as it is; the time is the level's number."""
        return x, level

    def denoise(
        self, network: nn.Module, x: Tensor, level: Tensor, condition: Tensor | None
    ) -> Tensor:
        """(x - s eps) / a."""
        raw = network(*self.network_inputs(x, level), condition).float()
        # Near t = 999 a is 0.07: in bf16 the error would be larger than the image.
        return (x.float() - _spread(self.s[level], x) * raw) / _spread(self.a[level], x)

    def matching_loss(
        self,
        network: nn.Module,
        x0: Tensor,
        level: Tensor,
        noise: Tensor,
        condition: Tensor | None,
    ) -> Tensor:
        """(eps - noise)^2."""
        x = self.add_noise(x0, level, noise)
        raw = network(*self.network_inputs(x, level), condition)
        return ((raw.float() - noise) ** 2).mean()


def evenly(count: int, levels: int) -> tuple[int, ...]:
    """Levels of so many calls, from the last down: 999, 749, 499, 249 of 4 in 1000.

    Args:
        count: Calls.
        levels: How many levels there are.

    Raises:
        UserError: There are more calls than levels.
    """
    if not 0 < count <= levels:
        raise UserError(
            f"{count} steps cannot be taken in {levels} levels.",
            f"Take 1 to {levels}.",
        )
    return tuple(round(levels * (count - k) / count) - 1 for k in range(count))


def consistency(
    network: nn.Module,
    x: Tensor,
    sigma: Tensor,
    condition: Tensor | None,
    sigma_min: float = 0.002,
    sigma_data: float = 0.5,
) -> Tensor:
    """A consistency function, the identity at ``sigma_min`` (Song et al. 2023).

    ``c_skip x + c_out F(c_in x, ln(sigma) / 4)`` with c_skip = d^2 / ((sigma - m)^2 +
    d^2), c_out = d (sigma - m) / sqrt(sigma^2 + d^2), c_in = 1 / sqrt(sigma^2 + d^2).

    Args:
        network: F, ``(x, time, condition) -> x``.
        x: Samples at the levels, N x ...
        sigma: Levels, [N].
        condition: Of the network, or None.
        sigma_min: m, the least level.
        sigma_data: d, standard deviation of the data.

    Returns:
        The end points, N x ..., in float32.
    """
    s = _spread(sigma, x)
    total = (s**2 + sigma_data**2).sqrt()
    raw = network(x / total, sigma.log() / 4, condition).float()
    skip = sigma_data**2 / ((s - sigma_min) ** 2 + sigma_data**2)
    return skip * x.float() + sigma_data * (s - sigma_min) / total * raw


def ddim_step(
    x0: Tensor, eps: Tensor, alpha_next: Tensor | float, sigma_next: Tensor | float
) -> Tensor:
    """The deterministic step of DDIM: ``alpha_next x0 + sigma_next eps``.

    Args:
        x0: Guess of the clean samples, N x ...
        eps: Guess of the noise in them, N x ...
        alpha_next: Signal that the next level keeps; a number, or one a sample [N].
        sigma_next: Noise of the next level; likewise.

    Returns:
        The samples at the next level, N x ...
    """

    def spread(value: Tensor | float) -> Tensor | float:
        one_a_sample = isinstance(value, Tensor) and value.dim() == 1
        return _spread(value, x0) if one_a_sample else value

    return spread(alpha_next) * x0 + spread(sigma_next) * eps


@MODELS.register_module()
class CosineProcess(nn.Module):
    """x_t = cos(pi t / 2) x0 + sin(pi t / 2) eps at continuous times t in [0, 1].

    Args:
        predicts: What a raw network says: ``x0``, ``eps``, or ``v`` = a eps - s x0.
        last: Largest time that is used; at 1 nothing of x0 is left [0.99].
    """

    def __init__(self, predicts: str = "v", last: float = 0.99) -> None:
        super().__init__()
        one_of("CosineProcess", predicts=(predicts, ("x0", "eps", "v")))
        self.predicts, self.last = predicts, last

    def times(self, count: int, like: Tensor, first: float = 0.01) -> Tensor:
        """Uniform times from ``first`` to ``last``, [count]."""
        part = torch.rand(count, device=like.device)
        return first + (self.last - first) * part

    def clock(self, t: Tensor) -> Tensor:
        """What the raw network is told of times [N]."""
        return t

    def alpha(self, t: Tensor) -> Tensor:
        """Signal at times [...]."""
        return torch.cos(torch.pi / 2 * t)

    def sigma(self, t: Tensor) -> Tensor:
        """Noise at times [...]."""
        return torch.sin(torch.pi / 2 * t)

    def add_noise(self, x0: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        """x0 [N, ...] at times [N]."""
        return ddim_step(x0, noise, self.alpha(t), self.sigma(t))

    def both(
        self, raw: Tensor, x: Tensor, t: Tensor, least: float = 0.0
    ) -> tuple[Tensor, Tensor]:
        """x0 and eps, N x ..., from what the network said about x at times [N].

        Args:
            raw: Its answer, N x ...
            x: Noised samples, N x ...
            t: [N].
            least: What a smaller signal counts as where x0 comes from eps, by a
                division by the signal.

        Returns:
            Both in float32.
        """
        a, s = _spread(self.alpha(t), x), _spread(self.sigma(t), x)
        x, raw = x.float(), raw.float()
        if self.predicts == "v":
            return a * x - s * raw, s * x + a * raw
        if self.predicts == "x0":
            return raw, (x - a * raw) / s
        return (x - s * raw) / a.clamp(min=least), raw

    def denoise(
        self,
        network: nn.Module,
        x: Tensor,
        t: Tensor,
        condition: Tensor | None = None,
        least: float = 0.0,
    ) -> tuple[Tensor, Tensor]:
        """The network's x0 and eps of x at times [N], as :meth:`both`."""
        return self.both(network(x, self.clock(t), condition), x, t, least)

    def target(self, x0: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        """What the network should say."""
        if self.predicts == "v":
            return ddim_step(noise, -x0, self.alpha(t), self.sigma(t))
        return x0 if self.predicts == "x0" else noise

    def matching_loss(
        self, network: nn.Module, x0: Tensor, t: Tensor, noise: Tensor, condition=None
    ) -> Tensor:
        """Mean square error of what the network predicts."""
        raw = network(self.add_noise(x0, t, noise), self.clock(t), condition)
        return (raw.float() - self.target(x0, t, noise)).square().mean()

    @torch.no_grad()
    def sample(
        self, network: nn.Module, noise: Tensor, steps: int, condition=None
    ) -> Tensor:
        """DDIM in evenly spaced times from ``last`` to 0; ``steps`` calls.

        The last call's x0 is the sample: a schedule of diffusers still has noise at
        time 0 (sigma 0.029 in Stable Diffusion's).

        Args:
            network: ``(x, time, condition) -> x``.
            noise: Standard normal, N x ...
            steps: Calls of the network.
            condition: Of the network, or None.

        Returns:
            x0, N x ..., in float32.

        Raises:
            UserError: No step.
        """
        if steps < 1:
            raise UserError(
                f"{type(self).__name__}: no sample comes from {steps} steps.",
                "Set the steps to 1 or more.",
            )
        times = torch.linspace(self.last, 0, steps + 1, device=noise.device)[:-1]
        x0, eps = self.denoise(network, noise, times[:1].expand(len(noise)), condition)
        for t in times[1:]:
            x = ddim_step(x0, eps, self.alpha(t), self.sigma(t))
            x0, eps = self.denoise(network, x, t.expand(len(x)), condition)
        return x0


def _spread(values: Tensor, like: Tensor) -> Tensor:
    """[N] -> [N, 1, ...], to multiply ``like`` with."""
    return values.reshape(-1, *[1] * (like.dim() - 1))
