"""Random Teachers: a network that never learned teaches one that starts near it."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pld_mmdet.distill._checks import positive, wide
from pld_mmdet.distill.losses import soft_cross_entropy
from pld_mmdet.engine.run.method import TeacherStudent
from pld_mmdet.errors import UserError
from pld_mmdet.registry import MODELS


def variance_correction(alpha: float) -> float:
    """sqrt(a^2 + (1 - a)^2): how much smaller a mixture of two draws is than one.

    Args:
        alpha: a, the share of the other draw, 0 to 1.

    Raises:
        UserError: A share outside.

    Examples:
        >>> round(variance_correction(0.2), 7)
        0.8246211
    """
    if not 0 <= alpha <= 1:
        raise UserError(f"alpha={alpha} is no share.", "Choose 0 <= alpha <= 1.")
    return math.sqrt(alpha**2 + (1 - alpha) ** 2)


@torch.no_grad()
def move_towards(
    student: nn.Module, teacher: nn.Module, alpha: float, corrected: bool = True
) -> None:
    """Replace the student's draw R by ``((1 - a) T + a R) / sqrt(a^2 + (1 - a)^2)``.

    So each weight has the variance of one draw. Parameters that are no draw (equal in
    both: scales of norms, zero biases) stay as they are [ours].

    Args:
        student: Drawn like the teacher, by itself; changed in place.
        teacher: T.
        alpha: a. 0: the teacher's copy, 1: as it is.
        corrected: Divide by the root; the released default does not.

    Raises:
        UserError: A share outside 0 to 1, or networks of different form.
    """
    scale = variance_correction(alpha) if corrected else 1.0
    theirs = dict(teacher.named_parameters())
    mine = dict(student.named_parameters())
    if {k: v.shape for k, v in mine.items()} != {k: v.shape for k, v in theirs.items()}:
        raise UserError(
            "Random teachers: student and teacher have different weights.",
            "Give both the same config.",
        )
    for name, own in mine.items():
        if not torch.equal(own, theirs[name]):
            own.copy_(((1 - alpha) * theirs[name] + alpha * own) / scale)


@MODELS.register_module()
class HeadedEncoder(nn.Module):
    """An encoder and DINO's head without batch norm (Caron et al. 2021).

    Three linear layers with GELU between them, the last one to a bottleneck of unit
    length; then a linear layer whose rows have unit length, without bias. So logits lie
    in -1 to 1. Linear weights are drawn from a normal of 0.02, cut at two deviations.

    Args:
        encoder: Config of a network with ``features`` and ``feat_dim``; its classifier,
            if it has one, is left out.
        hidden: Width of the two hidden layers [2048].
        bottleneck: Width of the unit vector [256].
        outputs: K [65536].
    """

    def __init__(
        self,
        encoder: dict,
        hidden: int = 2048,
        bottleneck: int = 256,
        outputs: int = 65536,
    ) -> None:
        super().__init__()
        self.encoder = MODELS.build(encoder)
        if isinstance(getattr(self.encoder, "fc", None), nn.Module):
            self.encoder.fc = nn.Identity()
        self.feat_dim = self.encoder.feat_dim
        self.head = nn.Sequential(
            nn.Linear(self.feat_dim, hidden),
            nn.GELU(),
            nn.Linear(hidden, hidden),
            nn.GELU(),
            nn.Linear(hidden, bottleneck),
        )
        self.last = nn.Linear(bottleneck, outputs, bias=False)
        for layer in (*self.head, self.last):
            if isinstance(layer, nn.Linear):
                nn.init.trunc_normal_(layer.weight, std=0.02, a=-0.04, b=0.04)
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)

    def features(self, x: Tensor) -> Tensor:
        """Of the encoder: N x C x H x W -> N x D."""
        return self.encoder.features(x)

    def forward(self, x: Tensor) -> Tensor:
        """N x C x H x W -> N x K logits in -1 to 1."""
        unit = F.normalize(self.head(self.features(x)), dim=1)
        return F.linear(unit, F.normalize(self.last.weight, dim=1))


@MODELS.register_module()
class RandomTeachers(TeacherStudent):
    r"""Random teachers are good teachers (Sarnthein et al., ICML 2023).

    The teacher is drawn and never changes: evaluation mode, batch norm with mean 0 and
    variance 1. The student is drawn too and moved to it, then learns its answers on the
    images as they are, without labels, views, centring or an average::

        theta_S = ((1 - a) theta_T + a theta_R) / sqrt(a^2 + (1 - a)^2)
        L = CE(softmax(z_T / tau_T), z_S / tau_S)

    What is looked at is the encoder's features, by a probe (``LinearProbeMetric``). At
    a = 0 only batch norm's two modes make a gradient: without it (or dropout) there is
    nothing to learn, and a > 0 is needed. No weight decay.

    Args:
        student: Config of a ``HeadedEncoder``; the teacher has the same.
        alpha: a [1e-10, the released runs' next to nothing].
        corrected: Keep the variance of a draw [the paper's; the code has it off].
        tau_teacher: [1].
        tau_student: [1].
        predict_on: ``student`` or ``teacher``: whose features are probed.

    Raises:
        UserError: Numbers out of range.
    """

    def __init__(
        self,
        student: dict,
        alpha: float = 1e-10,
        corrected: bool = True,
        tau_teacher: float = 1.0,
        tau_student: float = 1.0,
        predict_on: str = "student",
        init_cfg: dict | None = None,
    ) -> None:
        positive("RandomTeachers", tau_teacher=tau_teacher, tau_student=tau_student)
        super().__init__(student, student, predict_on, init_cfg=init_cfg)
        move_towards(self.student, self.teacher.network, alpha, corrected)
        self.tau_teacher, self.tau_student = tau_teacher, tau_student

    def loss(self, inputs: Tensor, **_) -> dict[str, Tensor]:
        """Cross-entropy with the teacher, and by how much it exceeds its entropy."""
        with torch.no_grad():
            z_t = wide(self.teacher(inputs)) / self.tau_teacher
            target = z_t.softmax(1)
            entropy = -(target * z_t.log_softmax(1)).sum(1).mean()
        value = soft_cross_entropy(self.student(inputs) / self.tau_student, target)
        return {"loss": value, "excess": value.detach() - entropy}

    def predict(self, inputs: Tensor, targets: Tensor, **_) -> list[dict]:
        """Features N x D beside the labels, for a probe."""
        network = self.student
        if self.predict_on == "teacher":
            network = self.teacher.network
        return [{"features": network.features(inputs), "targets": targets}]
