"""DMD2: a one- to four-step generator from a diffusion teacher (Yin et al. 2024).

Improved Distribution Matching Distillation for Fast Image Synthesis,
https://arxiv.org/abs/2405.14867; settings of the official code (tianweiy/DMD2, read for
facts only). Iteration k, ratio r::

    x = G(noise)                                   # gradient if k mod r = 0
    if k mod r = 0:                                # the generator's turn
        g   = (D_fake(x_t) - D_real(x_t)) / mean|x - D_real(x_t)|
        L_G = 0.5 mean (x - sg[x - g])^2 + w_G mean softplus(-logit(x_t'))
    L_D = score matching of D_fake on sg[x]        # every iteration
          + w_D (mean softplus(logit(x_t)) + mean softplus(-logit(real_t')))

Deviations from the official code: the critic's gradients are left alone by ``fixed``
instead of being zeroed afterwards, and a frozen teacher is never unfrozen.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
from mmengine.dist import broadcast
from torch import Tensor, nn
from torch.nn import functional as F

from pld_mmdet.diffusion.networks import Critic
from pld_mmdet.distill.teachers import Frozen, fixed
from pld_mmdet.engine.method import Method
from pld_mmdet.errors import UserError, one_of
from pld_mmdet.registry import MODELS


def distribution_matching_loss(x: Tensor, real: Tensor, fake: Tensor) -> Tensor:
    """0.5 mean (x - sg[x - g])^2 with g = (fake - real) / mean|x - real|.

    Its gradient is g / numel: the difference of two scores, where the mean is taken
    over each sample alone (DMD2, equation 2 and the official code).

    Args:
        x: Generated samples, N x ...
        real: The teacher's x0 of the noised samples.
        fake: The fake score network's x0 of them.
    """
    with torch.no_grad():
        scale = (x - real).abs().flatten(1).mean(1).reshape(-1, *[1] * (x.dim() - 1))
        # 0 / 0 where the teacher returns the sample itself: nothing to correct.
        step = torch.nan_to_num((fake - real) / scale, nan=0.0, posinf=0.0, neginf=0.0)
    return 0.5 * F.mse_loss(x, x.detach() - step)


def gan_losses(fake: Tensor, real: Tensor) -> Tensor:
    """The critic's mean softplus(fake logits) + mean softplus(-real logits)."""
    return F.softplus(fake).mean() + F.softplus(-real).mean()


@MODELS.register_module()
class DMD2(Method):
    """Teacher, fake score network with discriminator head, generator.

    The optimizer wrapper needs the parts ``generator`` and ``critic``
    (``pld_mmdet.PartsOptimConstructor``). Without weights of its own the teacher comes
    from ``StagedLoop``: a stage of the name ``teacher`` trains the generator as a
    denoiser, and the next one starts with copies of it. ``model_wrapper_cfg =
    dict(type='PartsParallel')`` for several processes.

    Batches hold real samples ``inputs`` and, with classes, ``targets``.

    Args:
        process: Config of a ``NoiseProcess``: ``EDMProcess`` or ``EpsProcess``.
        denoiser: Config of the network of generator and critic.
        head: Config of the discriminator head.
        bottleneck: Submodule of the network whose output the head sees.
        teacher: Config of a network that brings its own weights, of the same
            architecture. None: what the stage ``teacher`` made [None].
        num_classes: Conditions are class numbers below this; 0 for none [0].
        generator_interval: r: critic steps for one generator step [5; SD 1.5: 10].
        denoising_steps: Levels of the generator, from noise to image [999]. More than
            one switches backward simulation on [SDXL: 999, 749, 499, 249].
        gan_weight: w_G [3e-3; SD 1.5: 1e-3, SDXL: 5e-3]. 0 for none.
        critic_gan_weight: w_D [1e-2].
        level_range: Part of the levels on which the generator is corrected
            [0.02, 0.98]; the critic learns on all of them.
        guidance: Classifier-free guidance of the teacher [1: none; SD 1.5: 1.75,
            SDXL: 8]. The unconditional class has the number ``num_classes``.
        predict_on: ``generator``, or ``teacher`` with ``teacher_steps`` DDIM steps.
        teacher_steps: Of the teacher's deterministic sampler [40].
    """

    def __init__(
        self,
        process: dict,
        denoiser: dict,
        head: dict,
        bottleneck: str,
        teacher: dict | None = None,
        num_classes: int = 0,
        generator_interval: int = 5,
        denoising_steps: Sequence[int] = (999,),
        gan_weight: float = 3e-3,
        critic_gan_weight: float = 1e-2,
        level_range: tuple[float, float] = (0.02, 0.98),
        guidance: float = 1.0,
        predict_on: str = "generator",
        teacher_steps: int = 40,
        data_preprocessor: dict | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(data_preprocessor=data_preprocessor, init_cfg=init_cfg)
        if guidance != 1.0 and not num_classes:
            raise UserError(
                "DMD2: guidance needs conditions, and num_classes is 0.",
                "Set num_classes, or guidance=1.0.",
            )
        one_of("DMD2", predict_on=(predict_on, ("generator", "teacher")))
        self.process = MODELS.build(process)
        self.generator = MODELS.build(denoiser)
        self.critic = Critic(MODELS.build(denoiser), MODELS.build(head), bottleneck)
        self.real = Frozen(MODELS.build(teacher or denoiser))
        self.own_teacher = teacher is not None
        self.num_classes = num_classes
        self.generator_interval = generator_interval
        self.denoising_steps = tuple(denoising_steps)
        self.gan_weight, self.critic_gan_weight = gan_weight, critic_gan_weight
        levels = self.process.num_levels
        self.lowest, self.highest = (round(part * levels) for part in level_range)
        self.guidance = guidance
        self.predict_on, self.teacher_steps = predict_on, teacher_steps
        self.stage, self._taught = "distill", self.own_teacher
        # In the checkpoint: a resumed run keeps the rhythm of the turns.
        self.register_buffer("iteration", torch.zeros((), dtype=torch.long))

    def enter_stage(self, name: str) -> None:
        """Told by ``StagedLoop``: ``teacher``, or any other name for DMD2 itself."""
        self.stage = name

    def start_stage(self, name: str, loader: object, folder: object) -> None:
        """The denoiser of the stage before becomes the teacher."""
        if name != "teacher" and not self.own_teacher:
            self.real.network.load_state_dict(self.generator.state_dict())
            self._taught = True

    def loss(self, inputs: Tensor, targets: Tensor | None = None, **_) -> dict:
        """Score matching of the future teacher (stage ``teacher``)."""
        condition = targets if self.num_classes else None
        return {"loss_teacher": self._matching(self.generator, inputs, condition)}

    def train_step(self, data: dict, optim_wrapper) -> dict[str, Tensor]:
        """One iteration: the critic always steps, the generator every r-th time."""
        if self.stage == "teacher":
            return super().train_step(data, optim_wrapper)
        batch = self.data_preprocessor(data, True)
        real = batch["inputs"]
        iteration = int(self.iteration)
        if iteration == 0:
            self._start()
        condition = self._draw_condition(real)
        turn = iteration % self.generator_interval == 0
        logs = {}
        wrapper = optim_wrapper["generator"]
        with wrapper.optim_context(self), torch.set_grad_enabled(turn):
            fake = self.generate(torch.randn_like(real), condition)
            losses = self.generator_losses(fake, condition) if turn else None
        if turn:
            total, logged = self.parse_losses(losses)
            wrapper.update_params(total)
            logs |= {f"generator_{k}": v for k, v in logged.items() if k != "loss"}
        wrapper = optim_wrapper["critic"]
        with wrapper.optim_context(self):
            losses = self.critic_losses(
                fake.detach(), condition, real, batch.get("targets")
            )
        total, logged = self.parse_losses(losses)
        wrapper.update_params(total)
        self.iteration += 1
        return logs | logged

    def generate(self, noise: Tensor, condition: Tensor | None) -> Tensor:
        """Samples x0 from standard normal noise, the last call with gradient.

        With several levels this is backward simulation: one of them is drawn, the same
        on all processes, and its input is what the generator itself makes of noise.
        """
        draw = torch.randint(len(self.denoising_steps), (1,), device=noise.device)
        broadcast(draw)
        return self._denoise_until(int(draw), noise, condition, torch.randn_like)

    def _denoise_until(self, last: int, noise, condition, fresh_noise) -> Tensor:
        """x0 at ``denoising_steps[last]``; the calls before it are without gradient."""
        x = self.process.pure_noise(noise)
        with torch.no_grad():
            for step, following in zip(
                self.denoising_steps[:last],
                self.denoising_steps[1 : last + 1],
                strict=True,
            ):
                clean = self._denoise(self.generator, x, step, condition)
                level = torch.full((len(x),), following, device=x.device)
                x = self.process.add_noise(clean, level, fresh_noise(clean))
        step = self.denoising_steps[last]
        return self._denoise(self.generator, x, step, condition)

    def generator_losses(self, fake: Tensor, condition: Tensor | None) -> dict:
        """Distribution matching and GAN terms; the critic gets no gradient."""
        level = self._levels(fake, self.lowest, self.highest + 1)
        with torch.no_grad():
            noised = self.process.add_noise(fake, level, torch.randn_like(fake))
            d_real = self._guided(noised, level, condition)
            d_fake = self.process.denoise(self.critic, noised, level, condition)
        losses = {"loss_dm": distribution_matching_loss(fake, d_real, d_fake)}
        if self.gan_weight:
            with fixed(self.critic):
                logits = self._logits(fake, condition)
            losses["loss_gan"] = self.gan_weight * F.softplus(-logits).mean()
        return losses

    def critic_losses(
        self,
        fake: Tensor,
        condition: Tensor | None,
        real: Tensor,
        targets: Tensor | None,
    ) -> dict:
        """Score matching on generated samples, and telling them from real ones."""
        losses = {"loss_score": self._matching(self.critic, fake, condition)}
        if self.gan_weight:
            logits = self._logits(fake, condition)
            theirs = self._logits(real, targets if self.num_classes else None)
            losses["loss_gan"] = self.critic_gan_weight * gan_losses(logits, theirs)
        return losses

    def predict(
        self,
        inputs: Tensor,
        index: Tensor,
        targets: Tensor | None = None,
        **_,
    ) -> list[dict]:
        """As many samples as there are inputs, beside the inputs.

        The noise depends on ``index`` only, so an evaluation can be repeated.
        """
        dice = torch.Generator().manual_seed(int(index[0]))

        def fresh(like: Tensor) -> Tensor:
            return torch.randn(like.shape, generator=dice).to(like)

        condition = targets if self.num_classes else None
        if self.predict_on == "teacher":
            samples = self._teacher_samples(fresh(inputs), condition)
        else:
            last = len(self.denoising_steps) - 1
            samples = self._denoise_until(last, fresh(inputs), condition, fresh)
        return [{"samples": samples, "references": inputs}]

    def _teacher_samples(self, noise: Tensor, condition: Tensor | None) -> Tensor:
        """Deterministic DDIM steps of the teacher (EDM: Euler)."""
        network = self.generator if self.stage == "teacher" else self.real
        steps = torch.linspace(self.process.num_levels - 1, 0, self.teacher_steps + 1)
        steps = steps.round().long().tolist()
        x = self.process.pure_noise(noise)
        for step, following in pairwise(steps):
            clean = self._denoise(network, x, step, condition)
            level = torch.full((len(x),), step, device=x.device)
            noise = self.process.noise_in(x, clean, level)
            level = torch.full_like(level, following)
            x = self.process.add_noise(clean, level, noise)
        return self._denoise(network, x, steps[-1], condition)

    def _start(self) -> None:
        """Generator and fake score network become copies of the teacher."""
        if not self._taught:
            raise UserError(
                "DMD2 has no teacher: model.teacher is None, and no stage trained one.",
                "Set model.teacher, or train with StagedLoop and a stage `teacher`.",
            )
        weights = self.real.network.state_dict()
        for network in (self.generator, self.critic.network):
            network.load_state_dict(weights)

    def _matching(
        self, network: nn.Module, x0: Tensor, condition: Tensor | None
    ) -> Tensor:
        level = self._levels(x0, 0, self.process.num_levels)
        noise = torch.randn_like(x0)
        return self.process.matching_loss(network, x0, level, noise, condition)

    def _logits(self, x0: Tensor, condition: Tensor | None) -> Tensor:
        level = self._levels(x0, 0, self.process.num_levels)
        noised = self.process.add_noise(x0, level, torch.randn_like(x0))
        inputs = self.process.network_inputs(noised, level)
        return self.critic.logits(*inputs, condition)

    def _guided(self, x: Tensor, level: Tensor, condition: Tensor | None) -> Tensor:
        """The teacher's x0; only the teacher is guided."""
        guess = self.process.denoise(self.real, x, level, condition)
        if self.guidance == 1.0:
            return guess
        nothing = torch.full_like(condition, self.num_classes)
        plain = self.process.denoise(self.real, x, level, nothing)
        return plain + self.guidance * (guess - plain)

    def _denoise(self, network, x: Tensor, step: int, condition) -> Tensor:
        level = torch.full((len(x),), step, device=x.device)
        return self.process.denoise(network, x, level, condition)

    def _levels(self, x: Tensor, low: int, high: int) -> Tensor:
        return torch.randint(low, high, (len(x),), device=x.device)

    def _draw_condition(self, like: Tensor) -> Tensor | None:
        if not self.num_classes:
            return None
        return torch.randint(self.num_classes, (len(like),), device=like.device)
