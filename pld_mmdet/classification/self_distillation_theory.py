"""Self-distillation with labels in kernel ridge regression (closed form) and deep."""

from collections.abc import Sequence
from pathlib import Path

import torch
from mmengine.registry import DATASETS as ROOT_DATASETS
from torch import Tensor, nn
from torch.nn import functional as F

from pld_mmdet.distill._checks import positive
from pld_mmdet.engine.data.randomness import own_randomness
from pld_mmdet.engine.run.method import Method, TeacherStudent
from pld_mmdet.errors import UserError
from pld_mmdet.registry import MODELS

_STREAM = 11  # keeps later students' weights apart from other draws


def fit(
    kernel: Tensor, targets: Tensor, lam: float, alphas: Sequence[float]
) -> list[Tensor]:
    """Predictions of kernel ridge regression after each step of self-distillation.

    ``Y_t = A (alpha_t Y + (1 - alpha_t) Y_{t-1})`` with ``A = K (K + lam I)^-1`` and
    ``Y_0 = Y`` (Borup and Andersen 2021, theorem 4.1): the first step is plain ridge,
    whatever its alpha. Solved in float64.

    Args:
        kernel: K [n, n] of the training points.
        targets: Y [n, K].
        lam: Ridge, > 0.
        alphas: Weight of the ground truth in each step, 0 to 1.

    Returns:
        One [n, K] for each step, of the targets' type.

    Raises:
        UserError: Shapes that do not fit, no positive ridge, alphas out of range.
    """
    kind = targets.dtype if targets.is_floating_point() else torch.float64
    now, fits = targets.double(), []
    for alpha in alphas:
        dual = distilled(kernel, targets, now, lam, alpha)
        now = kernel.double() @ dual
        fits.append(now.to(kind))
    return fits


def distilled(
    kernel: Tensor, targets: Tensor, past: Tensor, lam: float, alpha: float
) -> Tensor:
    """Dual weights of one step, float64: ``f(x) = k(x, X) @ dual``.

    Args:
        kernel: K [n, n].
        targets: The ground truth Y [n, K].
        past: Y_{t-1} [n, K], what the step before predicts on the training points.
        lam: Ridge, > 0.
        alpha: Weight of the ground truth, 0 to 1.

    Returns:
        [n, K].

    Raises:
        UserError: See :func:`fit`.
    """
    positive("self-distillation", lam=lam)
    if not 0 <= alpha <= 1:
        raise UserError(
            f"Self-distillation: alpha={alpha} is no weight.", "Choose 0 to 1."
        )
    count = len(targets)
    if kernel.shape != (count, count) or past.shape != targets.shape:
        raise UserError(
            f"Self-distillation: a kernel {tuple(kernel.shape)} for targets "
            f"{tuple(targets.shape)} and past predictions {tuple(past.shape)}.",
            "Give [n, n], [n, K] and [n, K].",
        )
    mixed = alpha * targets.double() + (1 - alpha) * past.double()
    ridge = lam * torch.eye(count, dtype=torch.float64, device=kernel.device)
    return torch.linalg.solve(kernel.double() + ridge, mixed)


def spectrum(eigenvalues: Tensor, lam: float, alphas: Sequence[float]) -> list[Tensor]:
    """By what each step multiplies Y in the kernel's eigenbasis (their eq. 8).

    ``B_1 = a, B_t = a ((1 - alpha_t) B_{t-1} + alpha_t)`` with ``a = d / (d + lam)``;
    with one alpha > 0 it tends to ``d / (d + lam / alpha)``, a ridge of lam / alpha.

    Args:
        eigenvalues: d [n].
        lam: Ridge, > 0.
        alphas: As of :func:`fit`.

    Returns:
        One [n] for each step.
    """
    positive("spectrum", lam=lam)
    shrink = eigenvalues / (eigenvalues + lam)
    factors, now = [], torch.ones_like(shrink)
    for alpha in alphas:
        now = shrink * ((1 - alpha) * now + alpha)
        factors.append(now)
    return factors


def best_alpha(truth: Tensor, first: Tensor, pure: Tensor) -> float:
    """The weight of the ground truth whose next step fits a validation set best.

    Predictions are ``alpha f_1 + (1 - alpha) g``, so a projection tells it; cut to
    0 to 1. Of predictions that are all equal: 1.

    Args:
        truth: Targets of the validation points [n, K].
        first: What the first step, fitted on the ground truth, predicts there.
        pure: What a step with alpha = 0 predicts there.
    """
    apart = (first - pure).double()
    length = apart.square().sum()
    if length == 0:
        return 1.0
    found = ((truth - pure).double() * apart).sum() / length
    return float(found.clamp(0, 1))


def rbf(x: Tensor, y: Tensor, gamma: float) -> Tensor:
    """``exp(-gamma |x - y|^2)``: [n, D], [m, D] -> [n, m], float64."""
    positive("rbf", gamma=gamma)
    apart = torch.cdist(
        x.double(), y.double(), compute_mode="donot_use_mm_for_euclid_dist"
    )
    return (-gamma * apart.square()).exp()


def noisy_sine() -> tuple[Tensor, Tensor]:
    """Eleven points of a sine with noise, x [11, 1] and y [11, 1], float64.

    The data of Mobahi et al. 2020, which this paper's notebook uses too.
    """
    y = [
        0.38476636465198066, 1.2333967683416893, 1.33232242218057, 0.6920159488889518,
        -0.29756145531871736, -0.24189291901377769, -0.7964485769175675,
        -0.9616480167034174, -0.49672509509916934, -0.3469066003991437,
        0.5589512650600734,
    ]  # fmt: skip
    x = torch.arange(11, dtype=torch.float64) / 10
    return x[:, None], torch.tensor(y, dtype=torch.float64)[:, None]


@MODELS.register_module()
class KernelSelfDistillation(Method):
    r"""Even your Teacher Needs Guidance (Borup and Andersen 2021): kernel ridge, exact.

    An iteration is a step of distillation, in closed form::

        min_f alpha/2 |Y - f(X)|^2 + (1 - alpha)/2 |Y_{t-1} - f(X)|^2 + lam/2 |f|^2_H

    on all training points, which the model holds (``support``): the batch is not looked
    at, and there is nothing for the optimizer but a parameter that stays 0. Y is
    one-hot. Predictions on the training points and the dual weights are buffers, so a
    run can be resumed. The limit of many steps is ridge with ``lam / alpha``; with
    alpha = 0 everything tends to 0.

    Answers are fitted targets and no log-odds: read the accuracy, not the calibration.

    Args:
        support: Config of the training points, samples ``inputs`` and ``targets``.
        num_classes: C.
        gamma: Of the RBF kernel.
        lam: Ridge [0.2, their toy].
        alpha: Weight of the ground truth in every step, 0 to 1 [0.35, their toy].

    Raises:
        UserError: Ranges, a label outside 0 to C - 1, or points of one class only.
    """

    def __init__(
        self,
        support: dict,
        num_classes: int,
        gamma: float,
        lam: float = 0.2,
        alpha: float = 0.35,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        points = ROOT_DATASETS.build(support)
        samples = [points[i] for i in range(len(points))]
        x = torch.stack([s["inputs"] for s in samples]).flatten(1).double()
        labels = torch.stack([torch.as_tensor(s["targets"]) for s in samples])
        if (
            labels.min() < 0
            or labels.max() >= num_classes
            or labels.unique().numel() < 2
        ):
            raise UserError(
                f"KernelSelfDistillation: labels {sorted(set(labels.tolist()))} for "
                f"{num_classes} classes.",
                "Give labelled points of two classes at least, 0 to num_classes - 1.",
            )
        one_hot = F.one_hot(labels, num_classes).double()
        self.register_buffer("points", x)
        self.register_buffer("truth", one_hot)
        self.register_buffer("fitted", one_hot.clone())
        self.register_buffer("dual", torch.zeros_like(one_hot))
        self.zero = nn.Parameter(torch.zeros(()))
        self.gamma, self.lam, self.alpha = gamma, lam, alpha

    def loss(self, **_) -> dict[str, Tensor]:
        """One step of distillation; its squared error on the ground truth, a number."""
        kernel = rbf(self.points, self.points, self.gamma)
        dual = distilled(kernel, self.truth, self.fitted, self.lam, self.alpha)
        self.dual.copy_(dual)
        self.fitted.copy_(kernel @ dual)
        residual = (self.fitted - self.truth).square().mean().float()
        return {"loss": residual + 0 * self.zero}

    def outputs(self, inputs: Tensor, **_) -> Tensor:
        """Fitted targets [N, C] of the last step."""
        kernel = rbf(inputs.flatten(1), self.points, self.gamma)
        return (kernel @ self.dual).float()


@MODELS.register_module()
class SelfDistillationChain(TeacherStudent):
    r"""The same with networks: each step's student is the next step's teacher.

        L = alpha MSE(p_s, onehot) + (1 - alpha) MSE(p_s, p_t),   p = softmax(z)

    Means over B C. The stages of ``StagedLoop`` are called ``fit_1``, ``fit_2``, ...;
    the first has no teacher (alpha = 1), and every later one starts with a fresh
    student.

    Deviations from the released code (Kennethborup/self_distillation, commit cb20d6c):
    its penalty is 1e-4 times the sum of the norms, unsquared; here it is the
    optimizer's weight decay. It does not shuffle, and validates on the test images. A
    later student's first weights follow from the stage's number, not from the seed.

    Args:
        student: Config of a network, N x ... -> N x C logits; the teacher's too.
        alpha: Weight of the ground truth [0.6, README].
        predict_on: ``student``, or ``teacher`` (the step before).
    """

    default_stage = "fit_1"

    def __init__(
        self,
        student: dict,
        alpha: float = 0.6,
        predict_on: str = "student",
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(student, student, predict_on, init_cfg=init_cfg)
        if not 0 <= alpha <= 1:
            raise UserError(
                f"SelfDistillationChain: alpha={alpha} is no weight.", "Choose 0 to 1."
            )
        self.config, self.alpha = student, alpha

    def start_stage(self, name: str, loader: object, folder: Path) -> None:
        """The student becomes the teacher, and a fresh one takes its place."""
        number = _number(name)
        if number == 1:
            return
        self.teacher.network.load_state_dict(self.student.state_dict())
        with own_randomness(number, _STREAM):
            fresh = self.build_student(self.config)
        self.student.load_state_dict(fresh.state_dict())

    def loss_fit(self, inputs: Tensor, targets: Tensor, **_) -> dict[str, Tensor]:
        """Squared errors of probabilities: N x ..., N labels."""
        p_s = self.student(inputs).float().softmax(1)
        truth = F.one_hot(targets, p_s.shape[1]).to(p_s)
        if _number(self.progress.stage) == 1:
            return {"loss_truth": F.mse_loss(p_s, truth)}
        with torch.no_grad():
            p_t = self.teacher(inputs).float().softmax(1)
        return {
            "loss_truth": self.alpha * F.mse_loss(p_s, truth),
            "loss_teacher": (1 - self.alpha) * F.mse_loss(p_s, p_t),
        }


def _number(stage: str) -> int:
    return int(stage.rpartition("_")[2])
