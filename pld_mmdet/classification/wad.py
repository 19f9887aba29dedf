"""WAD: a contrastive teacher says which unlabelled images to trust, and how far."""

from collections.abc import Iterable
from pathlib import Path

import torch
from mmengine.dist import is_main_process
from mmengine.logging import MMLogger
from mmengine.registry import DATASETS as ROOT_DATASETS
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import Dataset

from pld_mmdet.distill._checks import wide
from pld_mmdet.distill.contrastive import nt_xent
from pld_mmdet.engine.state.checkpoint import load_checkpoint_file
from pld_mmdet.errors import UserError, one_of
from pld_mmdet.registry import DATASETS, MODELS
from pld_mmdet.shared.taught import TaughtStudent
from pld_mmdet.shared.views import contrasted, two_views, weak

USES = ("wad", "flat", "unweighted", "own", "nothing")
STORED = ("features", "labels", "joined", "foreign")
KNOWLEDGE = "knowledge.pth"  # what a round writes into its folder


@torch.no_grad()
def class_scores(
    features: Tensor, anchors: Tensor, labels: Tensor, num_classes: int
) -> Tensor:
    """Of each class the largest cosine with one of its labelled images.

    Args:
        features: [N, D].
        anchors: [M, D], features of labelled images.
        labels: [M], their classes.
        num_classes: K.

    Returns:
        [N, K]; -1 for a class without a labelled image.

    Raises:
        UserError: Shapes that do not fit together, or labels outside 0 to K - 1.
    """
    fit = features.dim() == anchors.dim() == 2 and len(anchors) == len(labels)
    if not fit or features.shape[1] != anchors.shape[1]:
        raise UserError(
            f"class_scores: features {tuple(features.shape)}, anchors "
            f"{tuple(anchors.shape)} and {len(labels)} labels do not fit together.",
            "They are [N, D], [M, D] and [M].",
        )
    if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < num_classes:
        raise UserError(
            f"class_scores: labels from {int(labels.min())} to {int(labels.max())} for "
            f"{num_classes} classes.",
            f"Labels are 0 to {num_classes - 1}.",
        )
    cosines = F.normalize(wide(features), dim=1) @ F.normalize(wide(anchors), dim=1).T
    scores = cosines.new_full((len(features), num_classes), -1)
    index = labels.expand(len(features), -1)
    return scores.scatter_reduce(1, index, cosines, "amax")


def knowledge(scores: Tensor) -> tuple[Tensor, Tensor]:
    r"""Pseudo-label and weight of each image: ``w = s_1 (1 - s_2 / s_1)``.

    With s_1 >= s_2 the two largest scores that is their margin. Where s_1 <= 0 the
    released formula has no meaning, and w is 0 [ours].

    Args:
        scores: [N, K], K of 2 or more.

    Returns:
        [N] classes and [N] weights.

    Raises:
        UserError: A single class.

    Examples:
        >>> knowledge(torch.tensor([[0.9, 0.6, -0.2]]))
        (tensor([0]), tensor([0.3000]))
    """
    if scores.shape[-1] < 2:
        raise UserError(
            f"knowledge: scores of {scores.shape[-1]} classes have no second best.",
            "Give two target classes or more.",
        )
    best, label = scores.topk(2, dim=-1)
    margin = best[..., 0] - best[..., 1]
    return label[..., 0], margin.where(best[..., 0] > 0, 0)


def share_moved(number: int, rounds: int, alpha: float) -> float:
    """Which share of the unlabelled images joins the labelled ones after a round.

    ``alpha (1 - r / R)^2``, and nothing from round R on.

    Args:
        number: r, from 1.
        rounds: R, the released ``split``; R + 1 rounds are trained.
        alpha: Of the polynomial.
    """
    return alpha * max(0.0, 1 - number / rounds) ** 2


@DATASETS.register_module()
class Graded(Dataset):
    """Labelled images and those that joined them; then the others with a weight.

    A sample has ``targets`` (label or pseudo-label), ``weight`` and ``labelled``. Fill
    batches from both halves with ``pld_mmdet.SemiSampler`` (``by_aspect=False``).

    Args:
        dataset: Config of a ``pld_mmdet.Mismatched``.
        file: What :class:`WAD` wrote: ``labels``, ``pseudo`` and ``weight`` [N].
    """

    def __init__(self, dataset: dict, file: str) -> None:
        self.dataset = ROOT_DATASETS.build(dataset)
        found = load_checkpoint_file(file)
        self.labels, self.weight = found["labels"], found["weight"]
        self.pseudo = found["pseudo"]
        labelled, others = ((self.labels >= 0) == which for which in (True, False))
        self.datasets = [
            part.nonzero().flatten().tolist() for part in (labelled, others)
        ]
        self.order = self.datasets[0] + self.datasets[1]
        self.metainfo = self.dataset.metainfo

    def __len__(self) -> int:
        return len(self.order)

    def __getitem__(self, index: int) -> dict:
        place = self.order[index]
        labelled = self.labels[place] >= 0
        chosen = self.labels if labelled else self.pseudo
        return {
            "inputs": self.dataset[place]["inputs"],
            "targets": chosen[place],
            "weight": self.weight[place],
            "labelled": labelled,
            "index": place,
        }


@MODELS.register_module()
class WAD(TaughtStudent):
    r"""Weight-aware distillation under class mismatch (Du et al., ICCV 2023).

    Labels of K target classes; unlabelled images of these and of others. A SimCLR
    teacher learns from all images and is frozen. Each round begins with its knowledge:
    ``s_k(u)`` is the largest cosine of u with a labelled image of class k, the
    pseudo-label the best class, the weight the margin ``w = s_1 (1 - s_2 / s_1)``::

        L = mean CE(y, z_l) + mean_u[ w(u) CE(yhat(u), z_u) ]

    Between two rounds the share ``alpha (1 - r / R)^2`` of the unlabelled images, those
    of smallest CE(yhat, z_student), joins the labelled ones with its pseudo-labels.

    Stages of ``StagedLoop``: ``teacher``; ``round_1`` to ``round_<R + 1>``, each with a
    new optimizer, with ``dataloader`` a ``Graded`` that reads
    ``{folder}/knowledge.pth`` and ``work_dataloader`` the ``Mismatched`` set in order.

    Deviations from the released code: features are read once, without its random
    augmentation; w is 0 where s_1 <= 0; the number that joins is rounded, not cut (its
    ``floor(0.004 * 1000)`` is 3); flips and shifts are ``views.weak``.

    Args:
        student: Config of a network, N x ... -> N x K logits.
        teacher: Config of an encoder with ``features`` and ``feat_dim``.
        num_classes: K.
        num_samples: Labelled and unlabelled images.
        width: Of the teacher's projected features [128].
        rounds: R [5].
        alpha: Of the share that joins [0.1].
        temperature: Of NT-Xent [0.5].
        noise: Deviation of the noise on the student's images [0.15].
        shift: Pixels that they are moved by [2].
        area: Of the crops that the teacher compares, as shares [0.08 to 1].
        use: ``wad``; rivals ``flat`` (each image has the mean weight), ``unweighted``
            (weight 1), ``own`` (the student's own pseudo-labels, weight 1) and
            ``nothing`` (labels only); nothing joins in the last two.
        predict_on: ``student``, or ``teacher``: the class scores.

    Raises:
        UserError: Unknown words, or numbers out of range.
    """

    default_stage = "round_1"
    work = {"round": "all images, each once"}

    def __init__(
        self,
        student: dict,
        teacher: dict,
        num_classes: int,
        num_samples: int,
        width: int = 128,
        rounds: int = 5,
        alpha: float = 0.1,
        temperature: float = 0.5,
        noise: float = 0.15,
        shift: int = 2,
        area: tuple[float, float] = (0.08, 1.0),
        use: str = "wad",
        predict_on: str = "student",
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(student, [teacher], predict_on, init_cfg)
        one_of("WAD", use=(use, USES))
        if num_classes < 2 or rounds < 1 or not 0 <= alpha < 1 or noise < 0:
            raise UserError(
                f"WAD: num_classes={num_classes}, rounds={rounds}, alpha={alpha}, "
                f"noise={noise}.",
                "Choose two classes or more, a round or more, 0 <= alpha < 1, "
                "noise >= 0.",
            )
        feat_dim = self.teachers[0].feat_dim
        self.projector = nn.Sequential(
            nn.Linear(feat_dim, feat_dim), nn.ReLU(), nn.Linear(feat_dim, width)
        )
        self.num_classes, self.rounds, self.alpha = num_classes, rounds, alpha
        self.temperature, self.noise, self.shift = temperature, noise, shift
        self.area, self.use = tuple(area), use
        self.register_buffer("features", torch.zeros(num_samples, width))
        self.register_buffer("labels", torch.full((num_samples,), -1))
        self.register_buffer("joined", torch.zeros(num_samples, dtype=torch.long))
        self.register_buffer("foreign", torch.full((num_samples,), -1))  # for the log
        # all processes hold the same
        self._ddp_params_and_buffers_to_ignore = [*STORED]
        self.enter_stage(self.default_stage)

    @property
    def learners(self) -> list[nn.Module]:
        """What this stage trains: encoder and projector, or the student."""
        if self.progress.stage == "teacher" and hasattr(self, "projector"):
            return [self.teachers, self.projector]
        return [self.student]

    def embedded(self, inputs: Tensor) -> Tensor:
        """Projected features [N, width] of the teacher."""
        return self.projector(self.teachers[0].features(inputs))

    def loss_teacher(self, inputs: Tensor, **_) -> dict[str, Tensor]:
        """NT-Xent of two views of each image, labelled or not: N x C x H x W."""
        a, b = two_views(inputs, lambda x: contrasted(x, self.area))
        pairs = self.embedded(torch.cat([a, b])).split(len(inputs))
        # nt_xent adds both directions; theirs is the mean over all views
        return {"loss": nt_xent(*pairs, self.temperature) / 2}

    def loss_round(
        self, inputs: Tensor, targets: Tensor, weight: Tensor, labelled: Tensor, **_
    ) -> dict[str, Tensor]:
        """Labelled and weighted parts: N x C x H x W, [N] each."""
        view = weak(inputs, self.shift)
        view, rest = view + self.noise * torch.randn_like(view), ~labelled
        if self.use == "nothing":
            z = self.student(view[labelled])
            return {"loss_labelled": F.cross_entropy(z.float(), targets[labelled])}
        # one pass each, as released: each half has batch statistics of its own
        halves = [part.nonzero().flatten() for part in (labelled, rest) if part.any()]
        z = torch.cat([self.student(view[part]) for part in halves])
        z = z[torch.cat(halves).argsort()]
        if self.use == "own":
            targets = torch.where(rest, z.detach().argmax(1), targets)
        rows = F.cross_entropy(z.float(), targets, reduction="none")
        known = rows[labelled].sum() / labelled.sum().clamp(min=1)
        others = (weight * rows)[rest].sum() / rest.sum().clamp(min=1)
        return {"loss_labelled": known, "loss_unlabelled": others}

    def wants_work(self, stage: str) -> str | None:
        """Later rounds read the images only where the labelled set grows."""
        idle = stage != "round_1" and self.use in ("own", "nothing")
        return None if idle else super().wants_work(stage)

    @torch.no_grad()
    def start_stage(self, name: str, loader: Iterable | None, folder: Path) -> None:
        """Grow the labelled set, ask the teacher, write ``knowledge.pth``."""
        if name == "teacher":
            return
        self.check_work(name, loader)
        number, count = int(name.rpartition("_")[2]), len(self.labels)
        if number == 1:

            def seen(batch: dict) -> Tensor:
                rest = batch["targets"], batch["foreign"]
                parts = self.embedded(batch["inputs"]), *(v[:, None] for v in rest)
                return torch.cat(parts, 1)

            found = self.over(loader, seen, count)
            self.features.copy_(found[:, :-2])
            self.labels.copy_(found[:, -2].round())
            self.foreign.copy_(found[:, -1].round())
        elif self.use not in ("own", "nothing"):
            self.grow(number, loader)
        if not 0 < int((self.labels >= 0).sum()) < count:
            raise UserError(
                f"WAD has {(self.labels >= 0).sum()} labels of {count} samples.",
                "Give labelled and unlabelled images.",
            )
        pseudo, weight = knowledge(self.scores(self.features))
        others = self.labels < 0
        means = [weight[others & (self.foreign == k)].mean() for k in (0, 1)]
        MMLogger.get_current_instance().info(
            f"WAD, round {number}: {(~others).sum()} labels; mean weight of images "
            f"of the target classes {means[0]:.3f}, of others {means[1]:.3f}."
        )
        if self.use == "flat":
            weight = weight[others].mean().expand(count)
        elif self.use != "wad":
            weight = torch.ones_like(weight)
        if is_main_process():
            found = dict(labels=self.labels, pseudo=pseudo, weight=weight)
            found = {name: rows.cpu().clone() for name, rows in found.items()}
            torch.save(found, folder / KNOWLEDGE)

    def grow(self, number: int, loader: Iterable | None) -> None:
        """Before round ``number`` the unlabelled images of smallest loss join."""
        if (self.joined == number).any():
            return  # a start that was killed is done again
        z = self.over(loader, lambda b: self.student(b["inputs"]), len(self.labels))
        pseudo, _ = knowledge(self.scores(self.features))
        rows = F.cross_entropy(z, pseudo, reduction="none")
        others = (self.labels < 0).nonzero().flatten()
        moved = share_moved(number - 1, self.rounds, self.alpha) * len(others)
        chosen = others[rows[others].argsort(stable=True)[: round(moved)]]
        self.labels[chosen], self.joined[chosen] = pseudo[chosen], number

    def scores(self, features: Tensor) -> Tensor:
        """Class scores [N, K] of projected features [N, width]."""
        known = self.labels >= 0
        anchors, labels = self.features[known], self.labels[known]
        return class_scores(features, anchors, labels, self.num_classes)

    def outputs(self, inputs: Tensor, **_) -> Tensor:
        """Logits [N, K], or class scores over the temperature."""
        if self.predict_on == "student":
            return self.student(inputs)
        return self.scores(self.embedded(inputs)) / self.temperature
