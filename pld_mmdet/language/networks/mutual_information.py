"""A lower bound of mutual information, and the small networks that it needs."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pld_mmdet.distill._checks import wide
from pld_mmdet.errors import UserError


def mi_alpha(scores: Tensor, log_baseline: Tensor, mix: float) -> Tensor:
    """Interpolated lower bound of mutual information (Poole et al. 2019, eq. 14).

        B_ij = mix * mean over k != j of exp F_ik + (1 - mix) * q_i
        I    = 1 + mean over i != j of [F_ii - log B_ij]
                 - mean over i != j of exp(F_ij) / B_ii

    as Distiller's code computes it, where the mean over k is over the teacher samples
    of one student row, without the column that is looked at.

    Args:
        scores: F, [B, B]: row i is a student's sample, column j a teacher's.
        log_baseline: log q, [B], of the rows.
        mix: Weight of the batch's own mean, from 0 (NWJ where log q = 1) to 1 (InfoNCE,
            whose joint term is at most log B). The paper's code is given a logit alpha:
            ``mix`` is its sigmoid.

    Returns:
        The bound in nats, a scalar; a loss is its negative. 0 with a gradient path for
        an empty batch.

    Raises:
        UserError: Shapes that do not fit, one sample (nothing to compare with), or
            ``mix`` outside [0, 1].
    """
    rows = len(scores) if scores.dim() else -1
    if scores.shape != (rows, rows) or log_baseline.shape != (rows,):
        raise UserError(
            f"mi_alpha: scores {tuple(scores.shape)} and log_baseline "
            f"{tuple(log_baseline.shape)} are not [B, B] and [B].",
            "Score every student sample with every teacher sample of the batch.",
        )
    if not 0 <= mix <= 1:
        raise UserError(f"mi_alpha: mix={mix} is no share.", "Choose it from 0 to 1.")
    scores, log_q = wide(scores), wide(log_baseline)
    if rows == 0:
        return scores.sum() + log_q.sum()
    if rows == 1:
        raise UserError(
            "mi_alpha: one sample has no other one to be told from.",
            "Use a batch of two or more (drop_last=True drops a short last one).",
        )
    own = torch.eye(rows, dtype=torch.bool, device=scores.device)
    log_mean = _log_sum_of_others(scores) - math.log(rows - 1)
    log_b = torch.logaddexp(
        log_mean + _log(mix), (log_q + _log(1 - mix))[:, None].expand_as(log_mean)
    )
    joint = (scores.diagonal()[:, None] - log_b)[~own].mean()
    marginal = (scores - log_b.diagonal()[:, None])[~own].exp().mean()
    return 1 + joint - marginal


def _log_sum_of_others(scores: Tensor) -> Tensor:
    """log of the sum of exp F_ik over k other than j, [B, B], without B^3 numbers.

    Where j is the largest of its row the sum is made without it; elsewhere it is taken
    from the whole, of which it is at most half.
    """
    whole = scores.logsumexp(1, keepdim=True)
    largest = F.one_hot(scores.argmax(1), len(scores)).bool()
    without = scores.masked_fill(largest, -math.inf).logsumexp(1, keepdim=True)
    share = (scores - whole).exp().masked_fill(largest, 0.0)
    return torch.where(largest, without, whole + torch.log1p(-share))


class MutualInformation(nn.Module):
    """Critic and baseline of :func:`mi_alpha`, trained by the bound itself.

        F_ij = f(h_S^i) . g(h_T^j),   log q_i = b(h_T^i)

    Args:
        student: Width of the student's vectors.
        teacher: Width of the teacher's.
        mix: See :func:`mi_alpha`.
        hidden: Width of the hidden layers, two in each network [64, code].
        joint: Width of what is multiplied [32, code].
        unit: Make both factors unit length and divide by 0.1: a critic that cannot run
            away [off, code].
    """

    def __init__(
        self,
        student: int,
        teacher: int,
        mix: float,
        hidden: int = 64,
        joint: int = 32,
        unit: bool = False,
    ) -> None:
        super().__init__()
        self.f = _mlp(student, hidden, joint)
        self.g = _mlp(teacher, hidden, joint)
        self.b = _mlp(teacher, hidden, 1)
        self.mix, self.unit = mix, unit

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """The bound for vectors [B, D_S] and [B, D_T], a scalar."""
        f, g = self.f(student), self.g(teacher)
        if self.unit:
            f, g = F.normalize(f, dim=1) / 0.1, F.normalize(g, dim=1)
        return mi_alpha(f @ g.T, self.b(teacher).squeeze(1), self.mix)


def _log(share: float) -> float:
    return math.log(share) if share > 0 else -math.inf


def _mlp(into: int, hidden: int, out: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(into, hidden),
        nn.ReLU(),
        nn.Linear(hidden, hidden),
        nn.ReLU(),
        nn.Linear(hidden, out),
    )
