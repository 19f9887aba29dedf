"""Trans-Encoder: bi-encoder and cross-encoder teach each other on unlabelled pairs."""

import copy
from collections.abc import Sequence
from pathlib import Path

import torch
from mmengine.dist import all_reduce
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

from pld_mmdet.distill._checks import same_shape, wide
from pld_mmdet.distill.teachers import Frozen
from pld_mmdet.engine.run.method import Method
from pld_mmdet.errors import UserError, one_of
from pld_mmdet.registry import MODELS

UNKNOWN = -2.0  # below every cosine


@MODELS.register_module()
class TransEncoder(Method):
    """Self- and mutual distillation of sentence-pair models (Liu et al., ICLR 2022).

    Cycle c has two stages::

        cross_c   the bi-encoder labels all pairs, y = cos(u_a, u_b); the cross-encoder
                  learns them:  BCE(sigmoid(logit(a, b)), y), both orders of a pair
        bi_c      the cross-encoder labels all pairs, z = sigmoid(logit(a, b)); the
                  bi-encoder learns them:  (cos(u_a, u_b) - z)^2

    Both means are over the pairs. Labels are numbers in a buffer, made in evaluation
    mode; y may be negative. With several families the labels are the mean of all of
    them and each learns it (mutual distillation).

    A stage's ``work_dataloader`` holds all pairs in order, each once; the data of a
    cross stage have ``both_orders=True`` (not where a pair has a direction, as in
    QNLI). A batch is ``first``, ``first_mask``, ``second``, ``second_mask`` [B, T] and
    ``index`` [B].

    Deviations from the released code (amzn/trans-encoder, 368f722): it keeps the
    checkpoint that is best on labelled dev pairs, in each stage and over the cycles;
    here the last one goes on, and no label is seen.

    Args:
        families: Configs ``dict(bi=..., cross=...)`` of networks: ids and mask ->
            [B, D], and two of each -> logits [B].
        pairs: Number of training pairs.
        begin: Where a network begins its stage: ``fresh``, with its first weights
            [released script], or ``carry``: with the body of the other network
            (parser's default; both are of one kind).
        bi_learns_from: ``cross``; ``bi`` (its own cosines) and ``truth`` (the batch's
            ``targets``) are a rival and the room above.
        min_std: Labels that vary less teach a constant: refused [0.02].
        family: Which one ``predict`` asks [the first].
        predict_on: ``bi`` or ``cross``.

    Raises:
        UserError: No family, or unknown words.
    """

    labels: Tensor

    def __init__(
        self,
        families: Sequence[dict],
        pairs: int,
        begin: str = "fresh",
        bi_learns_from: str = "cross",
        min_std: float = 0.02,
        family: int = 0,
        predict_on: str = "bi",
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        one_of(
            "TransEncoder",
            begin=(begin, ("fresh", "carry")),
            bi_learns_from=(bi_learns_from, ("cross", "bi", "truth")),
            predict_on=(predict_on, ("bi", "cross")),
        )
        if not families or not 0 <= family < len(families):
            raise UserError(
                f"TransEncoder: family {family} of {len(families)} is asked for.",
                "Give one family or more, and number them from 0.",
            )
        self.bi = nn.ModuleList(MODELS.build(one["bi"]) for one in families)
        self.cross = nn.ModuleList(MODELS.build(one["cross"]) for one in families)
        self.first_weights = nn.ModuleDict()
        if begin == "fresh":
            for kind in ("bi", "cross"):
                self.first_weights[kind] = Frozen(copy.deepcopy(getattr(self, kind)))
        self.register_buffer("labels", torch.full((pairs,), UNKNOWN))
        self.bi_learns_from, self.min_std = bi_learns_from, min_std
        self.family, self.predict_on = family, predict_on

    @property
    def kind(self) -> str:
        """Which of the two learns in this stage."""
        return "bi" if self.progress.stage.startswith("bi") else "cross"

    def enter_stage(self, name: str) -> None:
        """One kind learns, the other has no gradient."""
        for kind in ("bi", "cross"):
            getattr(self, kind).requires_grad_(kind == self.kind)
        self.zero_grad(set_to_none=True)

    def wants_work(self, stage: str) -> str | None:
        """The pairs that a stage's learner is given labels for."""
        labeller = self.bi_learns_from if stage.startswith("bi") else "bi"
        return None if labeller == "truth" else "the training pairs in order, each once"

    def start_stage(self, name: str, loader: DataLoader | None, folder: Path) -> None:
        """Label all pairs, then let the learner begin."""
        self.check_work(name, loader)
        labeller = self.bi_learns_from if self.kind == "bi" else "bi"
        if labeller != "truth":
            self.label(labeller, loader)
        for one, other, first in zip(
            getattr(self, self.kind),
            self.cross if self.kind == "bi" else self.bi,
            self.first_weights[self.kind].network if self.first_weights else self.bi,
            strict=True,
        ):
            if self.first_weights:
                one.load_state_dict(first.state_dict())
            else:
                one.body.load_state_dict(other.body.state_dict(), strict=False)

    @torch.no_grad()
    def label(self, kind: str, loader: DataLoader) -> None:
        """Write the mean of all families' scores into the buffer."""
        self.train(False)
        self.labels.fill_(UNKNOWN)
        for batch in loader:
            batch = self.data_preprocessor(batch, False)
            self._counted(int(batch["index"].max()) < len(self.labels))
            places = range(len(self.bi))
            scores = [self.scores(kind, place, **batch) for place in places]
            self.labels[batch["index"]] = torch.stack(scores).mean(0).float()
        all_reduce(self.labels, op="max")  # each process wrote its part
        self._counted(bool((self.labels > UNKNOWN).all()))
        spread = float(self.labels.std()) if len(self.labels) > 1 else 0.0
        if spread < self.min_std:
            raise UserError(
                f"TransEncoder: the labels of stage {self.progress.stage} are all "
                f"alike (standard deviation {spread:.4f}).",
                "Begin with sentence vectors that differ (SimCSE), or pooling='mean'; "
                "min_std=0 trains anyway.",
            )

    def scores(
        self,
        kind: str,
        place: int,
        first: Tensor,
        first_mask: Tensor,
        second: Tensor,
        second_mask: Tensor,
        **_,
    ) -> Tensor:
        """Similarity [B] as one network says it: a cosine or a probability."""
        if kind == "cross":
            logits = self.cross[place](first, first_mask, second, second_mask)
            return logits.float().sigmoid()
        net = self.bi[place]
        return _cosine(net(first, first_mask), net(second, second_mask))

    def loss_cross(self, index: Tensor, **batch) -> dict[str, Tensor]:
        """The cross-encoders' loss, and how much the labels vary."""
        target = self._known(index)
        batch.pop("targets", None)
        losses = {
            f"loss_cross_{place}": cross_step_loss(net(**batch), target)
            for place, net in enumerate(self.cross)
        }
        return losses | {"label_std": self.labels.std()}

    def loss_bi(
        self, index: Tensor, targets: Tensor | None = None, **batch
    ) -> dict[str, Tensor]:
        """The bi-encoders' loss."""
        if self.bi_learns_from == "truth":
            target = targets.float()
        else:
            target = self._known(index)
        return {
            f"loss_bi_{place}": bi_step_loss(
                net(batch["first"], batch["first_mask"]),
                net(batch["second"], batch["second_mask"]),
                target,
            )
            for place, net in enumerate(self.bi)
        }

    def _counted(self, right: bool) -> None:
        if not right:
            raise UserError(
                f"TransEncoder: model.pairs={len(self.labels)} is not the number of "
                f"pairs that stage {self.progress.stage} labels.",
                "Set it to the number of training pairs (lines of the file).",
            )

    def _known(self, index: Tensor) -> Tensor:
        target = self.labels[index]
        if bool((target == UNKNOWN).any()):
            raise UserError(
                "TransEncoder: pairs of this batch have no label.",
                "Let the stage's work_dataloader be all of its training pairs, and "
                "model.pairs their number.",
            )
        return target

    def predict(self, targets: Tensor, **batch) -> list[dict]:
        """``scores`` [B] of the network that ``predict_on`` names, and ``targets``."""
        found = self.scores(self.predict_on, self.family, **batch)
        return [{"scores": found, "targets": targets}]

    def outputs(self, **batch) -> Tensor:
        """Scores [B]."""
        return self.scores(self.predict_on, self.family, **batch)


def bi_step_loss(a: Tensor, b: Tensor, target: Tensor) -> Tensor:
    """Mean squared error between the cosine of two vectors and a label.

    Args:
        a: Vectors of the first sentences, [B, D].
        b: Of the second ones, [B, D].
        target: [B].

    Returns:
        A scalar; 0 with a gradient path for an empty batch.

    Raises:
        UserError: Shapes do not fit.
    """
    same_shape("bi_step_loss", a=a, b=b)
    cosine = _cosine(a, b)
    same_shape("bi_step_loss", cosine=cosine, target=target)
    return (cosine - wide(target)).square().sum() / max(len(cosine), 1)


def cross_step_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Binary cross-entropy of a logit with a soft label, mean over the pairs.

    Args:
        logits: [B].
        target: [B]; a cosine may be negative.

    Returns:
        A scalar; 0 with a gradient path for an empty batch.

    Raises:
        UserError: Shapes differ.
    """
    same_shape("cross_step_loss", logits=logits, target=target)
    total = F.binary_cross_entropy_with_logits(
        wide(logits), wide(target).to(wide(logits).dtype), reduction="sum"
    )
    return total / max(logits.numel(), 1)


def _cosine(a: Tensor, b: Tensor) -> Tensor:
    return F.cosine_similarity(wide(a), wide(b), dim=-1)
