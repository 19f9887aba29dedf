"""RG-LCD: a few-step student of a guided teacher that is also pulled by a reward."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pld_mmdet.diffusion.networks.taught import TaughtDenoiser
from pld_mmdet.diffusion.processes.levels import ddim_step, evenly
from pld_mmdet.distill.ema import ema_update
from pld_mmdet.distill.losses import pseudo_huber
from pld_mmdet.distill.teachers import Averaged, Frozen, fixed
from pld_mmdet.errors import UserError, one_of
from pld_mmdet.registry import MODELS

LEVELS = 1000


@MODELS.register_module()
class RGLCD(TaughtDenoiser):
    r"""Reward guided latent consistency distillation (Li et al. 2024, 2403.11027).

    Level t of a grid, the level p before it, guidance w of each sample::

        f(z, t)  = c_skip(t) z + c_out(t) x0(z, w, c, t)                   student
        x0, eps  = x0_c + w (x0_c - x0_u), eps likewise                    teacher
        L_LCD    = mean sqrt(e^2 + h^2) - h,  e = f(z_t, t) - sg f_target(DDIM(z_t), p)
        L        = L_LCD - beta mean reward(f(z_t, t), c)

    The reward looks at the student's one-step output at any level: the expert on
    decoded images (``direct``), or a proxy that reads latents (``latent``). The proxy
    learns after each step of the student, on three latents: the student's, its target
    and the data's. Summed over the pairs of them::

        KL( softmax(expert_i, expert_j) || softmax(proxy_i, proxy_j) )

    As in the authors' code (Ji4chenLi/rg-lcd, cd17456, read for facts only); both
    networks step every iteration, the student first. Ordinary guidance of scale 1 + w.
    There both rewards together crash: here one word chooses.

    Args:
        process: Config of a ``CosineProcess`` or ``ScheduleProcess``.
        network: Config of teacher and student; it takes ``(condition, w)``, or the
            condition alone (the teacher).
        expert: Config of a frozen ``(images, targets) -> [N]`` reward [none].
        proxy: Config of a network ``(latents, targets) -> [N]`` that learns [none].
        reward: ``none`` (plain LCD), ``direct`` or ``latent``.
        beta: Weight of the reward [1].
        logit_scale: Of expert and proxy in the KL [1; CLIP's is in its logits].
        space: Config of the latent space [none: latents are the samples].
        conditioner: Config of a frozen network from ``targets`` to conditions, with
            ``nothing(count)`` [none: class numbers, ``num_classes`` stands for none].
        num_classes: Without a conditioner.
        drop: Share of samples whose condition the stage ``teacher`` leaves out [0.1].
        points: Levels of the grid [50].
        w: Range of the guidance [5, 15].
        huber: h [0.001]; 0 for the squared error.
        keep: Of the averaged target, every step [0.95].
        sample_levels: Of the calls while sampling [999, 499].
        sample_w: Guidance while sampling [the middle of ``w``].
        best_of: Samples of which the expert chooses one (the rival) [1].
        teacher: Config of a network with its own weights [the stage ``teacher``'s].
        predict_on: ``student``, or ``teacher`` in 50 unguided DDIM steps.

    Raises:
        UserError: A reward whose network is missing, or an unknown word.
    """

    def __init__(
        self,
        process: dict,
        network: dict,
        expert: dict | None = None,
        proxy: dict | None = None,
        reward: str = "none",
        beta: float = 1.0,
        logit_scale: float = 1.0,
        space: dict | None = None,
        conditioner: dict | None = None,
        num_classes: int = 0,
        drop: float = 0.1,
        points: int = 50,
        w: tuple[float, float] = (5.0, 15.0),
        huber: float = 0.001,
        keep: float = 0.95,
        sample_levels: Sequence[int] = (999, 499),
        sample_w: float | None = None,
        best_of: int = 1,
        teacher: dict | None = None,
        predict_on: str = "student",
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(process, network, teacher, init_cfg=init_cfg)
        one_of(
            "RGLCD",
            reward=(reward, ("none", "direct", "latent")),
            predict_on=(predict_on, ("student", "teacher")),
        )
        needs = {"direct": (expert,), "latent": (expert, proxy)}.get(reward, ())
        if not all(needs) or (best_of > 1 and expert is None):
            raise UserError(
                f"RGLCD: reward={reward!r}, best_of={best_of}: a network is missing.",
                "`direct` and best_of need model.expert, `latent` model.proxy as well.",
            )
        if LEVELS % points or not 0 <= w[0] <= w[1]:
            raise UserError(
                f"RGLCD: points={points}, w={tuple(w)}.",
                "points divide 1000, and 0 <= w[0] <= w[1].",
            )
        self.target = Averaged(self.student)
        self.expert = Frozen(MODELS.build(expert)) if expert else None
        self.proxy = MODELS.build(proxy) if proxy else None
        self.space = Frozen(MODELS.build(space)) if space else None
        self.conditioner = Frozen(MODELS.build(conditioner)) if conditioner else None
        self.reward, self.beta, self.logit_scale = reward, beta, logit_scale
        self.num_classes, self.drop, self.gap = num_classes, drop, LEVELS // points
        self.points, self.w, self.huber, self.keep = points, tuple(w), huber, keep
        self.sample_levels, self.best_of = tuple(sample_levels), best_of
        self.sample_w = sum(w) / 2 if sample_w is None else sample_w
        self.predict_on = predict_on

    def begin(self) -> None:
        """Student and averaged target begin as the teacher."""
        super().begin()
        if hasattr(self, "target"):
            self.target.network.load_state_dict(self.student.state_dict())

    def time(self, level: Tensor) -> Tensor:
        """Levels [N] as times of the process."""
        return (level / (LEVELS - 1)).clamp(max=self.process.last)

    def f(
        self, network: nn.Module, z: Tensor, level: Tensor, condition: tuple
    ) -> Tensor:
        """The consistency function of z at levels [N]; condition: (c, w)."""
        x0 = self.process.denoise(network, z, self.time(level), condition)[0]
        skip, out = boundary(level)
        return ddim_step(z.float(), x0, skip, out)

    def conditions(self, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Of targets [N, ...], and those of nothing."""
        if self.conditioner is None:
            return targets, torch.full_like(targets, self.num_classes)
        with torch.no_grad():
            nothing = self.conditioner.network.nothing(len(targets))
            return self.conditioner(targets), nothing

    def encode(self, images: Tensor) -> Tensor:
        """Latents, without gradient."""
        with torch.no_grad():
            return images if self.space is None else self.space.network.encode(images)

    def decode(self, z: Tensor) -> Tensor:
        """Images, with gradient."""
        return z if self.space is None else self.space.network.decode(z)

    def judged(self, z: Tensor, targets: Tensor) -> Tensor:
        """The expert's rewards of latents [N]; pixels are clamped to [0, 1]."""
        images = self.decode(z)
        if self.space is not None:
            images = images.clamp(0, 1)
        return self.expert(images, targets)

    def loss_teacher(self, inputs: Tensor, targets: Tensor, **_) -> dict[str, Tensor]:
        """Denoising of the future teacher; some conditions are left out."""
        z = self.encode(inputs)
        condition, nothing = self.conditions(targets)
        out = torch.rand(len(z), device=z.device) < self.drop
        out = out.reshape(-1, *[1] * (condition.dim() - 1))
        return super().loss_teacher(z, torch.where(out, nothing, condition))

    def guided_step(
        self, z: Tensor, level: Tensor, before: Tensor, w: Tensor, targets: Tensor
    ) -> Tensor:
        """The teacher's guided DDIM step of z from one level to another, [N] each."""
        t, s = self.time(level), self.time(before)
        condition, nothing = self.conditions(targets)
        x0, eps = self.process.denoise(self.teacher, z, t, condition)
        plain_x0, plain_eps = self.process.denoise(self.teacher, z, t, nothing)
        more = w.reshape(-1, *[1] * (z.dim() - 1))
        x0, eps = x0 + more * (x0 - plain_x0), eps + more * (eps - plain_eps)
        return ddim_step(x0, eps, self.process.alpha(s), self.process.sigma(s))

    def student_losses(
        self, inputs: Tensor, targets: Tensor
    ) -> tuple[dict[str, Tensor], Tensor]:
        """Consistency and reward; and the three latents of each sample, detached.

        Returns:
            The losses, and [N, 3, ...]: student, target, data.
        """
        z = self.encode(inputs)
        number = torch.randint(self.points, (len(z),), device=z.device)
        level = (number + 1) * self.gap - 1
        before = (level - self.gap).clamp(min=0)
        low, high = self.w
        w = low + (high - low) * torch.rand(len(z), device=z.device)
        noise = torch.randn_like(z)
        noised = self.process.add_noise(z, self.time(level), noise)
        condition = self.conditions(targets)[0]
        with torch.no_grad():
            stepped = self.guided_step(noised, level, before, w, targets)
            goal = self.f(self.target, stepped, before, (condition, w))
        guess = self.f(self.student, noised, level, (condition, w))
        error = guess - goal
        far = pseudo_huber(error, self.huber, "element") if self.huber else error**2
        losses = {"loss_lcd": far.mean()}
        if self.reward == "direct":
            gain = self.judged(guess, targets).mean()
            losses["loss_reward"] = -self.beta * gain
        elif self.reward == "latent":
            with fixed(self.proxy):
                gain = self.proxy(guess, targets).mean()
            losses["loss_reward"] = -self.beta * gain
        return losses, torch.stack([guess.detach(), goal, z], 1)

    def step_distill(self, batch: dict, optim_wrapper) -> dict[str, Tensor]:
        """The student's step, its average, then the proxy's step."""
        self.need_teacher()
        inputs, targets = batch["inputs"], batch["targets"]
        three: list[Tensor] = []

        def student() -> dict[str, Tensor]:
            losses, latents = self.student_losses(inputs, targets)
            three.append(latents)
            return losses

        logs = self.step(optim_wrapper, student, "student")
        ema_update(self.target.network, self.student, self.keep)
        if self.reward != "latent":
            return logs
        logs = {f"student_{k}": v for k, v in logs.items() if k != "loss"}
        return logs | self.step(
            optim_wrapper, lambda: self.proxy_losses(three[0], targets), "proxy"
        )

    def proxy_losses(self, latents: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """The proxy learns the expert's preferences: latents [N, 3, ...]."""
        with torch.no_grad():
            expert = [self.judged(z, targets) for z in latents.unbind(1)]
        proxy = [self.proxy(z, targets) for z in latents.unbind(1)]
        scale = self.logit_scale
        loss = pair_kl(scale * torch.stack(expert, 1), scale * torch.stack(proxy, 1))
        return {"loss_proxy": loss}

    def predict(
        self, inputs: Tensor, index: Tensor, targets: Tensor, **_
    ) -> list[dict]:
        """As many samples as there are inputs, with the expert's scores.

        The noise depends on ``index`` only, so an evaluation can be repeated.
        """
        dice = torch.Generator().manual_seed(int(index[0]))
        shape, condition = self.encode(inputs).shape, self.conditions(targets)[0]

        def noise() -> Tensor:
            return torch.randn(shape, generator=dice).to(inputs)

        rounds = [self._sample(noise, condition) for _ in range(self.best_of)]
        z = rounds[0]
        if self.best_of > 1:
            scores = torch.stack([self.judged(one, targets) for one in rounds])
            z = torch.stack(rounds)[scores.argmax(0), torch.arange(len(z))]
        answer = {"samples": self.decode(z), "references": inputs}
        if self.expert is not None:
            answer["expert"] = self.judged(z, targets)
            true = getattr(self.expert.network, "true", None)
            if true is not None:  # a toy's: what the expert was fitted to
                answer["true"] = true(z, targets)
        return [answer]

    def in_steps(self, count: int) -> None:
        """Sample in so many calls of the student."""
        self.sample_levels = evenly(count, LEVELS)

    def _sample(self, noise, condition: Tensor) -> Tensor:
        making = self.progress.stage == "teacher"
        if making or self.predict_on == "teacher":
            network = self.student if making else self.teacher
            return self.process.sample(network, noise(), 50, condition)
        z = noise()
        w = z.new_full((len(z),), self.sample_w)
        for number, level in enumerate(self.sample_levels):
            at = z.new_full((len(z),), level)
            if number:
                z = self.process.add_noise(z, self.time(at), noise())
            z = self.f(self.student, z, at, (condition, w))
        return z


def boundary(level: Tensor) -> tuple[Tensor, Tensor]:
    """c_skip and c_out of integer levels [N]: 1 and 0 at level 0.

    ``0.25 / ((10 t)^2 + 0.25)`` and ``10 t / sqrt((10 t)^2 + 0.25)`` (LCM).
    """
    place = 10.0 * level
    total = place**2 + 0.25
    return 0.25 / total, place / total.sqrt()


def pair_kl(expert: Tensor, proxy: Tensor) -> Tensor:
    """KL(expert || proxy) of the pairs (0, 1), (0, 2), (1, 2), summed; a batch's mean.

    Args:
        expert: Logits [N, 3]; no gradient.
        proxy: Logits [N, 3].

    Returns:
        A scalar; 0 with a gradient path where N is 0.
    """
    total = proxy.sum() * 0
    for pair in ([0, 1], [0, 2], [1, 2]):
        log_p = expert[:, pair].detach().log_softmax(1)
        log_q = proxy[:, pair].log_softmax(1)
        total = total + F.kl_div(log_q, log_p, reduction="sum", log_target=True)
    return total / max(len(proxy), 1)
