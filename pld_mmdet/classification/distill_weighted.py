"""DistillWeighted: many foreign models teach, each as much as its task is alike."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from mmengine.dist import all_gather
from mmengine.logging import MMLogger
from torch import Tensor, nn
from torch.nn import functional as F

from pld_mmdet.distill._checks import wide
from pld_mmdet.distill.losses import soft_cross_entropy
from pld_mmdet.errors import UserError, one_of
from pld_mmdet.registry import MODELS
from pld_mmdet.shared.taught import TaughtStudent
from pld_mmdet.shared.views import random_view, weak

VIEWS = {None: lambda images: images, "digits": random_view, "weak": weak}
ROTATION = "rotation"  # a task of four classes: how often an image was turned


@torch.no_grad()
def source_weights(scores: Tensor, p: float) -> Tensor:
    """``max(score, 0)^p``, divided by its sum.

    Args:
        scores: [S], similarities of the sources.
        p: 0: all alike; ``inf``: the nearest one alone (DistillNearest).

    Returns:
        [S]; empty where S is 0.

    Raises:
        UserError: A negative p, scores that are no finite row, or none above 0.

    Examples:
        >>> source_weights(torch.tensor([0.3, 0.2, -0.1]), 1)
        tensor([0.6000, 0.4000, 0.0000])
    """
    scores = wide(scores)
    if scores.dim() != 1 or not scores.isfinite().all() or not p >= 0:
        raise UserError(
            f"source_weights: scores of shape {tuple(scores.shape)}, p={p}.",
            "Give a row of finite numbers, and p of 0 or more.",
        )
    if not len(scores):
        return scores.clone()
    scores = scores.clamp(min=0)
    if p > 0 and not scores.any():
        raise UserError(
            "source_weights: no source has a similarity above 0.",
            "Add sources of related tasks, or choose p=0.",
        )
    # by the largest first: small numbers to the power of 12 would vanish
    weights = (scores / scores.max().clamp(min=1e-30)) ** p
    return weights / weights.sum()


@torch.no_grad()
def parc(features: Tensor, labels: Tensor) -> Tensor:
    """Similarity of features and classes (PARC, Bolya et al. 2021), -1 to 1.

    Spearman's correlation, over all pairs of images, of two distances: one minus
    Pearson's correlation of the feature rows (columns z-scored before), and the same of
    one-hot rows, which only says whether labels differ.

    Args:
        features: [N, D]; a constant column or row correlates with nothing.
        labels: [N].

    Returns:
        A scalar in float64.

    Raises:
        UserError: Lengths differ, or labels of one class only.
    """
    if features.dim() != 2 or labels.shape != features.shape[:1]:
        raise UserError(
            f"parc: features {tuple(features.shape)}, labels {tuple(labels.shape)}.",
            "Give [N, D] and [N].",
        )
    if labels.unique().numel() < 2 or len(labels) < 3:
        raise UserError(
            "parc: there are no two classes, or fewer than three images.",
            "Give labelled images of at least two classes.",
        )
    x = features.double()
    x = x - x.mean(0)
    x = x / x.std(0, correction=0).clamp(min=1e-12)
    x = F.normalize(x - x.mean(1, keepdim=True), dim=1)
    upper = torch.triu_indices(len(x), len(x), 1, device=x.device)
    apart = (1 - x @ x.T)[upper[0], upper[1]]
    differ = (labels[upper[0]] != labels[upper[1]]).double()
    a, b = (F.normalize(r - r.mean(), dim=0) for r in (_ranks(apart), _ranks(differ)))
    return a @ b


def _ranks(values: Tensor) -> Tensor:
    """Places in ascending order; equal values share the mean of theirs."""
    _, where, counts = values.unique(return_inverse=True, return_counts=True)
    last = counts.cumsum(0).double()
    return (last - (counts - 1) / 2)[where]


@MODELS.register_module()
class DistillWeighted(TaughtStudent):
    r"""Distilling from similar tasks (Borup et al. 2023); p = inf is DistillNearest.

    S frozen sources M_s know *other* classes. e_s is :func:`parc` of a source's
    features on the labelled images, alpha = :func:`source_weights` (e, p). The student
    has a head h of its own and one g_s for each source, in the source's classes::

        L = lam CE(y, h(f(x))) + (1 - lam) sum_s alpha_s CE(softmax(M_s(u)), g_s(f(u)))

    Both are means over their images; u are all images of the batch, their labels
    unused. A source with alpha 0 is not run. The heads g_s are dropped afterwards.

    Stages of ``StagedLoop``: ``teacher`` where sources are made here, then ``distill``
    with the labelled images in order as ``work_dataloader``: there e and alpha are
    computed.

    Only a README was released (Kennethborup/DistillWeighted, commit c5851e3): lam, p
    and a temperature of 1 are unconfirmed.

    Args:
        student: Config of a network with ``features``, ``feat_dim`` and the head
            ``fc``; N x ... -> N x C logits.
        teachers: Configs of the sources, networks with ``features`` and ``fc``.
        tasks: What each source learns in the stage ``teacher``: a row of C numbers, the
            source's class of each class, or ``rotation`` (which quarter turn of the
            image it sees). None: sources come with their weights.
        lam: Weight of the labels [0.8]; 1: labels only, no source is run.
        p: Power of the similarities [12].
        view: ``weak`` or ``digits``: what is learnt from [None: the images].

    Raises:
        UserError: An unknown word, ranges, or sources that do not fit their tasks.
    """

    work = {"distill": "the labelled images, each once"}

    def __init__(
        self,
        student: dict,
        teachers: Sequence[dict],
        tasks: Sequence[Sequence[int] | str] | None = None,
        lam: float = 0.8,
        p: float = 12.0,
        view: str | None = None,
        predict_on: str = "student",
        init_cfg: dict | None = None,
    ) -> None:
        one_of("DistillWeighted", predict_on=(predict_on, ("student",)))
        super().__init__(student, teachers, predict_on, init_cfg)
        one_of("DistillWeighted", view=(view, VIEWS))
        if not 0 <= lam <= 1 or not p >= 0:
            raise UserError(
                f"DistillWeighted: lam={lam}, p={p}.",
                "Choose lam between 0 and 1, and p of 0 or more.",
            )
        sizes = [source.fc.out_features for source in self.teachers]
        if tasks is not None:
            _check(tasks, sizes)
        self.tasks, self.lam, self.p, self.view = tasks, lam, float(p), VIEWS[view]
        width = self.student.feat_dim
        self.heads = nn.ModuleList([nn.Linear(width, size) for size in sizes])
        self.register_buffer("scores", torch.zeros(len(sizes)))
        self.register_buffer("alpha", torch.full((len(sizes),), 1 / len(sizes)))

    @property
    def learners(self) -> list[nn.Module]:
        """The student learns together with its heads."""
        found = super().learners
        heads = self._modules.get("heads")
        return found if heads is None or self.teachers in found else [*found, heads]

    def loss_teacher(self, inputs: Tensor, targets: Tensor, **_) -> dict[str, Tensor]:
        """Cross-entropy of each source in its own classes.

        Raises:
            UserError: Nobody said what the sources learn.
        """
        if self.tasks is None:
            raise UserError(
                "DistillWeighted has no `tasks` to train its sources on.",
                "Give tasks, or leave the stage `teacher` out.",
            )
        inputs, found = self.view(inputs), {}
        for i, (source, task) in enumerate(zip(self.teachers, self.tasks, strict=True)):
            x, y = inputs, targets
            if task == ROTATION:
                y = torch.randint(4, targets.shape, device=targets.device)
                turns = torch.stack([inputs.rot90(m, (2, 3)) for m in range(4)])
                x = turns[y, torch.arange(len(y), device=y.device)]
            else:
                y = torch.tensor(task, device=y.device)[y]
            found[f"loss_teacher_{i}"] = F.cross_entropy(source(x).float(), y)
        return found

    def wants_work(self, stage: str) -> str | None:
        """Nothing where no source is compared."""
        return None if self.lam == 1 else super().wants_work(stage)

    @torch.no_grad()
    def start_stage(self, name: str, loader: Iterable | None, folder: Path) -> None:
        """Similarities and weights, from the labelled images.

        Raises:
            UserError: No labelled image.
        """
        if name != "distill" or self.lam == 1:
            return
        self.check_work(name, loader)
        rows, mode, device = [], self.training, self.scores.device
        self.train(False)
        for batch in loader:
            x = batch["inputs"].to(device)
            features = torch.stack([s.features(x).float().flatten(1)
                                    for s in self.teachers], 1)  # fmt: skip
            rows.append((batch["index"], batch["targets"], features))
        self.train(mode)
        if not rows:
            raise UserError(
                "DistillWeighted has no labelled images to compare sources on.",
                "Set the stage's work_dataloader.",
            )
        # Each process reads its share; the sampler may repeat some images.
        index, y, features = (
            torch.cat(all_gather(torch.cat(part).to(device)))
            for part in zip(*rows, strict=True)
        )
        first = {int(number): i for i, number in reversed(list(enumerate(index)))}
        own = torch.tensor([first[number] for number in sorted(first)], device=device)
        scores = [parc(f, y[own]) for f in features[own].unbind(1)]
        self.scores.copy_(torch.stack(scores))
        self.alpha.copy_(source_weights(self.scores, self.p))
        MMLogger.get_current_instance().info(
            f"DistillWeighted: PARC {[round(s, 3) for s in self.scores.tolist()]}, "
            f"weights {[round(a, 3) for a in self.alpha.tolist()]}."
        )

    def loss_distill(self, inputs: Tensor, targets: Tensor, **_) -> dict[str, Tensor]:
        """Both terms.

        Args:
            inputs: N x ...
            targets: N labels; -1 where there is none.

        Raises:
            UserError: No labelled image.
        """
        labelled = targets >= 0
        if not labelled.any():
            raise UserError(
                "DistillWeighted: a batch without a labelled image.",
                "Fill batches from LabelledAndNot with SemiSampler.",
            )
        inputs = self.view(inputs if self.lam < 1 else inputs[labelled])
        f = self.student.features(inputs)
        own = f[labelled] if self.lam < 1 else f
        z = self.student.fc(own).float()
        found = {"loss_ce": self.lam * F.cross_entropy(z, targets[labelled])}
        if self.lam == 1:
            return found
        for i, weight in enumerate(self.alpha.tolist()):
            if weight:
                with torch.no_grad():
                    p_t = self.teachers[i](inputs).float().softmax(1)
                apart = soft_cross_entropy(self.heads[i](f), p_t)
                found[f"loss_source_{i}"] = (1 - self.lam) * weight * apart
        return found


def _check(tasks: Sequence[Sequence[int] | str], sizes: Sequence[int]) -> None:
    if len(tasks) != len(sizes):
        raise UserError(
            f"DistillWeighted: {len(tasks)} tasks for {len(sizes)} sources.",
            "Give one a source.",
        )
    for task, size in zip(tasks, sizes, strict=True):
        if isinstance(task, str) and task != ROTATION:
            raise UserError(
                f"DistillWeighted: unknown task {task!r}.",
                f"Write {ROTATION!r}, or the source's class of each class.",
            )
        classes = 4 if task == ROTATION else max(task) + 1
        if classes != size or (task != ROTATION and min(task) < 0):
            raise UserError(
                f"DistillWeighted: a source of {size} classes for a task of {classes}.",
                "Set num_classes of the source to its task's.",
            )
