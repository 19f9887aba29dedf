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
