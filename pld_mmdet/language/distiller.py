"""Distiller: a pipeline of distillation with words for its parts (He et al., 2021)."""

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pld_mmdet.distill.losses import masked_mean, soft_cross_entropy
from pld_mmdet.engine.run.optional import require
from pld_mmdet.errors import UserError, one_of
from pld_mmdet.language.learners.stages import StagedEncoders
from pld_mmdet.language.networks.matching import last_layers, layer_map
from pld_mmdet.language.networks.mutual_information import MutualInformation, mi_alpha
from pld_mmdet.language.networks.transformers import one_vocabulary
from pld_mmdet.registry import MODELS

__all__ = ["Distiller", "flow", "mi_alpha"]


@MODELS.register_module()
class Distiller(StagedEncoders):
    r"""Hard labels, the teacher's answers, and what lies inside, matched by layers.

        L       = a L_hard + b L_pred + g sum over matched layers of L_inter
        L_pred  = mse: mean (z_S - z_T)^2;  ce: -sum softmax(z_T) log softmax(z_S)
        L_inter = mse, cos, pkd: distance of W h_S to h_T, or mi: -I_alpha(h_S; h_T)

    I_alpha is :func:`mi_alpha` on the states of the first token; its critic and its
    baseline learn with the student, from the same loss. ``skip`` matches state m with
    m L_T / L_S, ``last`` the last states, both from the embeddings on; ``emd`` matches
    every layer with every one by the cheapest flow between uniform weights, and the
    embeddings with the embeddings.

    Stages: ``mlm`` and ``teacher`` make the teacher where none is given, ``distill``
    trains the student.

    Deviations from the released code (Cli212/Distiller, a6a48f7): the mixing weight is
    given as itself; the code takes alpha as a logit, so that its 0.5 is a mix of
    0.622. The length of the whole gradient is bounded by the optimizer's ``clip_grad``;
    the code bounds student, critic and baseline one by one. Its augmentations and the
    search over pipelines (AutoDistiller) are left out.

    Args:
        pretrained: Config of the encoder that learns masked words in stage ``mlm``, of
            the teacher's shape [none].
        finetuned: Config of the teacher (classifier).
        student: Config of the student (classifier).
        hard_weight: a [0, the released runs].
        pred: ``mse`` [the released runs] or ``ce``.
        pred_weight: b [1, ibid.].
        inter: ``mi`` [the paper's], ``mse``, ``cos``, ``pkd``, or None.
        inter_weight: g [1, ibid.].
        mapping: ``skip`` [ibid.], ``last`` or ``emd``.
        mix: Weight of the batch's mean in I_alpha [0.622, the logit 0.5].
        unit: The critic's factors are made unit length [off, code].
        mask_id: Id of the mask token.
        first_word: Ids below it are special: never masked.
        predict_on: ``student``, or ``finetuned`` to measure the teacher.

    Raises:
        UserError: Unknown words, or networks that do not fit.
    """

    learns: ClassVar = {"mlm": ["pretrained"], "teacher": ["finetuned"]}
    otherwise_learns = ("student", "helpers")
    origins: ClassVar = {"teacher": ("pretrained", "finetuned")}

    def __init__(
        self,
        finetuned: dict,
        student: dict,
        pretrained: dict | None = None,
        hard_weight: float = 0.0,
        pred: str = "mse",
        pred_weight: float = 1.0,
        inter: str | None = "mi",
        inter_weight: float = 1.0,
        mapping: str = "skip",
        mix: float = 0.622,
        unit: bool = False,
        mask_id: int = 3,
        first_word: int = 4,
        predict_on: str = "student",
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(mask_id, first_word, init_cfg)
        one_of(
            "Distiller",
            pred=(pred, ("mse", "ce")),
            inter=(inter, ("mi", "mse", "cos", "pkd", None)),
            mapping=(mapping, ("skip", "last", "emd")),
            predict_on=(predict_on, ("student", "finetuned")),
        )
        self.student = MODELS.build(student)
        if pretrained is not None:
            self.pretrained = MODELS.build(pretrained)
        self.finetuned = MODELS.build(finetuned)
        one_vocabulary("Distiller", student=self.student, teacher=self.finetuned)
        self.hard_weight, self.pred, self.pred_weight = hard_weight, pred, pred_weight
        self.inter, self.inter_weight = inter, inter_weight
        layers = self.student.layers, self.finetuned.layers
        if mapping != "last" and layers[1] % layers[0]:
            raise UserError(
                f"A student of {layers[0]} layers does not divide the teacher's "
                f"{layers[1]}.",
                "Choose another number of layers, or mapping='last'.",
            )
        self.pairs = _pairs(mapping, *layers)
        self.flows = mapping == "emd"
        self.helpers = nn.ModuleList(self._helpers(mix, unit))
        self.predict_on = predict_on

    def _helpers(self, mix: float, unit: bool) -> list[nn.Module]:
        """What learns beside the student: one for all pairs, or one a pair (emd)."""
        widths = self.student.width, self.finetuned.width
        if self.inter == "mi":
            count = len(self.pairs) if self.flows else 1
            return [MutualInformation(*widths, mix, unit=unit) for _ in range(count)]
        if self.inter is None or widths[0] == widths[1]:
            return []
        return [nn.Linear(*widths) for _ in range(self.student.layers + 1)]

    def loss_mlm(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, **_
    ) -> dict[str, Tensor]:
        """Masked words, for the body of the teacher."""
        loss = self.masked_words(self.pretrained, input_ids, attention_mask)
        return {"loss_mlm": loss}

    def loss_teacher(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        targets: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Cross-entropy of the teacher."""
        found = self.labelled(self.finetuned, input_ids, attention_mask, targets)
        return {"loss_teacher": found}

    def loss_distill(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        targets: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """The three terms; those of weight 0 are left out. Also logs the bound.

        Args:
            input_ids: [B, T].
            attention_mask: [B, T].
            targets: [B], read where ``hard_weight`` is not 0.
        """
        with torch.no_grad():
            h_t, _, z_t = self.finetuned.inside(input_ids, attention_mask)
        h_s, _, z_s = self.student.inside(input_ids, attention_mask)
        losses = {}
        if self.hard_weight:
            if targets is None:
                raise UserError(
                    "Distiller: hard_weight asks for labels that the data lack.",
                    "Set hard_weight=0, or give data with `targets`.",
                )
            hard = F.cross_entropy(z_s.float(), targets)
            losses["loss_hard"] = self.hard_weight * hard
        if self.pred_weight:
            z_s, z_t = z_s.float(), z_t.float()
            far = F.mse_loss(z_s, z_t) if self.pred == "mse" else None
            far = soft_cross_entropy(z_s, z_t.softmax(-1)) if far is None else far
            losses["loss_pred"] = self.pred_weight * far
        if self.inter is not None and self.inter_weight:
            apart = self.apart(h_s, h_t, attention_mask)
            losses["loss_inter"] = self.inter_weight * apart
            if self.inter == "mi" and not self.flows:
                losses["bound"] = -apart.detach() / len(self.pairs)
        return losses

    def apart(
        self, h_s: Sequence[Tensor], h_t: Sequence[Tensor], mask: Tensor | None
    ) -> Tensor:
        """L_inter over all pairs of states, [B, T, D_S] and [B, T, D_T] each."""
        costs = [
            self._distance(place, h_s[i].float(), h_t[j].float(), mask)
            for place, (i, j) in enumerate(self.pairs)
        ]
        if not self.flows:
            return sum(costs)
        embeddings, *costs = costs
        costs = torch.stack(costs).unflatten(0, (self.student.layers, -1))
        return embeddings + (flow(costs.detach()) * costs).sum()

    def _distance(
        self, place: int, ours: Tensor, theirs: Tensor, mask: Tensor | None
    ) -> Tensor:
        if self.inter == "mi":
            helper = self.helpers[place if self.flows else 0]
            return -helper(ours[:, 0], theirs[:, 0])
        if len(self.helpers):
            ours = self.helpers[self.pairs[place][0]](ours)
        if self.inter == "pkd":
            ours, theirs = (F.normalize(h[:, 0], dim=1) for h in (ours, theirs))
            return (ours - theirs).square().sum(1).mean()
        far = (
            (ours - theirs).square().mean(-1)
            if self.inter == "mse"
            else 1 - F.cosine_similarity(ours, theirs, dim=-1)
        )
        return masked_mean(far, torch.ones_like(far) if mask is None else mask)


def _pairs(mapping: str, student: int, teacher: int) -> list[tuple[int, int]]:
    """Numbers of the states that are compared, student first, embeddings are 0."""
    if mapping == "emd":
        every = [(i, j) for i in range(1, student + 1) for j in range(1, teacher + 1)]
        return [(0, 0), *every]
    find = layer_map if mapping == "skip" else last_layers
    return list(enumerate(find(student, teacher)))


def flow(costs: Tensor) -> Tensor:
    """The cheapest way to carry uniform weights from rows to columns (BERT-EMD).

    Args:
        costs: [M, N].

    Returns:
        [M, N]; rows sum to 1 / M, columns to 1 / N. Without gradient.
    """
    rows, columns = costs.shape
    linprog = require("scipy.optimize", "language").linprog
    sums = [np.kron(np.eye(rows), np.ones(columns))]
    sums.append(np.kron(np.ones(rows), np.eye(columns)))
    weights = [np.full(rows, 1 / rows), np.full(columns, 1 / columns)]
    found = linprog(
        costs.double().cpu().numpy().ravel(),
        A_eq=np.concatenate(sums),
        b_eq=np.concatenate(weights),
    )
    return torch.as_tensor(found.x, dtype=costs.dtype, device=costs.device).view(
        rows, columns
    )
