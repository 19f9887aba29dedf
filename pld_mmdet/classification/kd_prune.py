"""KD-Prune: train on a part of the data, with a teacher that has seen all of it."""

from collections.abc import Sequence

import torch
from mmengine.registry import DATASETS as ROOT_DATASETS
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import Dataset

from pld_mmdet.distill import selection
from pld_mmdet.distill._checks import positive, same_shape
from pld_mmdet.distill.divergences import kl
from pld_mmdet.engine.state.checkpoint import load_plain_file
from pld_mmdet.errors import UserError, one_of
from pld_mmdet.registry import DATASETS, MODELS
from pld_mmdet.shared.taught import TaughtStudent
from pld_mmdet.shared.views import random_view, weak

VIEWS = {None: lambda images: images, "digits": random_view, "weak": weak}


def el2n(probabilities: Tensor, targets: Tensor) -> Tensor:
    """Length of ``p - onehot(y)`` (Paul et al. 2021): high is hard, or labelled wrong.

    :func:`pld_mmdet.distill.selection.el2n` of probabilities.

    Args:
        probabilities: [N, C].
        targets: [N] labels.

    Returns:
        [N].

    Raises:
        UserError: Shapes that do not fit.
    """
    same_shape("el2n", targets=targets, rows=probabilities[..., 0])
    return selection.el2n(probabilities.log(), targets)


def subset(
    scores: Tensor | None,
    count: int,
    share: float,
    seed: int = 0,
    labels: Tensor | None = None,
) -> Tensor:
    """Which ``round(share * count)`` samples are kept.

    Args:
        scores: [count]: the highest are kept. None: drawn by ``seed``.
        count: Samples there are.
        share: f, above 0 and at most 1.
        seed: Of the draw.
        labels: [count]: keep the share of each class (at least one) instead of all.

    Returns:
        Their numbers, sorted.

    Raises:
        UserError: A share out of range, or as many scores as there are no samples.
    """
    if not 0 < share <= 1:
        raise UserError(f"subset: share={share} keeps nothing.", "Choose 0 to 1.")
    if scores is None:
        draw = torch.Generator().manual_seed(seed)
        scores = torch.rand(count, generator=draw)
    if len(scores) != count:
        raise UserError(
            f"subset: {len(scores)} scores for {count} samples.", "Give one a sample."
        )
    order = scores.argsort(descending=True, stable=True)
    if labels is None:
        return order[: round(share * count)].sort().values
    kept = []
    for label in labels.unique():
        own = order[labels[order] == label]
        kept.append(own[: max(1, round(share * len(own)))])
    return torch.cat(kept).sort().values


@DATASETS.register_module()
class Pruned(Dataset):
    """A part of a data set: drawn at random, or the samples with the highest scores.

    ``index`` of a sample stays its number in the whole set.

    Args:
        dataset: Config of the whole set, samples with ``targets``.
        share: f of it that is kept, above 0 and at most 1.
        seed: Of the draw.
        scores: A file of ``torch.save``: one number a sample. None: at random.
        balanced: The share of each class.

    Raises:
        UserError: See :func:`subset`; or the file holds no scores.
    """

    def __init__(
        self,
        dataset: dict,
        share: float,
        seed: int = 0,
        scores: str | None = None,
        balanced: bool = False,
    ) -> None:
        self.dataset = ROOT_DATASETS.build(dataset)
        values = None if scores is None else _scores(scores)
        labels = torch.as_tensor(self.dataset.targets) if balanced else None
        self.kept = subset(values, len(self.dataset), share, seed, labels)
        self.metainfo = getattr(self.dataset, "metainfo", {})

    def __len__(self) -> int:
        return len(self.kept)

    def __getitem__(self, index: int) -> dict:
        return self.dataset[int(self.kept[index])]


def _scores(file: str) -> Tensor:
    """One finite number a sample."""
    found = load_plain_file(file, what="file of scores")
    if not isinstance(found, Tensor) or found.dim() != 1 or not found.isfinite().all():
        raise UserError(
            f"{file} holds no scores.",
            "Write one finite number a sample: torch.save(tensor, file).",
        )
    return found


@MODELS.register_module()
class KDPrune(TaughtStudent):
    r"""Distilling the Knowledge in Data Pruning (Ben-Baruch et al. 2024).

        L = (1 - alpha) CE(y, z_s) + alpha tau^2 KL(p_t || p_s),   p = softmax(z / tau)

    on a share f of the data; the teacher was trained on all of them and sees the same
    view. The smaller f, the larger alpha should be: near 1 at f = 0.1, about 0.5 near
    f = 1. A random part is as good as any scored one once there is a teacher, and the
    student never needs the rest of the data.

    Stages of ``StagedLoop``: ``teacher`` (all data), ``distill`` (``Pruned`` data).
    Compare rows at the same number of steps, not of passes.

    No code was released; ``tau`` was not found in print.

    Args:
        student: Config of a network, N x ... -> N x C logits.
        teachers: Config of the teacher, in a list of one.
        alpha: Share of the divergence, 0 to 1 [0.9: for f = 0.1].
        tau: Temperature [4, ours].
        label_smoothing: Of the cross-entropy [0]; the rival without a teacher.
        view: What is learnt from: ``digits`` (``random_view``), ``weak`` [None: the
            images as they are].
        predict_on: ``student`` or ``teacher``.

    Raises:
        UserError: alpha or tau out of range, or more than one teacher.
    """

    def __init__(
        self,
        student: dict,
        teachers: Sequence[dict],
        alpha: float = 0.9,
        tau: float = 4.0,
        label_smoothing: float = 0.0,
        view: str | None = None,
        predict_on: str = "student",
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(student, teachers, predict_on, init_cfg)
        one_of("KDPrune", view=(view, VIEWS))
        positive("KDPrune", tau=tau)
        if not 0 <= alpha <= 1:
            raise UserError(f"KDPrune: alpha={alpha} is no share.", "Choose 0 to 1.")
        if len(self.teachers) > 1:
            raise UserError("KDPrune has one teacher.", "Give a list of one config.")
        self.alpha, self.tau = alpha, tau
        self.label_smoothing, self.view = label_smoothing, VIEWS[view]

    def loss_teacher(self, inputs: Tensor, targets: Tensor, **_) -> dict[str, Tensor]:
        """The teacher's cross-entropy: N x ..., N labels."""
        return super().loss_teacher(self.view(inputs), targets)

    def loss_distill(self, inputs: Tensor, targets: Tensor, **_) -> dict[str, Tensor]:
        """Both terms on kept images: N x ..., N labels."""
        inputs = self.view(inputs)
        z_s = self.student(inputs)
        if self.alpha == 0:  # the baselines pay for no teacher
            return self.losses(z_s, None, targets)
        return self.losses(z_s, self.answers(inputs)[0], targets)

    def losses(self, z_s: Tensor, z_t: Tensor | None, targets: Tensor) -> dict:
        """The terms of logits [N, C] and labels [N]; one with weight 0 is left out."""
        found = {}
        if self.alpha < 1:
            ce = F.cross_entropy(z_s, targets, label_smoothing=self.label_smoothing)
            found["loss_ce"] = (1 - self.alpha) * ce
        if self.alpha > 0:
            found["loss_kd"] = self.alpha * kl(z_t.detach(), z_s, self.tau)
        return found
