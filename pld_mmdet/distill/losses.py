"""Losses and means that several methods share.

Half precision is computed in float32. Gradients flow to every argument unless a
function says that it stops them: detach what is a target. A tensor without rows costs
0, with a gradient path, so that every process of a distributed run can call backward.
"""

import math

from torch import Tensor

from pld_mmdet.distill._checks import positive, same_shape, wide
from pld_mmdet.distill.divergences import kl
from pld_mmdet.errors import UserError, one_of

# Logarithm of a class that a logit of -inf rules out: 0 times it is 0, not NaN.
_LOG_ZERO = -1e30


def entropy(logits: Tensor, dim: int = -1, normalise: bool = False) -> Tensor:
    """Entropy of ``softmax(logits)``; classes with a logit of -inf add nothing.

    Args:
        logits: [..., K] (K at ``dim``).
        dim: Where the classes are.
        normalise: Divide by ln K, so that the uniform distribution has 1; the entropy
            of a single class stays 0.

    Returns:
        [...], in nats if not normalised.
    """
    value = entropy_of_log(wide(logits).log_softmax(dim), dim)
    classes = logits.shape[dim]
    return value / math.log(classes) if normalise and classes > 1 else value


def entropy_of_log(log_p: Tensor, dim: int = -1) -> Tensor:
    """Entropy in nats of log-probabilities, where a caller has them already.

    Args:
        log_p: [..., K] (K at ``dim``).
        dim: Where the classes are.

    Returns:
        [...].
    """
    log_p = wide(log_p)
    return -(log_p.exp() * log_p.clamp(min=_LOG_ZERO)).sum(dim)


def soft_cross_entropy(
    logits: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    reduction: str = "mean",
) -> Tensor:
    """Cross-entropy with probabilities as target: ``-sum_k t_k log softmax(z)_k``.

    Rows of the target may sum to less or more than 1 and then weigh less or more.
    Gradients also flow to the target.

    Args:
        logits: [N, K], or [..., K].
        target: Of the same shape.
        weight: [N], or [...]: a factor of each row; it does not enter the divisor.
        reduction: ``mean`` over the rows, or ``none``.

    Returns:
        A scalar, or [N] ([...]) for ``none``.

    Raises:
        UserError: Shapes differ, or an unknown reduction.
    """
    one_of("soft_cross_entropy", reduction=(reduction, ("mean", "none")))
    value = soft_nll(wide(logits).log_softmax(-1), target)
    if weight is not None:
        same_shape("soft_cross_entropy", weight=weight, rows=value)
        value = value * wide(weight)
    if reduction == "none":
        return value
    return value.mean() if value.numel() else value.sum()


def soft_nll(log_p: Tensor, target: Tensor, dim: int = -1) -> Tensor:
    """``-sum_k t_k log p_k``, where a caller has the log-probabilities already.

    Infinite where the target has mass on a class of probability 0.

    Args:
        log_p: Log-probabilities [..., K] (K at ``dim``).
        target: Of the same shape; any mass.
        dim: Where the classes are.

    Returns:
        [...].

    Raises:
        UserError: Shapes differ.
    """
    same_shape("soft cross-entropy", logits=log_p, target=target)
    value = -(wide(target) * wide(log_p).clamp(min=_LOG_ZERO)).sum(dim)
    return value.masked_fill(value > -_LOG_ZERO * 1e-9, math.inf)


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean of the marked values; 0 with a gradient path where nothing is marked.

    Args:
        values: Any shape. What is not marked may be NaN.
        mask: Of the same shape; everything but 0 marks.

    Returns:
        A scalar.

    Raises:
        UserError: Shapes differ.
    """
    same_shape("masked_mean", values=values, mask=mask)
    mask = mask.bool()
    return wide(values).where(mask, 0).sum() / mask.sum().clamp(min=1)


def pseudo_huber(difference: Tensor, c: float, over: str) -> Tensor:
    """Pseudo-Huber distance ``sqrt(d^2 + c^2) - c``: d^2 / 2c near 0, |d| far away.

    Papers mean two things by it, which differ by about the square root of the number
    of elements; hence ``over`` has no default.

    Args:
        difference: [N, ...].
        c: Where it turns from square to linear, > 0.
        over: ``sample``: d is the Euclidean norm of a row (iCT, Song & Dhariwal 2024).
            ``element``: the mean of the distance of every single element.

    Returns:
        [N] for ``sample``, a scalar for ``element``.

    Raises:
        UserError: An unknown ``over``, no positive ``c``, or no rows to speak of.
    """
    one_of("pseudo_huber", over=(over, ("sample", "element")))
    positive("pseudo_huber", c=c)
    squared = wide(difference).square()
    if over == "sample":
        if squared.dim() < 1:
            raise UserError(
                "pseudo_huber: a single number has no samples.",
                "Give a difference [N, ...], or over='element'.",
            )
        squared = squared.flatten(1).sum(1) if squared.dim() > 1 else squared
    # sqrt(d^2 + c^2) - c without the difference of two nearly equal numbers
    value = squared / ((squared + c**2).sqrt() + c)
    return value if over == "sample" else value.sum() / max(value.numel(), 1)


def channelwise_kl(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    r"""Channel-wise distillation (Shu et al. 2021): where each channel looks.

    ``tau^2 / (N C) sum KL(teacher || student)`` of the softmax over the pixels of each
    channel. The teacher's gradient is stopped.

    Args:
        student: Logits or features [N, C, H, W].
        teacher: Of the same shape.
        temperature: tau, > 0.

    Returns:
        A scalar.

    Raises:
        UserError: Shapes differ or are not [N, C, H, W]; no positive temperature.
    """
    same_shape("channelwise_kl", student=student, teacher=teacher)
    if student.dim() != 4:
        raise UserError(
            f"channelwise_kl: {tuple(student.shape)} is not [N, C, H, W].",
            "Give maps of all channels.",
        )
    return kl(teacher.detach().flatten(2), student.flatten(2), temperature)
