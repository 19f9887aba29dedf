"""A ring of Gaussians: two-dimensional toy data, generated, and their metric."""

from collections.abc import Sequence

import numpy as np
import torch
from mmengine.evaluator import BaseMetric
from torch import Tensor
from torch.utils.data import Dataset

from pld_mmdet.errors import one_of
from pld_mmdet.registry import DATASETS, METRICS

# Which random numbers make a part; fixed for good, not by a run's seed.
_PARTS = {"train": 101, "val": 102, "test": 103}


@DATASETS.register_module()
class GaussianRing(Dataset):
    """Points around ``modes`` centres on a circle: ``dict(inputs=[2], index=...)``.

    Args:
        part: ``train``, ``val`` or ``test``: other points of the same distribution.
        size: Number of points.
        modes: Number of Gaussians [8].
        radius: Of the circle [0.7].
        std: Of each Gaussian [0.035].
        labels: With the numbers of the modes as ``targets``.
    """

    def __init__(
        self,
        part: str,
        size: int = 4096,
        modes: int = 8,
        radius: float = 0.7,
        std: float = 0.035,
        labels: bool = False,
    ) -> None:
        one_of("GaussianRing", part=(part, _PARTS))
        rng = np.random.default_rng(_PARTS[part])
        which = rng.integers(0, modes, size)
        angles = 2 * np.pi * which / modes
        centres = radius * np.stack([np.cos(angles), np.sin(angles)], 1)
        points = centres + std * rng.normal(size=(size, 2))
        self.points = torch.from_numpy(points.astype(np.float32))
        self.targets, self.labels = torch.from_numpy(which), labels

    def __len__(self) -> int:
        return len(self.points)

    def __getitem__(self, index: int) -> dict:
        item = {"inputs": self.points[index], "index": int(index)}
        return item | ({"targets": self.targets[index]} if self.labels else {})


@METRICS.register_module()
class EnergyDistance(BaseMetric):
    """Energy distance of ``samples`` to ``references`` (Szekely and Rizzo 2013).

    2 E|x - y| - E|x - x'| - E|y - y'|: 0 if and only if both have one distribution. The
    estimate is unbiased (no point is paired with itself), so it may lie below 0.
    """

    default_prefix = None

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        """Keep the points."""
        for sample in data_samples:
            points = sample["samples"], sample["references"]
            self.results.append([p.float().flatten(1).cpu().numpy() for p in points])

    def compute_metrics(self, results: list) -> dict[str, float]:
        """``energy_distance``."""
        x, y = (torch.from_numpy(np.concatenate(p)) for p in zip(*results, strict=True))
        return {"energy_distance": energy_distance(x, y)}


def energy_distance(x: Tensor, y: Tensor) -> float:
    """Unbiased estimate from N x D and M x D points."""
    within = sum(
        torch.cdist(points, points).double().sum() / (len(points) * (len(points) - 1))
        for points in (x, y)
    )
    return float(2 * torch.cdist(x, y).double().mean() - within)
