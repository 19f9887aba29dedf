"""DMAE: a small ViT learns a large one's features while it reconstructs (2022).

Bai et al., Masked Autoencoders Enable Efficient Knowledge Distillers,
https://arxiv.org/abs/2208.12256::

    keep   = random visible patches, the same for both networks
    z_T    = teacher's tokens after block t              # later blocks never run
    z_S    = student's tokens after block s, its decoder rebuilds all patches
    L      = mean squared error of the pixels of masked patches
             + alpha mean |norm(project(z_S)) - norm(z_T)|

``norm`` divides each token by its length: the official code does (UCSC-VLAA/DMAE, read
for facts only), the paper's equation does not; ``normalise`` chooses. The official code
runs the whole teacher and its decoder and throws the rest away; ours stops.
"""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pld_mmdet.distill.feature_tap import FeatureTap
from pld_mmdet.distill.teachers import Frozen
from pld_mmdet.errors import UserError
from pld_mmdet.masked_image_modeling.learners.pretraining import (
    MaskedPretraining,
    decoder_for,
    masked_pixel_loss,
)
from pld_mmdet.registry import MODELS


def feature_loss(student: Tensor, teacher: Tensor, normalise: bool = True) -> Tensor:
    """Mean |student - teacher| of tokens N x L x D, of unit length if ``normalise``."""
    student, teacher = student.float(), teacher.float()
    if normalise:
        student, teacher = F.normalize(student, dim=-1), F.normalize(teacher, dim=-1)
    return F.l1_loss(student, teacher)


@MODELS.register_module()
class DMAE(MaskedPretraining):
    """Student MAE with an aligned, frozen teacher encoder.

    Stages, with ``StagedLoop``: ``teacher`` pre-trains the teacher as an MAE (for
    teachers without ``checkpoint``), ``distill`` is DMAE, ``finetune`` trains the
    student on whole, labelled images with a linear head on its mean patch token; its
    blocks learn too. Without ``StagedLoop`` it is DMAE.

    Args:
        student: Config of a ``MaskedViT``.
        decoder: Config of the student's ``MAEDecoder``.
        teacher: Config of a ``MaskedViT``. None: alpha is 0, a plain MAE [None].
        teacher_decoder: Of the stage ``teacher`` alone [None].
        aligned: Pairs (student block, teacher block), from 0 [ViT-B and ViT-L: 3/4 of
            their depths, the 9th and the 18th block].
        alpha: Weight of the features' loss [1].
        mask_ratio: Share of hidden patches [0.75; also 0.95 and 0.98].
        normalise: Compare directions of tokens, as in the official code [True].
        num_classes: Of the head of ``finetune`` [10].
        mean, std: Subtracted from and divided out of all inputs [0 and 1].
    """

    def __init__(
        self,
        student: dict,
        decoder: dict,
        teacher: dict | None = None,
        teacher_decoder: dict | None = None,
        aligned: Sequence[tuple[int, int]] = ((8, 17),),
        alpha: float = 1.0,
        mask_ratio: float = 0.75,
        normalise: bool = True,
        num_classes: int = 10,
        mean: float = 0.0,
        std: float = 1.0,
        data_preprocessor: dict | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        if alpha and teacher is None:
            raise UserError(
                f"DMAE: alpha={alpha} needs a teacher.",
                "Set model.teacher, or alpha=0 for a plain MAE.",
            )
        super().__init__(
            student,
            decoder,
            mask_ratio,
            mean=mean,
            std=std,
            data_preprocessor=data_preprocessor,
            init_cfg=init_cfg,
        )
        self.alpha, self.normalise = alpha, normalise
        self.aligned = [tuple(pair) for pair in aligned] if alpha else []
        self.learner = self.learner_decoder = None
        if alpha:
            self.teacher = Frozen(MODELS.build(teacher))
            for s, t in self.aligned:
                for name, network, block in (
                    ("student", self.student, s),
                    ("teacher", self.teacher.network, t),
                ):
                    if not 0 <= block < len(network.blocks):
                        raise UserError(
                            f"DMAE: the {name} has no block {block}.",
                            f"It has {len(network.blocks)}, counted from 0.",
                        )
            self.project = nn.ModuleList(
                nn.Linear(self.student.dim, self.teacher.network.dim)
                for _ in self.aligned
            )
            if teacher_decoder is not None:  # it learns here, then it is copied
                self.learner = MODELS.build(teacher)
                self.learner_decoder = decoder_for(self.learner, teacher_decoder)
        self.add_head(num_classes)

    def enter_stage(self, name: str) -> None:
        """Refuse to train a teacher that has no decoder."""
        if name == "teacher" and self.learner is None:
            raise UserError(
                "DMAE: the stage `teacher` needs teacher_decoder.",
                "Set model.teacher_decoder, or leave the stage out.",
            )

    def start_stage(self, name: str, loader: object, folder: Path) -> None:
        """The teacher of ``distill`` is what the stage ``teacher`` learned."""
        super().start_stage(name, loader, folder)
        if name == "distill" and self.learner is not None:
            self.teacher.network.load_state_dict(self.learner.state_dict())

    def loss_teacher(self, inputs: Tensor, **_) -> dict[str, Tensor]:
        """The teacher as an MAE of images N x C x H x W."""
        loss = self.reconstruction(self.learner, self.learner_decoder, inputs)
        return {"loss_teacher": loss}

    def loss_distill(self, inputs: Tensor, **_) -> dict[str, Tensor]:
        """DMAE of images N x C x H x W."""
        inputs, keep = self.masked(inputs)
        blocks = {f"block_{s}": self.student.blocks[s] for s, _ in self.aligned}
        with FeatureTap(**blocks) as tap:
            tokens = self.student(inputs, keep)
        guess = self.decoder(tokens, keep)
        patches = self.student.patches(inputs)
        losses = {"loss_rec": masked_pixel_loss(guess, patches, keep)}
        for (s, t), project in zip(self.aligned, self._projections(), strict=True):
            with torch.no_grad():
                theirs = self.teacher(inputs, keep, until=t)
            ours = project(tap.output(f"block_{s}"))
            distance = feature_loss(ours, theirs, self.normalise)
            losses[f"loss_dist_block{s}"] = self.alpha * distance
        return losses

    def _projections(self) -> Sequence[nn.Module]:
        return self.project if self.alpha else ()
