"""Metrics of language models."""

from collections.abc import Sequence

import torch
from mmengine.evaluator import BaseMetric

from pld_mmdet.registry import METRICS


@METRICS.register_module()
class TokenMeanMetric(BaseMetric):
    """The mean over tokens of every column that a model predicts.

    Columns are [n] tensors, such as ``nll`` in nats. ``correct`` is called
    ``accuracy`` in the result.
    """

    default_prefix = None

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        """Keep the sum and the count of each column of a batch."""
        for sample in data_samples:
            self.results.append(
                {k: (v.double().sum().item(), len(v)) for k, v in sample.items()}
            )

    def compute_metrics(self, results: list[dict]) -> dict[str, float]:
        """One mean a column."""
        means = {}
        for name in results[0]:
            total, count = torch.tensor([r[name] for r in results]).double().sum(0)
            key = "accuracy" if name == "correct" else name
            means[key] = float(total / count.clamp(min=1))
        return means


@METRICS.register_module()
class Spearman(BaseMetric):
    """Rank correlation of ``scores`` [n] and ``targets`` [n], as ``spearman``.

    Ties share the mean of their ranks; a constant side gives 0.
    """

    default_prefix = None

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        """Keep both columns of a batch."""
        for sample in data_samples:
            pair = sample["scores"].float().cpu(), sample["targets"].float().cpu()
            self.results.append(torch.stack(pair, 1))

    def compute_metrics(self, results: list[torch.Tensor]) -> dict[str, float]:
        """One number, from -1 to 1."""
        found = torch.cat(results).double()
        return {"spearman": rank_correlation(found[:, 0], found[:, 1])}


def rank_correlation(a: torch.Tensor, b: torch.Tensor) -> float:
    """Spearman's coefficient of two columns [n].

    Examples:
        >>> rank_correlation(torch.tensor([1.0, 2.0, 9.0]), torch.tensor([1.0, 3, 2]))
        0.5
    """
    ranks = []
    for column in (a, b):
        _, place, counts = column.unique(return_inverse=True, return_counts=True)
        middle = counts.cumsum(0).double() - (counts.double() - 1) / 2
        rank = middle[place]
        ranks.append(rank - rank.mean())
    spread = (ranks[0].square().sum() * ranks[1].square().sum()).sqrt()
    return float(ranks[0] @ ranks[1] / spread) if spread > 0 else 0.0
