"""Imbalanced data to cluster, and how well clusters match classes."""

from collections.abc import Sequence

import numpy as np
import torch
from mmengine.evaluator import BaseMetric
from torch.utils.data import Dataset

from pld_mmdet.engine.run.optional import require
from pld_mmdet.registry import DATASETS, METRICS
from pld_mmdet.shared import Digits


@DATASETS.register_module()
class LongTailDigits(Dataset):
    """Two noisy views of digits whose classes become rarer and rarer.

    Class c keeps the first ``n0 imbalance^(-c/9)`` of its images, n0 those of the
    smallest class. Pixels are standardised over the kept images. A sample is
    ``dict(view1=[64], view2=[64], targets, index)``; its noise is a function of the
    run's seed and the number of the draw (``ResumableSampler`` sends both along).

    Args:
        parts: Parts of :class:`pld_mmdet.shared.Digits`, put together.
        imbalance: Largest class over smallest.
        noise: Standard deviation of each view's noise, in standardised pixels.
    """

    def __init__(
        self,
        parts: Sequence[str] = ("train", "val"),
        imbalance: float = 10.0,
        noise: float = 0.2,
    ) -> None:
        digits = [Digits(part) for part in parts]
        images = torch.cat([d.images for d in digits]).flatten(1)
        targets = torch.cat([d.targets for d in digits])
        most = int(targets.bincount().min())
        sizes = [round(most * imbalance ** (-c / 9)) for c in range(10)]
        kept = [(targets == c).nonzero().squeeze(1)[:n] for c, n in enumerate(sizes)]
        keep = torch.cat(kept)
        images, self.targets = images[keep], targets[keep]
        scale = images.std(0).clamp(min=1e-6)
        self.images = (images - images.mean(0)) / scale
        self.noise = noise
        self.metainfo = digits[0].metainfo

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> dict:
        image = self.images[index]
        views = image.expand(2, -1)
        if self.noise:
            # Cheaper than SeededDataset, which keeps and restores three generators.
            key = getattr(index, "seed", 0), int(getattr(index, "draw", index))
            generator = np.random.Generator(np.random.Philox(key=key))
            noise = generator.standard_normal(views.shape, dtype=np.float32)
            views = views + self.noise * torch.from_numpy(noise)
        return {
            "view1": views[0],
            "view2": views[1],
            "targets": self.targets[index],
            "index": int(index),
        }


@METRICS.register_module()
class ClusterMetric(BaseMetric):
    """Clusters (argmax of ``logits``) against classes (``targets``).

    ``accuracy`` under the best one-to-one matching (Hungarian), ``balanced`` = mean
    recall of the classes under that matching, ``macro_f1`` likewise, ``nmi`` with the
    arithmetic mean of both entropies.
    """

    default_prefix = None

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        """Keep pairs of class and cluster."""
        for sample in data_samples:
            logits = sample["logits"]
            self.clusters = logits.shape[1]
            pairs = torch.stack([sample["targets"], logits.argmax(1)], 1)
            self.results.append(pairs.cpu().numpy())

    def compute_metrics(self, results: list[np.ndarray]) -> dict[str, float]:
        """The four numbers, fractions."""
        pairs = np.concatenate(results)
        size = max(self.clusters, int(pairs[:, 0].max()) + 1)
        return cluster_scores(
            np.bincount(pairs @ (size, 1), minlength=size * size).reshape(size, size)
        )


def cluster_scores(table: np.ndarray) -> dict[str, float]:
    """Scores of a square table of counts, classes x clusters."""
    assign = require("scipy.optimize", "weak_supervision").linear_sum_assignment
    rows, columns = assign(-table)
    hits = table[rows, columns]
    in_class, in_cluster = table.sum(1), table.sum(0)[columns]
    there = in_class > 0
    f1 = 2 * hits / np.maximum(in_class + in_cluster, 1)
    p = table / table.sum()
    a, b = p.sum(1), p.sum(0)
    joint, marginal = _entropy(p), _entropy(a) + _entropy(b)
    nmi = 2 * (marginal - joint) / marginal if marginal > 0 else 1.0
    return {
        "accuracy": float(hits.sum() / table.sum()),
        "balanced": float((hits[there] / in_class[there]).mean()),
        "macro_f1": float(f1[there].mean()),
        "nmi": float(nmi),
    }


def _entropy(p: np.ndarray) -> float:
    p = p[p > 0]
    return float(-(p * np.log(p)).sum())
