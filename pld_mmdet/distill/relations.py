"""Relations between tokens as knowledge (MiniLMv2, Wang et al. 2021).

A relation is what attention scores are, made from any features: teacher and student
may differ in width, as long as both are cut into the same number of relation heads.
"""

import math

from torch import Tensor

from pld_mmdet.distill._checks import same_shape, wide
from pld_mmdet.distill.divergences import kl
from pld_mmdet.errors import UserError


def relation_scores(x: Tensor, heads: int, other: Tensor | None = None) -> Tensor:
    """Scaled dot products of all pairs of tokens, before the softmax.

    Args:
        x: Queries, keys, values or features, [N, T, D].
        heads: Relation heads, which divide D.
        other: What ``x`` is multiplied with (keys beside queries); None: itself.

    Returns:
        [N, heads, T, T]: ``x_i . other_j / sqrt(D / heads)`` in each head.

    Raises:
        UserError: Heads that do not divide D, or shapes that are not [N, T, D] or
            differ.
    """
    other = x if other is None else other
    same_shape("relation_scores", x=x, other=other)
    if x.dim() != 3 or heads < 1 or x.shape[2] % heads:
        raise UserError(
            f"relation_scores: {tuple(x.shape)} is not cut into {heads} heads.",
            "Give [N, T, D] and a number of heads that divides D.",
        )
    left, right = (
        wide(z).unflatten(2, (heads, z.shape[2] // heads)).transpose(1, 2)
        for z in (x, other)
    )
    return left @ right.transpose(2, 3) / math.sqrt(x.shape[2] / heads)


def relation_kl(teacher: Tensor, student: Tensor) -> Tensor:
    r"""KL(softmax teacher \|\| softmax student), mean over N, heads and queries.

    Gradients flow to both, as in :mod:`pld_mmdet.distill.divergences`.

    Args:
        teacher: Relation scores [N, heads, T, T].
        student: Of the same shape.

    Raises:
        UserError: Shapes differ.
    """
    same_shape("relation_kl", teacher=teacher, student=student)
    return kl(teacher, student)


def relation_mse(teacher: Tensor, student: Tensor) -> Tensor:
    """Mean squared difference of the raw scores, over all elements (AutoDistil).

    Args:
        teacher: Relation scores [N, heads, T, T].
        student: Of the same shape.

    Raises:
        UserError: Shapes differ.
    """
    same_shape("relation_mse", teacher=teacher, student=student)
    squared = (wide(student) - wide(teacher)).square()
    return squared.sum() / max(squared.numel(), 1)
