"""YONOS-SR: super-resolution in one step; each scale's teacher is the easier scale."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pld_mmdet.diffusion.dmd2 import gan_losses
from pld_mmdet.diffusion.networks.taught import TaughtDenoiser
from pld_mmdet.distill.teachers import fixed
from pld_mmdet.errors import UserError, one_of
from pld_mmdet.registry import MODELS


@MODELS.register_module()
class YonosSR(TaughtDenoiser):
    r"""Scale distillation (Noroozi et al. 2024, arXiv 2401.17258).

    Stages, x_l^N the image shrunk N times and enlarged again::

        teacher   mean |z_theta(z_t, E(x_l^(N/2)), t) - z_h|^2             ground truth
        distill   mean |z_theta(z_t, E(x_l^N), t) - sg z_phi(z_t, E(x_l^(N/2)), t)|^2
        decoder   the network rests; z = z_theta(z_T, E(x_l^N), T), one call:
                  mean |D(z) - x_h| + gan mean softplus(-logit(D(z)))

    One z_t for student and teacher; the teacher is asked once, at this t. The student
    begins as the teacher. The student's small image is computed from the teacher's
    (both are averages), or an error of its own would look like one of the method.

    No code of the authors exists (SamsungLabs/yonos holds a title). w(lambda) is 1, and
    that the student begins as the teacher is second-hand. For a squared loss and such a
    pyramid E[z_phi | z_t, x_l^N] = E[z_h | z_t, x_l^N]: teacher and ground truth have
    one best student, so PSNR cannot gain; targets of the teacher vary less.

    Args:
        process: Config of a ``CosineProcess`` or ``ScheduleProcess``.
        network: ``(z_t, t, z_l) -> raw``: ``pld_mmdet.Beside`` puts z_l into channels.
        space: Config of the latent space: ``PixelSpace`` or ``LatentSpace``.
        scale: N, of the student [4].
        target: Of the stage ``distill``: ``teacher``, or ``truth`` (the rival).
        critic: Config of the patch discriminator of the stage ``decoder``, images ->
            logits [none].
        gan: Its weight for the decoder [0.01].
        teacher: Config of a network with its own weights [the stage ``teacher``'s].
        start: The student begins as the ``teacher``, or ``random``.
        steps: Calls of the network while sampling [1: at the last time].
        predict_on: ``student`` at its scale, or ``teacher`` at half of it.

    Raises:
        UserError: A scale that is no even number, or an unknown word.
    """

    def __init__(
        self,
        process: dict,
        network: dict,
        space: dict,
        scale: int = 4,
        target: str = "teacher",
        critic: dict | None = None,
        gan: float = 0.01,
        teacher: dict | None = None,
        start: str = "teacher",
        steps: int = 1,
        predict_on: str = "student",
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(
            process, network, teacher, start == "random", init_cfg=init_cfg
        )
        one_of(
            "YonosSR",
            target=(target, ("teacher", "truth")),
            start=(start, ("teacher", "random")),
            predict_on=(predict_on, ("student", "teacher")),
        )
        if scale < 2 or scale % 2 or steps < 1:
            raise UserError(
                f"YonosSR: scale={scale}, steps={steps}.",
                "The scale is even (its teacher has half of it), steps is at least 1.",
            )
        self.space = MODELS.build(space)
        self.critic = MODELS.build(critic) if critic else None
        self.scale, self.aim, self.gan, self.steps = scale, target, gan, steps
        self.predict_on = predict_on

    def condition(self, images: Tensor, factor: int) -> Tensor:
        """E(x_l): images N x C x H x W, shrunk by ``factor`` and enlarged again."""
        with torch.no_grad():
            return self.space.encode(enlarged(shrunk(images, factor), factor))

    def clean(self, network: nn.Module, z: Tensor, t: Tensor, low: Tensor) -> Tensor:
        """A network's z_h of z at times [N]."""
        return self.process.denoise(network, z, t, low)[0]

    def loss_teacher(self, inputs: Tensor, **_) -> dict[str, Tensor]:
        """The easier scale, from ground truth."""
        return {"loss_teacher": self._match(inputs, self.scale // 2, None)}

    def loss_distill(self, inputs: Tensor, **_) -> dict[str, Tensor]:
        """This scale, from the teacher's answers at the same z_t."""
        self.need_teacher()
        easier = self.scale // 2 if self.aim == "teacher" else None
        return {"loss_scale": self._match(inputs, self.scale, easier)}

    def step_decoder(self, batch: dict, optim_wrapper) -> dict[str, Tensor]:
        """The decoder's step, then the discriminator's."""
        images = batch["inputs"]
        made: list[Tensor] = []
        adversary = self.critic is not None and self.gan > 0

        def decoder() -> dict[str, Tensor]:
            noise = torch.randn_like(images if self.space.same else self._z(images))
            made.append(self.space.decode(self.restored(images, noise, 1)))
            losses = {"loss_l1": (made[0] - images).abs().mean()}
            if adversary:
                with fixed(self.critic):
                    logits = self.critic(made[0])
                losses["loss_gan"] = self.gan * F.softplus(-logits).mean()
            return losses

        def critic() -> dict[str, Tensor]:
            told = gan_losses(self.critic(made[0].detach()), self.critic(images))
            return {"loss_critic": told}

        logs = self.step(optim_wrapper, decoder, "space")
        if not adversary:
            return logs
        logs = {f"decoder_{k}": v for k, v in logs.items() if k != "loss"}
        return logs | self.step(optim_wrapper, critic, "critic")

    def in_steps(self, count: int) -> None:
        """Sample in so many calls of the network."""
        self.steps = count

    @torch.no_grad()
    def restored(self, images: Tensor, noise: Tensor, steps: int) -> Tensor:
        """Latents made from nothing but the shrunk images and noise."""
        scale, network = self.scale, self.student
        if self.predict_on == "teacher":
            scale, network = scale // 2, self.teacher
        low = self.condition(images, scale)
        return self.process.sample(network, noise, steps, low)

    def predict(self, inputs: Tensor, index: Tensor, **_) -> list[dict]:
        """Enlarged images beside the true ones; the noise depends on ``index`` only."""
        dice = torch.Generator().manual_seed(int(index[0]))
        shape = inputs.shape if self.space.same else self._z(inputs).shape
        noise = torch.randn(shape, generator=dice).to(inputs)
        if self.progress.stage == "teacher":  # no x N model yet
            low = self.condition(inputs, self.scale // 2)
            z = self.process.sample(self.student, noise, self.steps, low)
        else:
            z = self.restored(inputs, noise, self.steps)
        images = self.space.decode(z).clamp(0, 1)
        return [{"samples": images, "references": inputs}]

    def _z(self, images: Tensor) -> Tensor:
        with torch.no_grad():
            return self.space.encode(images)

    def _match(self, images: Tensor, scale: int, easier: int | None) -> Tensor:
        z = self._z(images)
        t = self.process.times(len(z), z)
        noised = self.process.add_noise(z, t, torch.randn_like(z))
        goal = z
        if easier is not None:
            with torch.no_grad():
                low = self.condition(images, easier)
                goal = self.clean(self.teacher, noised, t, low)
        guess = self.clean(self.student, noised, t, self.condition(images, scale))
        return (guess - goal).square().mean()


def shrunk(images: Tensor, factor: int) -> Tensor:
    """Means of ``factor`` x ``factor`` pixels, N x C x H x W.

    Raises:
        UserError: Height or width is no multiple.
    """
    if images.shape[-1] % factor or images.shape[-2] % factor:
        size = " x ".join(map(str, images.shape[-2:]))
        raise UserError(
            f"YonosSR: images of {size} can't be shrunk {factor} times.",
            "Height and width are multiples of the scale.",
        )
    return F.avg_pool2d(images, factor)


def enlarged(images: Tensor, factor: int) -> Tensor:
    """Every pixel ``factor`` x ``factor`` times."""
    return F.interpolate(images, scale_factor=float(factor), mode="nearest")


def gradient_variance(
    model: YonosSR, batches: list[Tensor], time: float, target: str
) -> float:
    """Variance over batches of the student's gradient at one time, over its weights.

    Args:
        model: With a student and a teacher.
        batches: Images, N x C x H x W each.
        time: t, of all samples.
        target: ``teacher`` or ``truth``.

    Returns:
        Sum over weights of the unbiased variance.
    """
    gradients = []
    for images in batches:
        z = model._z(images)
        t = z.new_full((len(z),), time)
        noised = model.process.add_noise(z, t, torch.randn_like(z))
        goal = z
        if target == "teacher":
            with torch.no_grad():
                low = model.condition(images, model.scale // 2)
                goal = model.clean(model.teacher, noised, t, low)
        low = model.condition(images, model.scale)
        loss = (model.clean(model.student, noised, t, low) - goal).square().mean()
        found = torch.autograd.grad(loss, list(model.student.parameters()))
        gradients.append(torch.cat([g.flatten() for g in found]))
    return float(torch.stack(gradients).var(0).sum())
