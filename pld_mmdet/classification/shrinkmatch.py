"""ShrinkMatch: an uncertain image is certain of something among fewer classes."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pld_mmdet.distill._checks import wide
from pld_mmdet.distill._gather import gathered
from pld_mmdet.distill.losses import soft_cross_entropy
from pld_mmdet.distill.memory import FeatureQueue
from pld_mmdet.distill.teachers import Averaged
from pld_mmdet.engine.run.method import TeacherStudent
from pld_mmdet.errors import UserError, one_of
from pld_mmdet.registry import MODELS
from pld_mmdet.shared.views import random_view, strong, weak

# Weak and strong view of a batch.
VIEWS = {
    "crops": (weak, strong),
    "digits": (
        lambda images: random_view(images, noise=0.0),
        lambda images: random_view(images, noise=0.3),
    ),
}
USES = ("nothing", "pseudo_label", "fixmatch", "certain", "shrink", "unweighted")
_TINY = 1e-12


@torch.no_grad()
def shrink(probabilities: Tensor, threshold: float) -> tuple[Tensor, Tensor]:
    """The classes that stay when an image's rivals are dropped until it is certain.

    The top class always stays. Of the others, in descending order of probability, as
    many are dropped as it takes for ``top / (top + rest) >= threshold``; the least
    probable one stays in any case, so a confidence below the threshold says that
    nothing helped. A row that is certain keeps all classes.

    Args:
        probabilities: [N, C].
        threshold: 0 to 1.

    Returns:
        Mask [N, C] of the classes that stay, and ``top / (top + rest)`` of them [N].

    Raises:
        UserError: Not a table of one class or more, or a threshold outside 0 to 1.

    Examples:
        >>> shrink(torch.tensor([[0.4, 0.35, 0.15, 0.1]]), 0.75)
        (tensor([[ True, False, False,  True]]), tensor([0.8000]))
    """
    if probabilities.dim() != 2 or not probabilities.shape[1]:
        raise UserError(
            f"shrink: probabilities of shape {tuple(probabilities.shape)}.",
            "Give [N, C], one row an image.",
        )
    if not 0 <= threshold <= 1:
        raise UserError(f"shrink: threshold={threshold}.", "Choose 0 to 1, e.g. 0.95.")
    q, order = wide(probabilities).sort(dim=1, descending=True, stable=True)
    classes = q.shape[1]
    if classes == 1:
        return torch.ones_like(q, dtype=torch.bool), torch.ones_like(q[:, 0])
    top = q[:, :1]
    tail = q.flip(1).cumsum(1).flip(1)[:, 1:]  # of places 1 to C - 1
    confidence = top / (top + tail).clamp(min=_TINY)
    reached = confidence >= threshold
    reached[:, -1] = True
    first = reached.int().argmax(1, keepdim=True)  # how many are dropped
    place = torch.arange(classes, device=q.device)
    kept = (place == 0) | (place > first)
    keep = torch.zeros_like(kept).scatter_(1, order, kept)
    return keep, confidence.gather(1, first).squeeze(1)


@MODELS.register_module()
class ShrinkMatch(TeacherStudent):
    r"""Shrinking class space in semi-supervised learning (Yang et al. 2023).

    With q = softmax of the weak view, aligned to the mean of recent batches and
    constant, m = [max q >= thr], S the classes that :func:`shrink` leaves and a the
    strong view's logits in an auxiliary head::

        L = CE(y, z_x) + lam mean[m CE(q, z_us)]
            + lam r mean[(1 - m) max q (-log softmax(a restricted to S)[top])]
        r <- 0.999 r + 0.001 mean(m);  the first value is mean(m)

    Means over the whole unlabelled batch, whatever is selected. An image that stays
    uncertain has weight 0. The auxiliary head (two hidden layers of D / 4) sees strong
    views only and is dropped afterwards; what answers is an EMA of the network
    (``TeacherEMAHook`` with ``moment='before'``, ``buffers='copy'``).

    The term needs certain images (else r = 0) and uncertain ones: the log has both
    shares (``certain``, ``shrunk``) and how many classes are dropped (``dropped``).

    Deviations from the released code (LiheYoung/ShrinkMatch, commit c4339b8, CIFAR): r
    lives on between epochs as in the paper and in the ImageNet code (theirs forgets it
    every 1024 iterations: ``ratio_span=1024``). ImageNet's further SimMatch term and
    the STL-10 variant (hard labels, shrinking of the unaligned q) are not here.

    Args:
        student: Config of a network with ``features``, ``feat_dim`` and ``fc``.
        num_classes: C.
        threshold: thr [0.95, CIFAR; ImageNet 0.7].
        weight: lam [1, CIFAR; ImageNet 10].
        queue: Batches whose means the alignment looks at [32, CIFAR; ImageNet 256].
        ratio_keep: Share of r that stays [0.999].
        ratio_span: Iterations after which r starts anew [0: never].
        use: Of images without label: ``shrink``; rivals ``certain`` (FixMatch with
            alignment and soft targets), ``fixmatch`` (hard labels, no alignment),
            ``pseudo_label`` (the same, learnt on the weak view itself),
            ``unweighted`` (without max q and r), ``nothing``.
        view: ``crops`` or ``digits``: how weak and strong views are made.
        predict_on: ``teacher`` (the EMA) or ``student``.

    Raises:
        UserError: An unknown word, ranges, or a student without features.
    """

    def __init__(
        self,
        student: dict,
        num_classes: int,
        threshold: float = 0.95,
        weight: float = 1.0,
        queue: int = 32,
        ratio_keep: float = 0.999,
        ratio_span: int = 0,
        use: str = "shrink",
        view: str = "crops",
        predict_on: str = "teacher",
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(student, None, predict_on, init_cfg=init_cfg)
        one_of("ShrinkMatch", use=(use, USES), view=(view, VIEWS))
        if not (0 <= threshold <= 1 and 0 <= ratio_keep <= 1):
            raise UserError(
                f"ShrinkMatch: threshold={threshold}, ratio_keep={ratio_keep}.",
                "Choose both between 0 and 1.",
            )
        if not hasattr(self.student, "features"):
            raise UserError(
                f"ShrinkMatch: {type(self.student).__name__} has no features().",
                "Take SmallConvNet or CIFARResNet.",
            )
        self.num_classes, self.threshold, self.weight = num_classes, threshold, weight
        self.ratio_keep, self.ratio_span, self.use = ratio_keep, ratio_span, use
        self.weak, self.strong = VIEWS[view]
        if use in ("shrink", "unweighted"):
            self.auxiliary = _mlp(self.student.feat_dim, num_classes)
        self.means = FeatureQueue(queue, num_classes)
        self.register_buffer("ratio", torch.tensor(-1.0))  # below 0: not begun

    def build_teacher(self, config: dict | None) -> nn.Module:
        """A copy that a hook lets follow."""
        return Averaged(self.student)

    def loss(self, inputs: Tensor, targets: Tensor, **_) -> dict[str, Tensor]:
        """Losses of a batch of both kinds.

        Args:
            inputs: N x 3 x H x W.
            targets: N labels; -1 where there is none.

        Raises:
            UserError: No image of one kind.
        """
        labelled = targets >= 0
        x, y, u = self.weak(inputs[labelled]), targets[labelled], inputs[~labelled]
        if not len(x) or (not len(u) and self.use != "nothing"):
            raise UserError(
                f"ShrinkMatch: a batch of {len(x)} labelled and {len(u)} other images.",
                "Fill batches from LabelledAndNot with SemiSampler.",
            )
        if self.use == "nothing":
            return {"loss_x": F.cross_entropy(self.student(x).float(), y)}
        parts = len(x), len(u), len(u)
        plain = self.use in ("pseudo_label", "fixmatch")
        if self.use == "pseudo_label":  # one view, which labels itself
            z = self.student(torch.cat([x, self.weak(u)])).float()
            z_x, z_uw = z.split(parts[:2])
            z_us = z_uw
        else:
            views = torch.cat([x, self.weak(u), self.strong(u)])
            f = self.student.features(views)
            z_x, z_uw, z_us = self.student.fc(f).float().split(parts)
        q = z_uw.detach().softmax(1)
        if plain:
            top, label = q.max(1)
            certain = (top >= self.threshold).to(q)
            hard = F.one_hot(label, self.num_classes).to(q)
            loss = self.weight * soft_cross_entropy(z_us, hard, certain)
            shares = {"loss_u": loss, "certain": certain.mean()}
            return {"loss_x": F.cross_entropy(z_x, y), **shares}
        q = self.aligned(q)
        a = self.auxiliary(f.split(parts)[2]).float() if self.use != "certain" else None
        return {"loss_x": F.cross_entropy(z_x, y), **self.losses(q, z_us, a)}

    @torch.no_grad()
    def aligned(self, q: Tensor) -> Tensor:
        """Distribution alignment: q [N, C] over the mean of recent batches' means."""
        self.means.push(q.mean(0, keepdim=True))
        q = q / self.means.read().mean(0).clamp(min=_TINY)
        return q / q.sum(1, keepdim=True)

    def losses(self, q: Tensor, z_us: Tensor, a: Tensor | None) -> dict[str, Tensor]:
        """The terms of images without label, and numbers for the log.

        Args:
            q: Aligned probabilities [N, C], a constant.
            z_us: Logits [N, C] of the strong views.
            a: The same of the auxiliary head; None: there is no such term.
        """
        q = q.detach()
        top, label = q.max(1)
        certain = (top >= self.threshold).to(q)
        found = {
            "loss_u": self.weight * soft_cross_entropy(z_us, q, certain),
            "certain": certain.mean(),
        }
        if a is None:
            return found
        ratio = self._ratio(certain.mean())
        keep, confidence = shrink(q, self.threshold)
        keep = keep.scatter(1, label[:, None], True)  # of equals, max may take another
        used = (1 - certain) * (confidence >= self.threshold)
        rows = -a.masked_fill(~keep, -torch.inf).log_softmax(1)
        rows = rows.gather(1, label[:, None]).squeeze(1)
        scale = used if self.use == "unweighted" else used * top
        ratio = torch.ones_like(ratio) if self.use == "unweighted" else ratio
        dropped = (~keep).sum(1).to(q) * used
        return found | {
            "loss_shrink": self.weight * ratio * (scale * rows).mean(),
            "shrunk": used.mean(),
            "dropped": dropped.sum() / used.sum().clamp(min=1),
        }

    @torch.no_grad()
    def _ratio(self, share: Tensor) -> Tensor:
        """r after this batch, of all processes."""
        share = gathered(share[None]).mean().to(self.ratio)
        if self.ratio_span and self.progress.step % self.ratio_span == 0:
            self.ratio.fill_(-1.0)
        if self.ratio < 0:
            self.ratio.copy_(share)
        else:
            self.ratio.lerp_(share, 1 - self.ratio_keep)
        return self.ratio.clone()


def _mlp(width: int, num_classes: int) -> nn.Sequential:
    hidden = max(width // 4, 1)
    return nn.Sequential(
        nn.Linear(width, hidden),
        nn.BatchNorm1d(hidden),
        nn.LeakyReLU(0.1),
        nn.Linear(hidden, hidden),
        nn.BatchNorm1d(hidden),
        nn.LeakyReLU(0.1),
        nn.Linear(hidden, num_classes),
    )
