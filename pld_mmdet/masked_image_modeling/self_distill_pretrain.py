"""Self-distillation for further pre-training: go on, go back, keep near (2022).

Lee et al., Self-Distillation for Further Pre-training of Transformers,
https://arxiv.org/abs/2210.02871::

    theta   = a pre-trained MAE, encoder f and decoder
    further:  f_0 = f after T steps of the MAE's loss on the target images X_u
    distill:  back to theta; T steps of
              L = MAE(masked x) + weight ||f(x) - f_0(x)||^2 / batch    # whole x, both
    then f is fine-tuned on the labels of the target

Read for facts only: seanie12/self-distillation, commit 4f6436f. f(x) is the class token
behind the final norm, squares are summed over its channels; the pixels of each patch
are normalised. There the two losses go backward one after the other; here their sum
does, which is the same gradient. Fine-tuning has no dropout here (theirs: 0.1).
"""

import copy
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pld_mmdet.distill._checks import same_shape
from pld_mmdet.distill.teachers import Frozen
from pld_mmdet.errors import UserError, one_of
from pld_mmdet.masked_image_modeling.learners.pretraining import MaskedPretraining
from pld_mmdet.registry import MODELS


def feature_gap(student: Tensor, teacher: Tensor) -> Tensor:
    """Squared distance: the sum over channels, the mean over images.

    A mean over channels too would be 768 times smaller for a ViT-B: no loss at all.

    Args:
        student: N x D.
        teacher: N x D.

    Returns:
        A scalar; 0 with a gradient path for no images.
    """
    same_shape("feature_gap", student=student, teacher=teacher)
    gap = (student.float() - teacher.float()).square()
    return gap.sum() / max(len(gap), 1)


@MODELS.register_module()
class SelfDistillPretrain(MaskedPretraining):
    """An MAE that is further pre-trained twice, the second time beside the first.

    Stages, with ``StagedLoop``: ``mae`` (makes theta; left out where the student has a
    ``checkpoint``), ``further``, ``distill``; ``distill_2`` and more are further rounds
    with the last student as teacher; then ``export`` and ``finetune``. Each begins
    where the algorithm box says. Where ``subsets`` draws of labels are used,
    ``finetune`` tunes a copy of the student on each, and all copies answer.

    Args:
        student: Config of a ``MaskedViT``.
        decoder: Config of its ``MAEDecoder``.
        weight: Of the distance [1].
        token: What f(x) is, and what is classified: ``cls`` [code] or ``mean`` of the
            patches (an MAE never asks its class token for anything).
        mask_ratio: Share of hidden patches [0.75].
        normalise_pixels: Of each patch [True].
        num_classes: K [10].
        subsets: Draws of labels (data set ``LabelSubsets``) [1].
        mean, std: Subtracted from and divided out of all inputs [0 and 1].
    """

    default_stage = "further"
    started: Tensor

    def __init__(
        self,
        student: dict,
        decoder: dict,
        weight: float = 1.0,
        token: str = "cls",
        mask_ratio: float = 0.75,
        normalise_pixels: bool = True,
        num_classes: int = 10,
        subsets: int = 1,
        mean: float = 0.0,
        std: float = 1.0,
        data_preprocessor: dict | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        one_of("SelfDistillPretrain", token=(token, ("cls", "mean")))
        super().__init__(
            student,
            decoder,
            mask_ratio,
            normalise_pixels,
            mean=mean,
            std=std,
            data_preprocessor=data_preprocessor,
            init_cfg=init_cfg,
        )
        self.weight, self.token, self.num_classes = weight, token, num_classes
        self.teacher = Frozen(copy.deepcopy(self.student))
        # theta, to go back to.
        theta = nn.ModuleList([self.student, self.decoder])
        self.start = Frozen(copy.deepcopy(theta))
        self.register_buffer("started", torch.zeros((), dtype=torch.bool))
        self.tuned = nn.ModuleList(copy.deepcopy(self.student) for _ in range(subsets))
        self.heads = nn.ModuleList(
            nn.Linear(self.student.dim, num_classes) for _ in range(subsets)
        )

    def start_stage(self, name: str, loader: object, folder: Path) -> None:
        """Theta is kept before ``further``; ``distill`` goes back to it."""
        super().start_stage(name, loader, folder)
        start = self.start.network
        if name == "further":
            for kept, own in zip(start, (self.student, self.decoder), strict=True):
                kept.load_state_dict(own.state_dict())
            self.started.fill_(True)
        elif name.startswith("distill"):
            if not self.started:
                raise UserError(
                    f"SelfDistillPretrain: the stage `{name}` has no teacher yet.",
                    "Put the stage `further` before it, or start from its checkpoint.",
                )
            self.teacher.network.load_state_dict(self.student.state_dict())
            for kept, own in zip(start, (self.student, self.decoder), strict=True):
                own.load_state_dict(kept.state_dict())
        elif name == "finetune":
            for network in self.tuned:
                network.load_state_dict(self.student.state_dict())

    def loss_further(self, inputs: Tensor, **_) -> dict[str, Tensor]:
        """The MAE goes on, on the target's images N x C x H x W."""
        return self.loss_mae(inputs)

    def loss_distill(self, inputs: Tensor, **_) -> dict[str, Tensor]:
        """The MAE's loss, and the distance to what it had become."""
        losses = self.loss_mae(inputs)
        x = self.normalised(inputs)
        with torch.no_grad():
            theirs = self.pooled(self.teacher(x))
        gap = feature_gap(self.pooled(self.student(x)), theirs)
        return {**losses, "loss_dist": self.weight * gap}

    def loss_finetune(
        self, inputs: Tensor, targets: Tensor, subset: Tensor | None = None, **_
    ) -> dict[str, Tensor]:
        """Cross-entropy of each copy on its own draw; N draws' numbers [all of 0]."""
        if subset is None:
            subset = torch.zeros_like(targets)
        x, losses = self.normalised(inputs), {}
        for number, (network, head) in enumerate(self._copies()):
            own = subset == number
            logits = head(self.pooled(network(x[own])))
            value = F.cross_entropy(logits, targets[own], reduction="sum")
            losses[f"loss_ce_{number}"] = value / max(int(own.sum()), 1)
        return losses

    def predict(self, inputs: Tensor, targets: Tensor, **_) -> list[dict]:
        """The answers of all copies, logits N x K, beside the labels."""
        x = self.normalised(inputs)
        return [
            {"logits": head(self.pooled(network(x))), "targets": targets}
            for network, head in self._copies()
        ]

    def pooled(self, tokens: Tensor) -> Tensor:
        """What ``token`` names, N x (1 + L) x D -> N x D."""
        return tokens[:, 0] if self.token == "cls" else tokens[:, 1:].mean(1)

    def _copies(self) -> zip:
        return zip(self.tuned, self.heads, strict=True)
