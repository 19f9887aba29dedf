"""CV-DD: images and labels that a committee of networks votes for."""

from collections.abc import Sequence
from itertools import combinations
from pathlib import Path

import torch
from mmengine.dist import is_main_process
from mmengine.logging import print_log
from torch import Tensor, nn
from torch.nn import functional as F

from pld_mmdet.dataset_distillation.data.folders import eight_bits, write_distilled
from pld_mmdet.dataset_distillation.data.real import medium_images
from pld_mmdet.dataset_distillation.data.stored_views import draw_views, views_of
from pld_mmdet.dataset_distillation.networks.bn_statistics import StatisticsTap
from pld_mmdet.distill.divergences import kl
from pld_mmdet.distill.teachers import Committee
from pld_mmdet.engine.data.randomness import own_randomness
from pld_mmdet.errors import UserError, one_of
from pld_mmdet.registry import MODELS
from pld_mmdet.shared.taught import TaughtStudent
from pld_mmdet.shared.views import mirrored, resized_crop

_STREAM = 17  # keeps the stored views apart from other draws


def prior_weights(accuracies: Sequence[float] | Tensor, temperature: float) -> Tensor:
    """Votes of networks that are known to be of different use.

    Args:
        accuracies: [M] percent: of students when each network alone distils.
        temperature: Divides them [5 for images, 10 for labels], above 0.

    Returns:
        softmax(accuracies / temperature), [M].

    Raises:
        UserError: No positive temperature, or not one row of numbers.

    Examples:
        >>> prior_weights([63, 65.3], 5)
        tensor([0.3870, 0.6130])
    """
    accuracies = torch.as_tensor(accuracies)
    if not accuracies.is_floating_point():
        accuracies = accuracies.float()
    if not temperature > 0 or accuracies.dim() != 1:
        raise UserError(
            f"prior_weights: accuracies of shape {tuple(accuracies.shape)} at "
            f"temperature={temperature}.",
            "Give one number a network, in percent, and a temperature above 0.",
        )
    return (accuracies / temperature).softmax(0)


@MODELS.register_module()
class CVDD(TaughtStudent):
    r"""Dataset distillation by committee voting (Cui et al. 2025, arXiv 2501.07575).

    ::

        recover  x = argmin sum_m a_m (CE(f_m(view(x)), class) + r BN_m(view(x))),
                 m of a pair of the committee, a = softmax(prior / 5); x is clipped to
                 pixels after each step and starts as a real image of medium difficulty
        relabel  epochs x (crop, flip, CutMix in batches of 16): sum_m b_m f_m(view),
                 all m, b = softmax(prior / 10), batch norm by the batch's statistics,
                 half a batch at a time; kept in half precision with the views
        student  the same batches again: KL(softmax(label / T) || softmax(z / T)),
                 mean over half a batch, no T^2

    BN_m is ``statistics_gap``. Stages of ``StagedLoop``: ``teacher`` (left out where
    the networks come with weights), ``recover``, ``student``; the folder ``distilled``
    of the student's stage holds images, views and labels, and ``StoredViews`` plays
    them. ``committee=1`` with one prior high above the others is SRe2L++.

    From the authors' code (Jiacheng8/CV-DD, 24097e9). Deviations: the sets of images
    take turns, an iteration each, under one cosine; each image of a batch has its own
    crop while it is made (there: one for all); medium patches, whose making was not
    released, are whole images from the middle third by the committee's cross-entropy;
    the order of relabelling is drawn here, not by the loader's seed; a last batch of
    half the size is halved too (there: one part that counts half for the student).

    Args:
        student: Config of a network, N x ... -> N x K logits.
        teachers: Configs of the M networks.
        image_shape: C, H, W.
        num_classes: K.
        priors: [M] percent, see :func:`prior_weights`; all alike: equal votes.
        ipc: Images of a class [10].
        committee: Members that make an image [2; 3 is worse, their note].
        members: ``all``: every such group in turn (theirs at 10 images a class);
            ``best``: those of the highest priors (at 1); ``random``: drawn (at 50).
        statistics: Of batch norm while relabelling: ``batch`` or ``running``.
        image_temperature: Of the priors [5].
        label_temperature: Of the priors [10].
        bn_weight: r [0.01].
        first: Of the gap at the first layer [10].
        jitter: Largest roll of both axes, in pixels [4; ImageNet 32].
        group: Classes that are optimised together [100].
        epochs: Of stored labels [300].
        batch: Images of a stored batch [16].
        parts: In which a batch is seen, by members and student [2].
        area: Of the stored crops [0.08 to 1].
        temperature: T [20].
        mean: That the data set subtracted, by channel; stored images are raw [0].
        std: That it divided by [1].
        predict_on: ``student``, or ``teacher``: all of them.

    Raises:
        UserError: Unknown words, or numbers that do not fit.
    """

    default_stage = "student"
    work = {"recover": "real images with labels"}

    def __init__(
        self,
        student: dict,
        teachers: Sequence[dict],
        image_shape: tuple[int, int, int],
        num_classes: int,
        priors: Sequence[float],
        ipc: int = 10,
        committee: int = 2,
        members: str = "all",
        statistics: str = "batch",
        image_temperature: float = 5.0,
        label_temperature: float = 10.0,
        bn_weight: float = 0.01,
        first: float = 10.0,
        jitter: int = 4,
        group: int = 100,
        epochs: int = 300,
        batch: int = 16,
        parts: int = 2,
        area: tuple[float, float] = (0.08, 1.0),
        temperature: float = 20.0,
        mean: float | Sequence[float] = 0.0,
        std: float | Sequence[float] = 1.0,
        predict_on: str = "student",
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(student, teachers, predict_on, init_cfg)
        one_of(
            "CVDD",
            members=(members, ("all", "best", "random")),
            statistics=(statistics, ("running", "batch")),
        )
        if len(priors) != len(teachers) or not 1 <= committee <= len(teachers):
            raise UserError(
                f"CVDD: {len(priors)} priors and committee={committee} for "
                f"{len(teachers)} networks.",
                "Give each network a prior; at most all of them make an image.",
            )
        stored = num_classes * ipc
        smallest = stored % batch or batch  # the last batch, of what is left over
        if not 1 <= parts <= smallest:
            raise UserError(
                f"CVDD: parts={parts} views of a batch of {smallest} images ({stored} "
                f"in batches of {batch}): a part would have no image.",
                f"Set parts to at most {smallest}, or a batch that divides {stored}.",
            )
        self.priors = [float(prior) for prior in priors]
        self.committee, self.members, self.statistics = committee, members, statistics
        self.image_temperature, self.label_temperature = (
            image_temperature, label_temperature
        )  # fmt: skip
        self.bn_weight, self.first, self.jitter = bn_weight, first, jitter
        self.epochs, self.batch, self.parts = epochs, batch, parts
        self.area, self.temperature = tuple(area), temperature
        self.num_classes, self.ipc = num_classes, ipc
        # entry i is group i % groups of set i // groups
        self.groups = torch.arange(num_classes).split(group)
        self.images = nn.ParameterList(
            nn.Parameter(torch.zeros(len(classes), *image_shape))
            for _ in range(ipc)
            for classes in self.groups
        ).requires_grad_(False)
        self.register_buffer("dice", torch.randint(2**31, ()))
        for name, value in (("mean", mean), ("std", std)):
            value = torch.as_tensor(value, dtype=torch.float32).reshape(-1, 1, 1)
            self.register_buffer(name, value, persistent=False)

    @property
    def learners(self) -> list[nn.Module]:
        """What this stage trains."""
        if self.progress.stage == "recover":
            return [self.images]
        return super().learners

    def start_stage(self, name: str, loader: object, folder: Path) -> None:
        """Real images before ``recover``; labels and files before ``student``.

        Raises:
            UserError: No real images to start from.
        """
        if name == "recover":
            self.check_work(name, loader)
            real = medium_images(
                loader.dataset, self.ipc, self.num_classes, int(self.dice), self.hard
            )
            with torch.no_grad():
                for entry, image in enumerate(self.images):
                    number, part = divmod(entry, len(self.groups))
                    image.copy_(real[number, self.groups[part]])
        if name == "student" and is_main_process():
            self.write(folder / "distilled", getattr(loader, "dataset", None))

    @torch.no_grad()
    def hard(self, inputs: Tensor, targets: Tensor) -> Tensor:
        """Mean cross-entropy of the networks for each image, [N]."""
        device = self.dice.device
        answers = self.answers(inputs.to(device))
        each = [
            F.cross_entropy(z, targets.to(device), reduction="none") for z in answers
        ]
        return torch.stack(each).mean(0).cpu()

    def voters(self, number: int) -> tuple[int, ...]:
        """Members that make the set ``number`` of images."""
        everybody = range(len(self.teachers))
        if self.members == "best":
            order = sorted(everybody, key=lambda m: -self.priors[m])
            return tuple(sorted(order[: self.committee]))
        groups = list(combinations(everybody, self.committee))
        if self.members == "all":
            return groups[number % len(groups)]
        dice = torch.Generator().manual_seed(int(self.dice) + number)
        return groups[int(torch.randint(len(groups), (1,), generator=dice))]

    def loss_recover(self, **_) -> dict[str, Tensor]:
        """Of the set whose turn it is; the batch of images is not looked at."""
        entry = self.progress.step % len(self.images)
        number, part = divmod(entry, len(self.groups))
        classes = self.groups[part].to(self.dice.device)
        x = self.images[entry]
        with torch.no_grad():  # pixels, after every step
            x.copy_(torch.minimum(torch.maximum(x, self._low), self._high))
        view = mirrored(resized_crop(x, (0.08, 1.0)))
        shift = torch.randint(self.jitter + 1, (2,)).tolist()
        view = view.roll(shift, dims=(2, 3))
        members = self.voters(number)
        votes = prior_weights([self.priors[m] for m in members], self.image_temperature)
        ce = gap = 0.0
        for vote, member in zip(votes.tolist(), members, strict=True):
            network = self.teachers[member]
            with StatisticsTap(network) as tap:
                logits = network(view)
            ce = ce + vote * F.cross_entropy(logits, classes)
            gap = gap + vote * tap.gap(self.first)
        return {"loss_ce": ce, "loss_bn": self.bn_weight * gap}

    @property
    def _low(self) -> Tensor:
        return -self.mean / self.std

    @property
    def _high(self) -> Tensor:
        return (1 - self.mean) / self.std

    @torch.no_grad()
    def synthetic(self) -> tuple[Tensor, Tensor]:
        """All images in [0, 1] with 8 bits, m x C x H x W, and their classes [m]."""
        images = eight_bits(torch.cat(list(self.images)) * self.std + self.mean)
        return images, torch.arange(self.num_classes).repeat(self.ipc)

    @torch.no_grad()
    def write(self, folder: Path, dataset: object = None) -> None:
        """Images, views and what the committee says of each view, into a folder."""
        images, classes = self.synthetic()
        with own_randomness(_STREAM, int(self.dice)):
            stored = draw_views(
                len(images),
                self.epochs,
                self.batch,
                tuple(images.shape[-2:]),
                self.area,
            )
        labels = []
        for epoch in range(self.epochs):
            for places in torch.arange(len(images)).split(self.batch):
                view = views_of(images, stored, epoch, places)
                labels.append(self.relabel((view - self.mean) / self.std).float())
        labels = torch.cat(labels).cpu().half().view(self.epochs, len(images), -1)
        votes = prior_weights(self.priors, self.label_temperature)
        names = (getattr(dataset, "metainfo", None) or {}).get("classes")
        about = {
            "method": "CV-DD",
            "images a class": self.ipc,
            "stored labels": labels.numel(),
            "batch": self.batch,
            "votes": [round(vote, 6) for vote in votes.tolist()],
        }
        plain = self.relabel((images - self.mean) / self.std)
        write_distilled(
            folder, images, plain, classes, names, about=about, views=labels, **stored
        )
        print_log(f"The distilled set is {folder}: {about}", "current")

    def relabel(self, inputs: Tensor) -> Tensor:
        """What the committee says [N, K], ``parts`` of the batch at a time."""
        votes = prior_weights(self.priors, self.label_temperature).tolist()
        committee = Committee(list(self.teachers), votes, "logits", self.statistics)
        return torch.cat([committee(x) for x in inputs.tensor_split(self.parts)])

    def loss_student(self, inputs: Tensor, targets: Tensor, **_) -> dict[str, Tensor]:
        """Of stored views N x C x H x W in [0, 1] and their logits [N, K].

        A loader of whole batches puts a 1 before both shapes.
        """
        if inputs.dim() == 5:
            inputs, targets = inputs.flatten(0, 1), targets.flatten(0, 1)
        if len(inputs) < self.parts:
            raise UserError(
                f"CVDD: a batch of {len(inputs)} images is seen in parts={self.parts}.",
                f"Give the loader at least {self.parts} images a batch.",
            )
        x = (inputs - self.mean) / self.std
        pairs = zip(
            x.tensor_split(self.parts), targets.tensor_split(self.parts), strict=True
        )
        losses = [
            kl(soft / self.temperature, self.student(part) / self.temperature)
            for part, soft in pairs
        ]
        return {"loss": sum(losses) / self.parts}
