"""Divergences between the distributions of a teacher and of a student.

All take logits, [N, C] or [..., C]; the last dimension is the distribution, and every
dimension before it counts as samples. Argument order is always teacher, student.
Gradients flow to both: detach the teacher, or call it under ``torch.no_grad()``.

Where a vocabulary is large, the rows are worked through in blocks and the gradient is
written down instead of taped, so that beside the logits and their gradient only one
block's temporaries exist (``BLOCK`` numbers each, whatever N and C are).
"""

import math

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from pld_mmdet.errors import UserError

# Numbers of one block of rows: 1 MB in float32, which stays in a processor's cache.
BLOCK = 1 << 18


def kl(
    teacher_logits: Tensor,
    student_logits: Tensor,
    temperature: float = 1.0,
    reduction: str = "batchmean",
) -> Tensor:
    r"""KL(teacher \|\| student) of softened distributions (Hinton et al. 2015, eq. 4).

    Args:
        teacher_logits: [N, C].
        student_logits: [N, C].
        temperature: Divides both logits, > 0.
        reduction: ``batchmean``: the mean over samples times temperature squared, so
            that gradients keep their size over temperatures. ``none``: [N], the plain
            divergence in nats.

    Returns:
        A scalar, or [N] for ``none``.

    Raises:
        UserError: Shapes differ, no positive temperature, or an unknown reduction.
    """
    return _divergence(
        _forward_kl, teacher_logits, student_logits, temperature, reduction
    )


def reverse_kl(
    teacher_logits: Tensor,
    student_logits: Tensor,
    temperature: float = 1.0,
    reduction: str = "batchmean",
) -> Tensor:
    r"""KL(student \|\| teacher): the student pays for mass where the teacher has none.

    Arguments, result and errors as of :func:`kl`.
    """
    return _divergence(
        _reverse_kl, teacher_logits, student_logits, temperature, reduction
    )


def js(
    teacher_logits: Tensor,
    student_logits: Tensor,
    beta: float = 0.5,
    reduction: str = "batchmean",
) -> Tensor:
    r"""Generalised Jensen-Shannon divergence (Agarwal et al. 2024, GKD, eq. 1).

    beta KL(teacher \|\| m) + (1 - beta) KL(student \|\| m) with m = beta teacher +
    (1 - beta) student. Divided by beta it tends to KL(teacher \|\| student) for
    beta -> 0; divided by 1 - beta to KL(student \|\| teacher) for beta -> 1.

    Args:
        teacher_logits: [N, C].
        student_logits: [N, C].
        beta: The teacher's share of the mixture, between 0 and 1.
        reduction: ``batchmean`` (mean over samples) or ``none`` ([N]).

    Returns:
        A scalar, or [N] for ``none``.

    Raises:
        UserError: Shapes differ, beta outside (0, 1), or an unknown reduction.
    """
    if not 0.0 < beta < 1.0:
        raise UserError(
            f"js: beta={beta} is not between 0 and 1.",
            "Use kl (the limit beta -> 0) or reverse_kl (beta -> 1) for the ends.",
        )

    def mixed(log_p: Tensor, log_q: Tensor, needs: tuple[bool, bool]):
        return _generalised_js(log_p, log_q, needs, beta)

    return _divergence(mixed, teacher_logits, student_logits, 1.0, reduction)


# Each of these gets log-probabilities [n, C] of teacher (p) and student (q), which it
# may overwrite, and which gradients by the *logits* (of temperature 1) are wanted. It
# returns the divergence [n] and the two gradients [n, C] or None.


def _forward_kl(log_p: Tensor, log_q: Tensor, needs: tuple[bool, bool]):
    p, by_p, by_q = log_p.exp(), None, None
    if needs[1]:
        by_q = log_q.exp().sub_(p)
    ratio = log_p.sub_(log_q)
    if not needs[0]:
        return ratio.mul_(p).sum(-1), None, by_q
    value = (ratio * p).sum(-1)
    by_p = ratio.sub_(value[:, None]).mul_(p)
    return value, by_p, by_q


def _reverse_kl(log_p: Tensor, log_q: Tensor, needs: tuple[bool, bool]):
    value, by_q, by_p = _forward_kl(log_q, log_p, needs[::-1])
    return value, by_p, by_q


def _generalised_js(
    log_p: Tensor, log_q: Tensor, needs: tuple[bool, bool], beta: float
):
    log_m = torch.logaddexp(log_p + math.log(beta), log_q + math.log1p(-beta))
    # With m held fixed: its own derivatives cancel, because m sums to one.
    one, by_p, _ = _forward_kl(log_p, log_m, (needs[0], False))
    two, by_q, _ = _forward_kl(log_q, log_m, (needs[1], False))
    value = beta * one + (1 - beta) * two
    return (
        value,
        None if by_p is None else by_p.mul_(beta),
        None if by_q is None else by_q.mul_(1 - beta),
    )


# Logarithm of a masked class (a logit of -inf): 0 times it is 0, not NaN.
_LOG_ZERO = -1e30


class _Divergence(torch.autograd.Function):
    """A divergence with the gradient written down, a block of rows at a time."""

    @staticmethod
    def forward(ctx, teacher: Tensor, student: Tensor, temperature: float, formula):
        n, classes = teacher.shape
        needs = (teacher.requires_grad, student.requires_grad)
        gradients = [
            torch.empty_like(x) if needed else None
            for x, needed in zip((teacher, student), needs, strict=True)
        ]
        value = torch.empty(n, dtype=_wide(teacher, student), device=teacher.device)
        step = max(1, BLOCK // classes)
        for begin in range(0, n, step):
            rows = slice(begin, begin + step)
            log_p, log_q = (
                _log_probabilities(x[rows], temperature, value.dtype)
                for x in (teacher, student)
            )
            value[rows], *found = formula(log_p, log_q, needs)
            for kept, gradient in zip(gradients, found, strict=True):
                if kept is not None:
                    kept[rows] = gradient.div_(temperature)
        # mass where the other has none
        value.masked_fill_(value > -_LOG_ZERO * 1e-9, torch.inf)
        ctx.save_for_backward(*[x for x in gradients if x is not None])
        ctx.needed = needs
        return value

    @staticmethod
    @once_differentiable
    def backward(ctx, upstream: Tensor):
        saved = list(ctx.saved_tensors)
        gradients = [saved.pop(0) if needed else None for needed in ctx.needed]
        return (
            *(
                None if g is None else g * upstream[:, None].to(g.dtype)
                for g in gradients
            ),
            None,
            None,
        )


def _log_probabilities(logits: Tensor, temperature: float, dtype: torch.dtype):
    logits = logits.to(dtype)
    if temperature != 1.0:
        logits = logits / temperature
    return logits.log_softmax(-1).clamp_(min=_LOG_ZERO)


def _divergence(
    formula, teacher: Tensor, student: Tensor, temperature: float, reduction: str
) -> Tensor:
    if teacher.shape != student.shape or not (teacher.dim() and teacher.shape[-1]):
        raise UserError(
            f"Teacher logits {tuple(teacher.shape)} and student logits "
            f"{tuple(student.shape)} do not belong together.",
            "Both are [N, C] over the same classes, in the same order.",
        )
    if not temperature > 0:
        raise UserError(
            f"temperature={temperature} is not positive.", "Use 1 for plain softmax."
        )
    if reduction not in ("batchmean", "none"):
        raise UserError(
            f"There is no reduction {reduction!r}.", "Choose batchmean or none."
        )
    classes = teacher.shape[-1]
    value = _Divergence.apply(
        teacher.reshape(-1, classes), student.reshape(-1, classes), temperature, formula
    )
    if reduction == "none":
        return value.reshape(teacher.shape[:-1])
    # no sample, no divergence: 0, not NaN
    return value.sum() / max(value.numel(), 1) * temperature**2


def _wide(*tensors: Tensor) -> torch.dtype:
    """Half precision is computed in float32, float64 stays."""
    kinds = {x.dtype for x in tensors}
    return torch.float64 if torch.float64 in kinds else torch.float32
