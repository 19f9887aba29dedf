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
instead of being zeroed afterwards, a frozen teacher is never unfrozen, and where the
teacher returns the sample itself the correction is 0 (theirs: the largest float).
"""

from collections.abc import Sequence

import torch
from mmengine.dist import broadcast
from torch import Tensor, nn
from torch.nn import functional as F

from pld_mmdet.diffusion.networks.denoisers import Critic, check_classes, start_from
from pld_mmdet.diffusion.processes.levels import evenly
from pld_mmdet.diffusion.processes.losses import score_gradient_loss
from pld_mmdet.distill.teachers import Frozen, fixed
from pld_mmdet.engine.run.method import Method
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
    return score_gradient_loss(x, step) / (2 * x.numel())


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

    retired_state = ("iteration",)

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
        self._taught = teacher is not None
        self.num_classes, self.guidance = num_classes, guidance
        self.generator_interval = generator_interval
        self.denoising_steps = tuple(denoising_steps)
        self.gan_weight, self.critic_gan_weight = gan_weight, critic_gan_weight
        levels = self.process.num_levels
        self.lowest, highest = (round(part * levels) for part in level_range)
        self.highest = min(highest, levels - 1)
        self.predict_on, self.teacher_steps = predict_on, teacher_steps
        self._copy_teacher()

    def init_weights(self) -> None:
        """Generator and fake score network begin as the teacher."""
        super().init_weights()
        self._copy_teacher()

    def start_stage(self, name: str, loader: object, folder: object) -> None:
        """The denoiser of the stage before becomes the teacher."""
        if name == "distill" and not self._taught:
            self.real.network.load_state_dict(self.generator.state_dict())
            self._taught = True
            self._copy_teacher()

    def _copy_teacher(self) -> None:
        if self._taught:
            networks = self.generator, self.critic.network
            owner, name = type(self).__name__, "model.denoiser"
            start_from(self.real.network, *networks, owner=owner, name=name)

    def check_data(self, dataset: object) -> None:
        """Refuse data of other classes than the teacher's."""
        check_classes(self, dataset)

    def loss_teacher(self, inputs: Tensor, targets: Tensor | None = None, **_) -> dict:
        """Score matching of the future teacher."""
        condition = targets if self.num_classes else None
        return {"loss_teacher": self._matching(self.generator, inputs, condition)}

    def step_distill(self, batch: dict, optim_wrapper) -> dict[str, Tensor]:
        """One iteration: the critic always steps, the generator every r-th time."""
        iteration = self.progress.known().step
        if not (iteration or self._taught):
            raise UserError(
                "DMD2 has no teacher: model.teacher is None, and no stage trained one.",
                "Set model.teacher, or train with StagedLoop and a stage `teacher`.",
            )
        turn = iteration % self.generator_interval == 0
        return self._both(batch, optim_wrapper, turn)

    def critic_step(self, batch: dict, optim_wrapper) -> dict[str, Tensor]:
        """One step of the critic alone, on what the generator makes."""
        return self._both(batch, optim_wrapper, False)

    def _both(self, batch: dict, optim_wrapper, turn: bool) -> dict[str, Tensor]:
        """The critic steps, before it the generator where it is its turn."""
        real, condition, made = batch["inputs"], None, []
        classes = self.num_classes
        if classes:
            condition = torch.randint(classes, (len(real),), device=real.device)

        def generator() -> dict[str, Tensor]:
            with torch.set_grad_enabled(turn):
                made.append(self.generate(torch.randn_like(real), condition))
                return self.generator_losses(made[0], condition) if turn else {}

        def critic() -> dict[str, Tensor]:
            labels = batch.get("targets") if classes else None
            return self.critic_losses((made[0].detach(), condition), (real, labels))

        logs = self.step(optim_wrapper, generator, "generator")
        logs = {f"generator_{k}": v for k, v in logs.items() if k != "loss"}
        return logs | self.step(optim_wrapper, critic, "critic")

    def target(self) -> nn.Module:
        """The network whose distribution the generator follows."""
        return self.real

    def generate(self, noise: Tensor, condition: Tensor | None) -> Tensor:
        """Samples x0 from standard normal noise, the last call with gradient.

        With several levels this is backward simulation: one of them is drawn, the same
        on all processes, and its input is what the generator itself makes of noise.
        """
        draw = torch.randint(len(self.denoising_steps), (1,), device=noise.device)
        broadcast(draw)
        levels = self.denoising_steps[: int(draw) + 1]
        return self.process.few_steps(
            self.generator, noise, condition, levels, torch.randn_like
        )

    def generator_losses(self, fake: Tensor, condition: Tensor | None) -> dict:
        """Distribution matching and GAN terms; the critic gets no gradient."""
        level = self._levels(fake, self.lowest, self.highest + 1)
        with torch.no_grad():
            noised = self.process.add_noise(fake, level, torch.randn_like(fake))
            d_real = self.process.guided(
                self.target(), noised, level, condition, self.guidance, self.num_classes
            )
            d_fake = self.process.denoise(self.critic, noised, level, condition)
        losses = {"loss_dm": distribution_matching_loss(fake, d_real, d_fake)}
        if self.gan_weight:
            with fixed(self.critic):
                logits = self._logits(fake, condition)
            losses["loss_gan"] = self.gan_weight * F.softplus(-logits).mean()
        return losses

    def critic_losses(self, fake: tuple, real: tuple) -> dict:
        """Score matching on generated samples, and telling them from real ones.

        Args:
            fake: Samples, detached, and their classes or None.
            real: The same of the data.
        """
        losses = {"loss_score": self._matching(self.critic, *fake)}
        if self.gan_weight:
            gan = gan_losses(self._logits(*fake), self._logits(*real))
            losses["loss_gan"] = self.critic_gan_weight * gan
        return losses

    def predict(
        self, inputs: Tensor, index: Tensor, targets: Tensor | None = None, **_
    ) -> list[dict]:
        """As many samples as there are inputs, beside the inputs.

        The noise depends on ``index`` only, so an evaluation can be repeated.
        """
        dice = torch.Generator().manual_seed(int(index[0]))

        def fresh(like: Tensor) -> Tensor:
            return torch.randn(like.shape, generator=dice).to(like)

        noise, condition = fresh(inputs), targets if self.num_classes else None
        process, steps = self.process, self.denoising_steps
        if self.predict_on == "generator":
            samples = process.few_steps(self.generator, noise, condition, steps, fresh)
        else:  # in the stage `teacher` it is still being made
            making = self.progress.stage == "teacher"
            network = self.generator if making else self.real
            samples = process.sample(network, noise, condition, self.teacher_steps)
        return [{"samples": samples, "references": inputs}]

    def in_steps(self, count: int) -> None:
        """Sample in so many calls of the network that answers."""
        if self.predict_on == "teacher" or self.progress.stage == "teacher":
            self.teacher_steps = count
        else:
            self.denoising_steps = evenly(count, self.process.num_levels)

    def _matching(self, network: nn.Module, x0: Tensor, condition) -> Tensor:
        level = self._levels(x0, 0, self.process.num_levels)
        noise = torch.randn_like(x0)
        return self.process.matching_loss(network, x0, level, noise, condition)

    def _logits(self, x0: Tensor, condition: Tensor | None) -> Tensor:
        level = self._levels(x0, 0, self.process.num_levels)
        noised = self.process.add_noise(x0, level, torch.randn_like(x0))
        inputs = self.process.network_inputs(noised, level)
        return self.critic.logits(*inputs, condition)

    def _levels(self, x: Tensor, low: int, high: int) -> Tensor:
        return torch.randint(low, high, (len(x),), device=x.device)
