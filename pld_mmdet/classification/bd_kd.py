"""BD-KD: teacher and student learn together, the student through both divergences."""

from torch import Tensor, nn
from torch.nn import functional as F

from pld_mmdet.distill.divergences import kl, reverse_kl
from pld_mmdet.distill.losses import entropy
from pld_mmdet.engine.run.method import TeacherStudent
from pld_mmdet.errors import one_of
from pld_mmdet.registry import MODELS


@MODELS.register_module()
class BDKD(TeacherStudent):
    r"""Balanced-divergence online distillation (Amara et al. 2022, arXiv 2212.12965).

    With p = softmax(z / tau) and delta = H(p_t) - H(p_s) of each image::

        L_s = CE(y, z_s) + alpha tau^2 mean[w_F KL(p_t || p_s) + w_R KL(p_s || p_t)]
              delta > 0  (the student is more confident): w_F = nu, w_R = 1
              delta <= 0 (it is less confident):          w_F = 1,  w_R = nu
        L_t = CE(y, z_t) + alpha tau^2 mean KL(p_s || p_t)

    Each divergence stops the other network's gradient, and delta is a constant, so
    one optimizer over both networks does the same as two.

    No code was released and the abstracts name no numbers: the direction of the rule,
    ``nu``, ``tau``, ``alpha`` and the teacher's divergence are a reconstruction, hence
    arguments. ``student_kl='forward'`` is deep mutual learning (Zhang et al. 2018).

    Args:
        student: Config of a network, N x ... -> N x C logits.
        teacher: Config of a network with as many outputs.
        nu: Weight of the divergence that the entropy gap asks for [2]. 1: no balancing.
        tau: Temperature [1].
        alpha: Weight of the divergences beside the cross-entropy [1].
        student_kl: ``balanced``, or ``forward`` (only KL(p_t || p_s), weight 1).
        predict_on: ``student`` (the result) or ``teacher``.

    Raises:
        UserError: An unknown ``student_kl`` or ``predict_on``.
    """

    def __init__(
        self,
        student: dict,
        teacher: dict,
        nu: float = 2.0,
        tau: float = 1.0,
        alpha: float = 1.0,
        student_kl: str = "balanced",
        predict_on: str = "student",
        init_cfg: dict | None = None,
    ) -> None:
        one_of("BDKD", student_kl=(student_kl, ("balanced", "forward")))
        super().__init__(student, teacher, predict_on, init_cfg=init_cfg)
        self.nu, self.tau, self.alpha = nu, tau, alpha
        self.student_kl = student_kl

    def build_teacher(self, config: dict) -> nn.Module:
        """A network that learns too."""
        return MODELS.build(config)

    def loss(self, inputs: Tensor, targets: Tensor, **_) -> dict[str, Tensor]:
        """Losses of both networks for one batch: N x ..., N labels."""
        z_s, z_t = self.student(inputs), self.teacher(inputs)
        student_kd, sharper = self.student_divergence(z_t.detach(), z_s)
        return {
            "loss_student_ce": F.cross_entropy(z_s, targets),
            "loss_student_kd": self.alpha * student_kd,
            "loss_teacher_ce": F.cross_entropy(z_t, targets),
            "loss_teacher_kd": self.alpha * kl(z_s.detach(), z_t, self.tau),
            "student_sharper": sharper,
        }

    def student_divergence(self, z_t: Tensor, z_s: Tensor) -> tuple[Tensor, Tensor]:
        """The student's divergence from a constant teacher.

        Args:
            z_t: Teacher's logits [N, C], detached.
            z_s: Student's logits [N, C].

        Returns:
            The weighted mean over images times tau^2, and the share of images on which
            the student is the more confident one (for the log).
        """
        sharper = entropy(z_t / self.tau) > entropy(z_s.detach() / self.tau)
        if self.student_kl == "forward":
            return kl(z_t, z_s, self.tau), sharper.float().mean()
        forward = kl(z_t, z_s, self.tau, reduction="none")
        reverse = reverse_kl(z_t, z_s, self.tau, reduction="none")
        w_f = forward.new_ones(len(forward)).masked_fill(sharper, self.nu)
        w_r = self.nu + 1 - w_f
        balanced = (w_f * forward + w_r * reverse).mean() * self.tau**2
        return balanced, sharper.float().mean()
