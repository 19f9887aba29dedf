"""Next-token models: plain training, and distillation through one divergence."""

import torch
from torch import Tensor
from torch.nn import functional as F

from pld_mmdet.distill import divergences
from pld_mmdet.distill.losses import masked_mean
from pld_mmdet.distill.teachers import Frozen
from pld_mmdet.engine.run.method import Method
from pld_mmdet.errors import UserError
from pld_mmdet.registry import MODELS

IGNORE = -100  # the label that transformers ignores


@MODELS.register_module()
class CausalLanguageModel(Method):
    """A student and next-token cross-entropy, the baseline.

    A batch holds ``input_ids`` [B, T], ``labels`` [B, T] (the same ids, -100 where
    nothing is to be predicted) and optionally ``attention_mask`` [B, T], padded on the
    right.

    Args:
        student: Config of a network, [B, T] ids -> [B, T, V] logits.
        teacher: Config of another. Here it only judges: ``predict`` measures the
            divergences to it [none].
    """

    def __init__(
        self, student: dict, teacher: dict | None = None, init_cfg: dict | None = None
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        self.student = MODELS.build(student)
        self.teacher = None if teacher is None else Frozen(MODELS.build(teacher))

    def loss(
        self, input_ids: Tensor, labels: Tensor, attention_mask: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Cross-entropy with the next token, mean over tokens."""
        ids, mask, targets = trimmed(input_ids, labels, attention_mask)
        return {"loss_lm": next_token_loss(self.student(ids, mask), targets)}

    def predict(
        self, input_ids: Tensor, labels: Tensor, attention_mask: Tensor | None = None
    ) -> list[dict]:
        """Numbers of every predicted token, each [n].

        ``nll`` (nats) and ``correct``; with a teacher also ``forward_kl``, KL(teacher
        || student), and ``reverse_kl``, KL(student || teacher), at this context.
        """
        ids, mask, targets = trimmed(input_ids, labels, attention_mask)
        counted = targets != IGNORE
        z_s, targets = self.student(ids, mask)[counted], targets[counted]
        columns = {
            "nll": F.cross_entropy(z_s.float(), targets, reduction="none"),
            "correct": (z_s.argmax(-1) == targets).float(),
        }
        if self.teacher is not None:
            z_t = self.teacher(ids, mask)[counted]
            columns["forward_kl"] = divergences.kl(z_t, z_s, reduction="none")
            columns["reverse_kl"] = divergences.reverse_kl(z_t, z_s, reduction="none")
        return [columns]

    def outputs(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, **_
    ) -> Tensor:
        """The student's logits [B, T, V]."""
        return self.student(input_ids, attention_mask)


@MODELS.register_module()
class CausalDistillation(CausalLanguageModel):
    """Token-level distillation through a fixed divergence, the rivals of TAID.

    Args:
        student: Config of the network that learns.
        teacher: Config of the network that it learns from, over the same vocabulary.
        divergence: ``kl`` (teacher || student), ``reverse_kl`` or ``js``.
    """

    def __init__(
        self,
        student: dict,
        teacher: dict,
        divergence: str = "kl",
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(student, teacher, init_cfg=init_cfg)
        if divergence not in ("kl", "reverse_kl", "js"):
            raise UserError(
                f"There is no divergence {divergence!r}.",
                "Choose kl, reverse_kl or js.",
            )
        self.divergence = getattr(divergences, divergence)

    def loss(
        self, input_ids: Tensor, labels: Tensor, attention_mask: Tensor | None = None
    ) -> dict[str, Tensor]:
        """The divergence between the two next-token distributions, mean over tokens."""
        ids, mask, targets = trimmed(input_ids, labels, attention_mask)
        with torch.no_grad():
            z_t = self.teacher(ids, mask)
        apart = self.divergence(z_t, self.student(ids, mask), reduction="none")
        return {"loss_kd": masked_mean(apart, targets != IGNORE)}


def trimmed(
    input_ids: Tensor, labels: Tensor, attention_mask: Tensor | None
) -> tuple[Tensor, Tensor | None, Tensor]:
    """Cut columns that are padding in every row; shift labels to what predicts them.

    Shifting the labels instead of the logits saves a copy of [B, T, V].

    Returns:
        Ids and mask [B, t], and targets [B, t]: the label of the next position.
    """
    targets = F.pad(labels[:, 1:], (0, 1), value=IGNORE)
    if attention_mask is not None:
        longest = int(attention_mask.sum(1).max())
        input_ids, targets = input_ids[:, :longest], targets[:, :longest]
        attention_mask = attention_mask[:, :longest]
    return input_ids, attention_mask, targets


def next_token_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy of logits [B, T, V], in float32, mean over targets [B, T]."""
    loss = F.cross_entropy(
        logits.flatten(0, 1).float(), targets.flatten(), reduction="sum"
    )
    return loss / (targets != IGNORE).sum().clamp(min=1)
