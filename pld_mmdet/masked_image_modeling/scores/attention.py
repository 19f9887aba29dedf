"""What attention maps look like: how far they reach, how much they ask who asks."""

from collections.abc import Sequence

import torch
from mmengine.evaluator import BaseMetric
from torch import Tensor

from pld_mmdet.errors import UserError
from pld_mmdet.registry import METRICS


def attention_distance(attention: Tensor) -> Tensor:
    """Mean distance between a patch and what it attends to, in patches.

    Args:
        attention: [N, heads, L, L] of a square grid of patches without the class
            token; rows are queries and sum to 1.

    Returns:
        [N], mean over heads and queries.
    """
    side = _side(attention)
    place = torch.arange(side * side, device=attention.device)
    place = torch.stack([place // side, place % side], 1).float()
    far = torch.cdist(place, place)
    return (attention.float() * far).sum(3).mean((1, 2))


def attention_nmi(attention: Tensor) -> Tensor:
    """Normalised mutual information of query and key (Park et al. 2023, Eq. 1).

    Queries are uniform, p(key | query) is the attention: I(q, k) / sqrt(H(q) H(k)). 0
    if every query attends alike (a collapsed map), 1 if each has a key of its own.

    Args:
        attention: [N, heads, L, L], L of 2 or more; rows sum to 1.

    Returns:
        [N], mean over heads.
    """
    _side(attention)
    joint = attention.float() / attention.shape[3]
    of_keys = joint.sum(2, keepdim=True)
    # xlogy(0, 0) is 0: a key that nobody looks at adds nothing
    h_keys = -torch.special.xlogy(of_keys, of_keys).sum((2, 3))
    h_queries = torch.tensor(float(attention.shape[2])).log().to(joint)
    h_both = -torch.special.xlogy(joint, joint).sum((2, 3))
    information = (h_keys + h_queries - h_both).clamp(min=0)
    return (information / (h_keys * h_queries).clamp(min=1e-12).sqrt()).mean(1)


@METRICS.register_module()
class AttentionMetric(BaseMetric):
    """Mean ``distance`` (patches) and ``nmi`` of the attention that predictions hold.

    Reads ``distance`` [N] and ``nmi`` [N] of a prediction.
    """

    default_prefix = None

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        """Keep both numbers of each image."""
        for sample in data_samples:
            pairs = zip(
                sample["distance"].tolist(), sample["nmi"].tolist(), strict=True
            )
            self.results.extend(pairs)

    def compute_metrics(self, results: list[tuple[float, float]]) -> dict:
        """The means over images."""
        distance, nmi = (
            sum(part) / len(results) for part in zip(*results, strict=True)
        )
        return {"distance": distance, "nmi": nmi}


def _side(attention: Tensor) -> int:
    side = round(attention.shape[-1] ** 0.5)
    if attention.dim() != 4 or attention.shape[2] != attention.shape[3] or (
        side * side != attention.shape[3] or side < 2
    ):  # fmt: skip
        raise UserError(
            f"Attention {tuple(attention.shape)} is not of a square grid of patches.",
            "Give [N, heads, L, L] with L = 4, 9, 16, ..., without the class token.",
        )
    return side
