"""TAID: temporally adaptive interpolated distillation (Shing et al., ICLR 2025)."""

import math

import torch
from mmengine.dist import all_reduce
from torch import Tensor, nn

from pld_mmdet.distill.divergences import kl
from pld_mmdet.distill.losses import masked_mean
from pld_mmdet.errors import UserError, one_of
from pld_mmdet.language.learners.causal import (
    IGNORE,
    CausalLanguageModel,
    next_token_loss,
    trimmed,
)
from pld_mmdet.registry import MODELS


class AdaptiveTime(nn.Module):
    """The interpolation time t: at least linear, faster while the loss falls.

    After loss J_n of step n = 0, 1, ... of N (the first is only remembered):

        d     = (J_{n-1} - J_n) / (J_{n-1} + 1e-15)
        m     = beta m + (1 - beta) d
        t     = min(t1, max(t0 + (t1 - t0) n / N, t + alpha sigmoid(m) (1 - t)))

    All state lies in buffers, so a checkpoint holds it. A loss that is not finite (the
    optimizer skips that step) moves nothing but n.

    Args:
        t0: Start.
        t1: End.
        alpha: Size of an adaptive step. While m is near 0 such a step is alpha (1 - t)
            / 2: it beats the linear slope only if N > about 2 / alpha.
        beta: Share of the old momentum that stays.
        adaptive: False: t is linear, the paper's ablation.
    """

    t: Tensor
    momentum: Tensor
    previous: Tensor
    step: Tensor

    def __init__(
        self, t0: float, t1: float, alpha: float, beta: float, adaptive: bool = True
    ) -> None:
        super().__init__()
        if not 0.0 <= t0 <= t1 <= 1.0:
            raise UserError(
                f"TAID: t0={t0} and t1={t1} are no way from student to teacher.",
                "Choose 0 <= t0 <= t1 <= 1, e.g. 0.4 and 1.0.",
            )
        self.t0, self.t1, self.alpha, self.beta = t0, t1, alpha, beta
        self.adaptive = adaptive
        self.register_buffer("t", torch.tensor(float(t0)))
        self.register_buffer("momentum", torch.tensor(0.0))
        self.register_buffer("previous", torch.tensor(math.nan))  # none yet
        self.register_buffer("step", torch.tensor(0))

    @torch.no_grad()
    def update(self, loss: Tensor, total: int) -> None:
        """Take note of the loss of one optimizer step.

        Args:
            loss: J, a scalar, the same on all processes.
            total: N, optimizer steps of the run.
        """
        # torch.where instead of if: nothing waits for the device
        linear = self.t0 + (self.t1 - self.t0) * self.step / total
        if self.adaptive:
            fall = (self.previous - loss) / (self.previous + 1e-15)
            momentum = self.beta * self.momentum + (1 - self.beta) * fall
            usable = momentum.isfinite()  # not at the first loss, not at a NaN
            faster = self.t + self.alpha * momentum.sigmoid() * (1 - self.t)
            later = torch.maximum(linear, faster)
            self.t.copy_(torch.where(usable, later, self.t).clamp(max=self.t1))
            self.momentum.copy_(torch.where(usable, momentum, self.momentum))
            self.previous.copy_(torch.where(loss.isfinite(), loss, self.previous))
        else:
            self.t.copy_(linear.clamp(max=self.t1))
        self.step += 1


@MODELS.register_module()
class TAID(CausalLanguageModel):
    """The target moves from the student's own distribution to the teacher's.

        p_t = softmax((1 - t) sg(z_S) + t z_T)
        J   = -sum p_t log softmax(z_S), mean over tokens
        t   = AdaptiveTime(J)

    J is the cross-entropy, as in the authors' code; the paper writes KL(p_t || q). Both
    have one gradient, but their values differ by the entropy of p_t, so t adapts
    differently: ``objective='kl'`` is the paper's. Deviations from the code: buffers
    are made on the CPU; J is averaged over processes and over the losses of a step
    of the optimizer before t moves: all processes have one t, and n / N counts steps.

    Args:
        student: Config of the network that learns.
        teacher: Config of the network that it learns from, over the same vocabulary.
        t0: First t (authors' scripts: 0.4 for Phi-3 -> TinyLlama, 0.2 for the others).
        t1: Last t (code: 1.0).
        alpha: See :class:`AdaptiveTime` (code: 5e-4, for tens of thousands of steps;
            about 20 / N where N is small).
        beta: See there (code: 0.99).
        adaptive: See there.
        objective: ``ce`` (code) or ``kl`` (paper): the value that drives t.
        distil_ratio: Share of J in the loss; the rest is cross-entropy with the next
            token (code: 1).
    """

    def __init__(
        self,
        student: dict,
        teacher: dict,
        t0: float = 0.4,
        t1: float = 1.0,
        alpha: float = 5e-4,
        beta: float = 0.99,
        adaptive: bool = True,
        objective: str = "ce",
        distil_ratio: float = 1.0,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(student, teacher, init_cfg=init_cfg)
        one_of("TAID", objective=(objective, ("ce", "kl")))
        self.time = AdaptiveTime(t0, t1, alpha, beta, adaptive)
        self.objective, self.distil_ratio = objective, distil_ratio
        self.register_buffer("pending", torch.zeros(2))  # sum and number of losses

    def loss(
        self, input_ids: Tensor, labels: Tensor, attention_mask: Tensor | None = None
    ) -> dict[str, Tensor]:
        """J against the target at t; then t moves. Also logs t."""
        ids, mask, targets = trimmed(input_ids, labels, attention_mask)
        with torch.no_grad():
            z_t = self.teacher(ids, mask)
        z_s = self.student(ids, mask)
        t, counted = self.time.t.clone(), targets != IGNORE
        target = torch.lerp(z_s.detach().float(), z_t.float(), t)
        j = kl(target, z_s, reduction="none")
        if self.objective == "ce":
            j = j + entropy(target)  # a constant: J's value, not its gradient
        j = masked_mean(j, counted)
        self._advance(j.detach())
        losses = {"loss_taid": self.distil_ratio * j, "t": t}
        if self.distil_ratio < 1:
            rest = 1 - self.distil_ratio
            losses["loss_lm"] = rest * next_token_loss(z_s, targets)
        return losses

    def _advance(self, j: Tensor) -> None:
        now = self.progress.known()
        self.pending += torch.stack([j, torch.ones_like(j)])
        if now.accumulation > 1 and self.pending[1] < now.accumulation:
            return
        mean = self.pending[0] / self.pending[1]
        all_reduce(mean, op="mean")
        self.time.update(mean, now.steps)
        self.pending.zero_()


@torch.no_grad()
def entropy(logits: Tensor) -> Tensor:
    """Entropy of [..., V] in nats, as log V - KL(p || uniform): in blocks, like kl.

    ``distill.losses.entropy`` would hold two more tensors of the vocabulary's size.
    """
    uniform = logits.new_zeros(1).expand_as(logits)
    return math.log(logits.shape[-1]) - kl(logits, uniform, reduction="none")
