"""Losses over pairs of embeddings: NT-Xent, supervised contrast, Barlow Twins.

Half precision is computed in float32; embeddings are made unit length inside. A batch
without rows costs 0, with a gradient path.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from pld_mmdet.distill._checks import positive, same_shape, wide
from pld_mmdet.distill.losses import masked_mean
from pld_mmdet.errors import UserError


def nt_xent(a: Tensor, b: Tensor, temperature: float) -> Tensor:
    """Normalised temperature-scaled cross-entropy (SimCLR, Chen et al. 2020).

    Row n of ``a`` looks for row n of ``b`` among all other 2N - 1 views of the batch
    (its own one is masked), and the other way round. The mean over N of each
    direction, the two *added*: twice the mean over all 2N views.

    Args:
        a: Embeddings of one view, [N, D].
        b: Of another one, [N, D].
        temperature: Divides the cosines, > 0.

    Returns:
        A scalar.

    Raises:
        UserError: Shapes differ or are not [N, D]; no positive temperature.
    """
    same_shape("nt_xent", a=a, b=b)
    _matrices("nt_xent", a=a)
    positive("nt_xent", temperature=temperature)
    n = len(a)
    views = F.normalize(wide(torch.cat([a, b])), dim=1)
    own = torch.eye(2 * n, dtype=torch.bool, device=views.device)
    logits = (views @ views.T / temperature).masked_fill(own, -torch.inf)
    partner = torch.arange(2 * n, device=views.device).roll(n)
    return F.cross_entropy(logits, partner, reduction="sum") / max(n, 1)


def sup_con(
    anchors: Tensor,
    bank: Tensor,
    same: Tensor,
    temperature: float,
    own: Tensor | None = None,
) -> Tensor:
    """Supervised contrast with a bank (Khosla et al. 2020, the mean outside the log).

    For each anchor minus the mean over its positives of the log softmax of its cosines
    with *all* rows of the bank; then the mean over the anchors that have a positive.
    Nothing is left out: a bank that holds the anchors themselves says so in ``own``.

    Args:
        anchors: [N, D].
        bank: [M, D]; detach it if it is a memory.
        same: Bool [N, M], which rows of the bank are positives.
        temperature: Divides the cosines, > 0.
        own: Bool [N, M], rows that are left out of both sums, such as the anchor
            itself [None: none].

    Returns:
        A scalar; 0 with a gradient path if no anchor has a positive.

    Raises:
        UserError: Shapes do not fit together, or no positive temperature.
    """
    _matrices("sup_con", anchors=anchors, bank=bank, same=same)
    positive("sup_con", temperature=temperature)
    if anchors.shape[1] != bank.shape[1] or same.shape != (len(anchors), len(bank)):
        raise UserError(
            f"sup_con: anchors {tuple(anchors.shape)}, bank {tuple(bank.shape)} and "
            f"same {tuple(same.shape)} do not fit together.",
            "They are [N, D], [M, D] and [N, M].",
        )
    same = same.bool()
    cosines = F.normalize(wide(anchors), dim=1) @ F.normalize(wide(bank), dim=1).T
    logits = cosines / temperature
    if own is not None:
        same_shape("sup_con", same=same, own=own)
        same, logits = same & ~own, logits.masked_fill(own, -torch.inf)
    log_p = logits.log_softmax(1)
    positives = same.sum(1)
    mean = log_p.where(same, 0).sum(1) / positives.clamp(min=1)
    return masked_mean(-mean, positives > 0)


def barlow_twins_loss(first: Tensor, second: Tensor, weight: float = 5e-3) -> Tensor:
    """Cross-correlation of two views' embeddings, pulled to the identity.

    sum_i (1 - C_ii)^2 + weight sum_{i != j} C_ij^2; each column of an embedding has
    mean 0 and variance 1 over the batch (Barlow Twins, Zbontar et al. 2021).

    Args:
        first: Embeddings of one view of each image, [N, D]; N of 2 or more.
        second: Of another view, [N, D].
        weight: lambda [5e-3, the paper's].

    Returns:
        A scalar.

    Raises:
        UserError: Shapes differ, or a single row, which has no variance.
    """
    same_shape("barlow_twins_loss", first=first, second=second)
    n = len(first)
    if n == 0:
        return wide(first).sum() + wide(second).sum()
    if n == 1:
        raise UserError(
            "barlow_twins_loss: one row has no correlation.",
            "Use a batch of two or more (drop_last=True drops a short last one).",
        )
    first, second = (
        F.batch_norm(wide(z), None, None, training=True) for z in (first, second)
    )
    correlation = first.T @ second / n
    own = correlation.diagonal()
    others = correlation.pow(2).sum() - own.pow(2).sum()
    return (own - 1).pow(2).sum() + weight * others


def _matrices(owner: str, **tensors: Tensor) -> None:
    for name, tensor in tensors.items():
        if tensor.dim() != 2:
            raise UserError(
                f"{owner}: {name} {tuple(tensor.shape)} is not a matrix.",
                "Embeddings are [N, D]: pool or flatten what has more dimensions.",
            )
