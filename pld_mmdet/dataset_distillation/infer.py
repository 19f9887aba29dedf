"""INFER: a few real images, and additive images that all classes share."""

from collections.abc import Sequence
from pathlib import Path

import torch
from mmengine.dist import is_main_process
from mmengine.logging import print_log
from torch import Tensor, nn
from torch.nn import functional as F

from pld_mmdet.dataset_distillation.data.folders import eight_bits, write_distilled
from pld_mmdet.dataset_distillation.data.real import cropped, real_images
from pld_mmdet.dataset_distillation.networks.bn_statistics import StatisticsTap
from pld_mmdet.distill.divergences import kl
from pld_mmdet.distill.losses import soft_cross_entropy
from pld_mmdet.errors import UserError, one_of
from pld_mmdet.registry import MODELS
from pld_mmdet.shared.mixing import mixup
from pld_mmdet.shared.taught import TaughtStudent
from pld_mmdet.shared.views import mirrored, resized_crop


def plan(ipc: int, compensators: int, num_classes: int) -> tuple[int, int, float]:
    """How many real images a budget leaves where compensators are paid for.

    A compensator is one image for all C classes, so M of them cost each class M / C
    images: n (1 + M / C) <= ipc.

    Args:
        ipc: Images a class may cost.
        compensators: M of each set of real images.
        num_classes: C.

    Returns:
        n, the real images of a class; n (M + 1), its images after compensation; and
        the budget that is used, n (1 + M / C).

    Raises:
        UserError: No class, or negative numbers.

    Examples:
        >>> plan(10, 4, 100)
        (9, 45, 9.36)
    """
    if ipc < 0 or compensators < 0 or num_classes < 1:
        raise UserError(
            f"plan: ipc={ipc}, compensators={compensators}, num_classes={num_classes}.",
            "Give at least one class, and no negative numbers.",
        )
    images = ipc * num_classes // (compensators + num_classes)
    used = images * (num_classes + compensators) / num_classes
    return images, images * (compensators + 1), used


@MODELS.register_module()
class INFER(TaughtStudent):
    r"""Inter-class feature compensator (Zhang et al. 2024, arXiv 2408.06927).

    n sets x_k of one real image of each class, M networks f_m that are given::

        u_km = argmin  CE(f_m(x_k + u), class) + r sum_l r_l (|dmean_l| + |dvar_l|)
        set  = {x_k} and {x_k + u_km}, clipped, 8 bits
        S(x) = mean_m f_m(x), logits of the images as they are stored
        student: x = lam x_i + (1 - lam) x_j, S = lam S_i + (1 - lam) S_j
                 KL(softmax(S / T) || softmax(z / T)), mean over the batch, no T^2

    u is one image for all classes; r_0 = 10, other r_l = 1. Stages of ``StagedLoop``:
    ``teacher`` (left out where the networks come with weights), ``distill`` of n x M
    times the iterations that a u gets, ``student``. The set is written into the
    student's stage folder, ``distilled/``, and read from there (``DistilledPairs``).

    From the authors' code (zhangxin-xd/UFC, 83d19f8). Deviations: the u take turns, an
    iteration each, under one cosine, instead of one after the other; the stored image
    has the last u (there: the last but one); pixels are rounded to 8 bits (there: cut
    off); all batch norms count (there: not the second of the third network).

    Args:
        student: Config of a network, N x ... -> N x K logits.
        teachers: Configs of the M networks.
        image_shape: C, H, W.
        num_classes: K.
        ipc: Images that a class may cost.
        synthesis: ``shared``: u for all classes. ``each``: every image has its own, the
            networks take turns, and nothing else is kept (SRe2L's term). ``none``: ipc
            real images.
        labels: ``static``: S once; ``dynamic``: of every mixed batch; ``hard``: the
            classes, with cross-entropy.
        jitter: Largest roll of both axes, in pixels [4; ImageNet 32].
        crop: Random resized crop and flip before it [False; ImageNet's True].
        bn_weight: r [1, the authors' command; ImageNet 0.01].
        first: r_0 [10].
        alpha: Of MixUp's Beta distribution [0.8].
        temperature: T [30].
        padding: Of the student's crops [4].
        mean: That the data set subtracted, by channel; stored images are raw [0].
        std: That it divided by [1].
        predict_on: ``student``, or ``teacher``: all of them.

    Raises:
        UserError: Unknown words, or a budget below one image.
    """

    default_stage = "student"
    work = {"distill": "real images with labels"}

    def __init__(
        self,
        student: dict,
        teachers: Sequence[dict],
        image_shape: tuple[int, int, int],
        num_classes: int,
        ipc: int = 10,
        synthesis: str = "shared",
        labels: str = "static",
        jitter: int = 4,
        crop: bool = False,
        bn_weight: float = 1.0,
        first: float = 10.0,
        alpha: float = 0.8,
        temperature: float = 30.0,
        padding: int = 4,
        mean: float | Sequence[float] = 0.0,
        std: float | Sequence[float] = 1.0,
        predict_on: str = "student",
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(student, teachers, predict_on, init_cfg)
        one_of(
            "INFER",
            synthesis=(synthesis, ("shared", "each", "none")),
            labels=(labels, ("static", "dynamic", "hard")),
        )
        self.synthesis, self.labels, self.num_classes = synthesis, labels, num_classes
        self.jitter, self.crop, self.bn_weight, self.first = (
            jitter, crop, bn_weight, first
        )  # fmt: skip
        self.alpha, self.temperature, self.padding = alpha, temperature, padding
        self.networks = len(teachers) if synthesis == "shared" else 0
        images, self.total, self.used = plan(ipc, self.networks, num_classes)
        if not images:
            raise UserError(
                f"INFER: {ipc} images a class do not pay for {self.networks} networks "
                f"at {num_classes} classes.",
                "Raise model.ipc.",
            )
        jobs = {"shared": images * len(teachers), "each": images, "none": 0}[synthesis]
        own = num_classes if synthesis == "each" else 1
        self.compensators = nn.ParameterList(
            nn.Parameter(torch.zeros(own, *image_shape)) for _ in range(jobs)
        ).requires_grad_(False)
        self.register_buffer("base", torch.zeros(images, num_classes, *image_shape))
        self.register_buffer("dice", torch.randint(2**31, ()))
        for name, value in (("mean", mean), ("std", std)):
            value = torch.as_tensor(value, dtype=torch.float32).reshape(-1, 1, 1)
            self.register_buffer(name, value, persistent=False)

    @property
    def learners(self) -> list[nn.Module]:
        """What this stage trains."""
        if self.progress.stage == "distill":
            return [self.compensators]
        return super().learners

    def start_stage(self, name: str, loader: object, folder: Path) -> None:
        """Choose the real images before ``distill``; write the set before ``student``.

        Raises:
            UserError: No real images to choose from.
        """
        if name == "distill":
            self.check_work(name, loader)
            images, classes = self.base.shape[:2]
            real = real_images(loader.dataset, images, classes, int(self.dice))
            self.base.copy_(real)
        if name == "student":
            self.write(folder / "distilled", getattr(loader, "dataset", None))

    def loss_distill(self, **_) -> dict[str, Tensor]:
        """Of the compensator whose turn it is; the batch of images is not looked at."""
        job = self.progress.step % len(self.compensators)
        place, network = self.place(job)
        x = self.base[place] + self.compensators[job]
        if self.crop:
            x = mirrored(resized_crop(x, (0.08, 1.0)))
        shift = torch.randint(self.jitter + 1, (2,)).tolist()
        x = x.roll(shift, dims=(2, 3))
        teacher = self.teachers[network]
        with StatisticsTap(teacher) as tap:
            logits = teacher(x)
        classes = torch.arange(self.num_classes, device=x.device)
        gap = tap.gap(self.first)
        return {
            "loss_ce": F.cross_entropy(logits, classes),
            "loss_bn": self.bn_weight * gap,
        }

    def place(self, job: int) -> tuple[int, int]:
        """Which set of real images a compensator belongs to, and which network."""
        if self.synthesis == "each":
            return job, job % len(self.teachers)
        return divmod(job, len(self.teachers))

    @torch.no_grad()
    def synthetic(self) -> tuple[Tensor, Tensor]:
        """All images in [0, 1] with 8 bits, m x C x H x W, and their classes [m]."""
        sets = [] if self.synthesis == "each" else list(self.base)
        for job, u in enumerate(self.compensators):
            sets.append(self.base[self.place(job)[0]] + u)
        images = eight_bits(torch.cat(sets) * self.std + self.mean)
        classes = torch.arange(self.num_classes, device=images.device)
        return images, classes.repeat(len(sets))

    @torch.no_grad()
    def write(self, folder: Path, dataset: object = None) -> None:
        """The set into a folder, with its static labels; process 0 writes."""
        images, classes = self.synthetic()
        soft = torch.cat([self.soft(self.normalised(x)) for x in images.split(256)])
        size = [u.abs().mean() for u in self.compensators]
        about = {
            "method": "INFER",
            "images a class": len(images) // self.num_classes,
            "budget": self.used,
            "mean |u|": float(torch.stack(size).mean()) if size else 0.0,
        }
        if is_main_process():
            names = (getattr(dataset, "metainfo", None) or {}).get("classes")
            write_distilled(folder, images, soft, classes, names, about=about)
            print_log(f"The distilled set is {folder}: {about}", "current")

    def soft(self, inputs: Tensor) -> Tensor:
        """Mean logits of the networks, for normalised images N x C x H x W."""
        return torch.stack(self.answers(inputs)).mean(0)

    def normalised(self, images: Tensor) -> Tensor:
        """Images in [0, 1] as the networks know them."""
        return (images - self.mean) / self.std

    def loss_student(
        self, inputs: Tensor, targets: Tensor, classes: Tensor, **_
    ) -> dict[str, Tensor]:
        """Of stored images N x C x H x W in [0, 1], logits [N, K] and classes [N]."""
        x = self.normalised(cropped(inputs, self.padding))
        if self.labels == "hard":
            truth = F.one_hot(classes, self.num_classes).float()
            x, truth, _ = mixup(x, truth, self.alpha)
            return {"loss": soft_cross_entropy(self.student(x), truth)}
        x, soft, _ = mixup(x, targets, self.alpha)
        if self.labels == "dynamic":
            soft = self.soft(x)
        z = self.student(x) / self.temperature
        return {"loss": kl(soft / self.temperature, z)}
