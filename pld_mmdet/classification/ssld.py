"""SSLD: a small network learns a large one's answers on images without labels."""

from collections.abc import Sequence
from contextlib import nullcontext

import torch
from torch import Tensor

from pld_mmdet.distill.divergences import js, kl, reverse_kl
from pld_mmdet.distill.losses import soft_cross_entropy
from pld_mmdet.distill.teachers import batch_statistics
from pld_mmdet.errors import UserError, one_of
from pld_mmdet.registry import MODELS
from pld_mmdet.shared.taught import TaughtStudent


def symmetric_kl(student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
    r"""``(KL(p_t || p_s) + KL(p_s || p_t)) / 2``, the mean over samples.

    What the first released code computes under the name of the Jensen-Shannon
    divergence; near equality it is four times as large as that.

    Args:
        student_logits: [N, C].
        teacher_logits: [N, C].

    Returns:
        A scalar.

    Raises:
        UserError: Shapes differ.
    """
    forward = kl(teacher_logits, student_logits)
    return (forward + reverse_kl(teacher_logits, student_logits)) / 2


def _soft_ce(student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
    return soft_cross_entropy(student_logits, teacher_logits.softmax(-1))


def _js(student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
    return js(teacher_logits, student_logits)


DISTANCES = {"sym_kl": symmetric_kl, "js": _js, "ce": _soft_ce}


@MODELS.register_module()
class SSLD(TaughtStudent):
    r"""Beyond Self-Supervision: simple semi-supervised label distillation (Cui 2021).

        L = (KL(p_t || p_s) + KL(p_s || p_t)) / 2,   p = softmax(z)

    on labelled and unlabelled images alike: no label enters. Stages of ``StagedLoop``:
    ``teacher`` (where it is not given), ``distill`` (all images), ``finetune`` (the
    same loss on the labelled set's images, at a hundredth of the rate). What is gained
    comes from the images more than from the divergence: compare with ordinary
    distillation on as many (``distance="ce"``).

    The paper calls the loss Jensen-Shannon, the first released code computes the
    symmetric KL, the newer configs a soft cross-entropy; all three are here. Left out:
    the removal of near duplicates of test images (SIFT), and the last stage at a larger
    resolution. Images are chosen with ``distill.selection.topk_per_class``.

    The teacher's weights are frozen, but its batch norm normalises by the batch, as
    documented (76.00 against 75.84 % in evaluation mode). Deviation: their running
    statistics move meanwhile; here they stay, and nothing reads them in training.

    Args:
        student: Config of a network, N x ... -> N x C logits.
        teachers: Config of the teacher, in a list of one.
        distance: ``sym_kl`` [code], ``js`` [the word of the paper] or ``ce`` [newer
            configs].
        teacher_statistics: ``batch`` [documented] or ``running``.
        predict_on: ``student`` or ``teacher``.

    Raises:
        UserError: An unknown word, or more than one teacher.
    """

    def __init__(
        self,
        student: dict,
        teachers: Sequence[dict],
        distance: str = "sym_kl",
        teacher_statistics: str = "batch",
        predict_on: str = "student",
        init_cfg: dict | None = None,
    ) -> None:
        one_of(
            "SSLD",
            distance=(distance, DISTANCES),
            teacher_statistics=(teacher_statistics, ("batch", "running")),
        )
        super().__init__(student, teachers, predict_on, init_cfg)
        if len(self.teachers) > 1:
            raise UserError("SSLD has one teacher.", "Give a list of one config.")
        self.distance = DISTANCES[distance]
        self.teacher_statistics = teacher_statistics

    def loss_distill(self, inputs: Tensor, **_) -> dict[str, Tensor]:
        """Distance of student and teacher on images N x ..., whatever their labels."""
        own = self.teacher_statistics == "batch"
        with torch.no_grad(), batch_statistics(self.teachers) if own else nullcontext():
            z_t = self.teachers[0](inputs)
        return {"loss_kd": self.distance(self.student(inputs), z_t)}

    def loss_finetune(self, inputs: Tensor, **_) -> dict[str, Tensor]:
        """The same; the stage brings the labelled set's images and a lower rate."""
        return self.loss_distill(inputs)
