"""MEAL V2: the mean of several teachers, and a discriminator, on a trained student."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pld_mmdet.distill.losses import soft_cross_entropy
from pld_mmdet.errors import one_of
from pld_mmdet.registry import MODELS
from pld_mmdet.shared.mixing import cutmix
from pld_mmdet.shared.taught import TaughtStudent, mean_probabilities


class _Reversed(torch.autograd.Function):
    """The same value; the gradient changes its sign."""

    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        return x.view_as(x)

    @staticmethod
    def backward(ctx, grad: Tensor) -> Tensor:
        return -grad


class Discriminator(nn.Sequential):
    """C -> C/8 -> C/64 -> 2, ReLU after all three (also the last, as released).

    Args:
        num_classes: C.
    """

    def __init__(self, num_classes: int) -> None:
        widths = [num_classes, max(1, num_classes // 8), max(1, num_classes // 64), 2]
        layers: list[nn.Module] = []
        for before, after in pairwise(widths):
            layers += [nn.Linear(before, after), nn.ReLU()]
        super().__init__(*layers)


def discriminator_loss(of_student: Tensor, of_teacher: Tensor) -> Tensor:
    """Binary cross-entropy: (1, 0) is the student's target, (0, 1) the teachers'.

    Args:
        of_student: The discriminator's logits [N, 2] of the student's rows.
        of_teacher: The same of the teachers' rows.

    Returns:
        The mean over 2 N x 2 numbers.
    """
    rows = torch.cat([of_student, of_teacher]).float()
    target = torch.zeros_like(rows)
    target[: len(of_student), 0] = 1
    target[len(of_student) :, 1] = 1
    return F.binary_cross_entropy_with_logits(rows, target)


@MODELS.register_module()
class MEALV2(TaughtStudent):
    r"""MEAL V2 (Shen and Savvides 2020): boosting a trained student without tricks.

        p_t = mean of softmax(z_n),   zbar = mean of z_n     over N frozen teachers
        L = CE(p_t, z_s) + L_D,   L_D = BCE(D(z_s), (1, 0)) + BCE(D(zbar), (0, 1)), mean

    No label, no temperature. The student starts from its own trained weights (stage
    ``student``, or weights given). As released, student and D lower the *same* L_D: it
    is not adversarial, and a fresh D dies in its last ReLU within a few steps (L_D
    stays at ln 2; ``loss_d`` is in the log). ``adversarial`` turns the gradient that
    the student gets from D.

    Deviations from the released code (szq0214/MEAL-V2, commit 59e6bca): with one
    teacher a batch, three teachers are drawn alike (theirs: 1/5, 2/5, 2/5). The paper's
    teachers have learnt on the student's own images; the toy's have not.

    Args:
        student: Config of a network, N x ... -> N x C logits.
        teachers: Configs of the teachers.
        num_classes: C, of the discriminator.
        combine: ``mean`` [paper], or ``one``: a teacher is drawn for each batch.
        discriminator: With L_D [True].
        adversarial: With a gradient reversal before D [False: released code].
        d_weight: Of L_D [1, code].
        mixed: CutMix on the images; the teachers see the mixed ones, so no label is
            mixed [False].
        predict_on: ``student`` or ``teacher``.

    Raises:
        UserError: An unknown word, or no teacher.
    """

    def __init__(
        self,
        student: dict,
        teachers: Sequence[dict],
        num_classes: int,
        combine: str = "mean",
        discriminator: bool = True,
        adversarial: bool = False,
        d_weight: float = 1.0,
        mixed: bool = False,
        predict_on: str = "student",
        init_cfg: dict | None = None,
    ) -> None:
        one_of("MEALV2", combine=(combine, ("mean", "one")))
        super().__init__(student, teachers, predict_on, init_cfg)
        self.combine, self.mixed = combine, mixed
        self.adversarial, self.d_weight = adversarial, d_weight
        self.discriminator = Discriminator(num_classes) if discriminator else None
        self.enter_stage(self.default_stage)

    @property
    def learners(self) -> list[nn.Module]:
        """The discriminator learns beside the student."""
        judge = getattr(self, "discriminator", None)
        late = judge is not None and self.progress.stage == "distill"
        return [*super().learners, *([judge] if late else [])]

    def loss_distill(self, inputs: Tensor, **_) -> dict[str, Tensor]:
        """Both terms on images N x ..., whatever their labels."""
        if self.mixed:
            inputs, _, _ = cutmix(inputs, inputs.new_zeros(len(inputs), 1))
        answers = self.answers(inputs)
        if self.combine == "one":
            answers = [answers[int(torch.randint(len(answers), ()))]]
        return self.losses(self.student(inputs), answers)

    def losses(self, z_s: Tensor, answers: Sequence[Tensor]) -> dict[str, Tensor]:
        """The terms of the student's logits [N, C] and each teacher's."""
        found = {"loss_sim": soft_cross_entropy(z_s, mean_probabilities(answers))}
        if self.discriminator is not None:
            judged = _Reversed.apply(z_s) if self.adversarial else z_s
            mean = torch.stack(list(answers)).mean(0).detach()
            value = discriminator_loss(
                self.discriminator(judged), self.discriminator(mean)
            )
            found["loss_d"] = self.d_weight * value
        return found
