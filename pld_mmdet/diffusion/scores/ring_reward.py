"""A reward on the ring that goes wrong where nobody looked, and networks for it."""

from collections.abc import Sequence

import torch
from mmengine.evaluator import BaseMetric
from torch import Tensor, nn

from pld_mmdet.diffusion.data.ring import GaussianRing
from pld_mmdet.registry import METRICS, MODELS


@MODELS.register_module()
class PointReward(nn.Module):
    """An MLP from a point and its class to a number: [N, 2], [N] -> [N].

    Args:
        num_classes: Classes.
        width: Of two hidden layers [64].
    """

    def __init__(self, num_classes: int, width: int = 64) -> None:
        super().__init__()
        self.classes = nn.Embedding(num_classes, width)
        self.first = nn.Linear(2, width)
        self.rest = nn.Sequential(
            nn.SiLU(), nn.Linear(width, width), nn.SiLU(), nn.Linear(width, 1)
        )

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """N rewards."""
        return self.rest(self.first(x) + self.classes(condition))[:, 0]


@MODELS.register_module()
class RingExpert(PointReward):
    """An expert fitted to few noisy scores of data: it extrapolates, often upwards.

    The true reward is ``exp(-|x - (mu_c + 0.3 tangent)|^2 / (2 0.3^2))``: high at a
    place beside each mode, along the circle. The fit is the same for every run.

    Args:
        modes: Of the ring.
        radius: Of the ring.
        std: Of the ring.
        points: That the expert has seen [120].
        noise: Of their scores [0.1].
        steps: Of the fit [400].
    """

    def __init__(
        self,
        modes: int = 8,
        radius: float = 1.2,
        std: float = 0.25,
        points: int = 120,
        noise: float = 0.1,
        steps: int = 400,
    ) -> None:
        with torch.random.fork_rng([]), torch.enable_grad():
            torch.manual_seed(0)
            super().__init__(modes)
            angles = 2 * torch.pi * torch.arange(modes) / modes
            out = torch.stack([angles.cos(), angles.sin()], 1)
            along = torch.stack([-angles.sin(), angles.cos()], 1)
            self.register_buffer("goals", radius * out + 0.3 * along)
            ring = GaussianRing("train", points, modes, radius, std, labels=True)
            x, c = ring.points, ring.targets
            y = self.true(x, c) + noise * torch.randn(points)
            optimizer = torch.optim.Adam(self.parameters(), lr=1e-2)
            for _ in range(steps):
                optimizer.zero_grad()
                (self(x, c) - y).square().mean().backward()
                optimizer.step()
            optimizer.zero_grad()

    def true(self, x: Tensor, condition: Tensor) -> Tensor:
        """The true reward in (0, 1]: [N, 2], [N] -> [N]."""
        off = (x - self.goals[condition]).square().sum(1)
        return torch.exp(-off / (2 * 0.3**2))


@METRICS.register_module()
class MeanOf(BaseMetric):
    """Means over samples of entries of the answers [N].

    Args:
        names: The entries.
    """

    default_prefix = None

    def __init__(self, names: Sequence[str], **kwargs) -> None:
        super().__init__(**kwargs)
        self.names = tuple(names)

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        """Keep sums."""
        for sample in data_samples:
            sums = [float(sample[name].double().sum()) for name in self.names]
            self.results.append((len(sample[self.names[0]]), sums))

    def compute_metrics(self, results: list) -> dict[str, float]:
        """One a name."""
        count = sum(number for number, _ in results)
        columns = zip(*(sums for _, sums in results), strict=True)
        return {n: sum(c) / count for n, c in zip(self.names, columns, strict=True)}
