"""A deformation field over space and time: six planes of features and an MLP."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pld_mmdet.registry import MODELS

# Of (x, y, z, t): three planes in space, then three of space and time.
PAIRS = ((0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3))


@MODELS.register_module()
class HexPlaneField(nn.Module):
    """Where a point is at a time: features of six planes, multiplied, then an MLP.

    Planes of space start uniform in [0.1, 0.5], those of space and time at 1, which is
    "no motion" because features are multiplied (K-Planes, Fridovich-Keil et al. 2023).
    The MLP's last layer starts at 0, so nothing moves before the first step.

    Args:
        channels: Of a plane [32].
        resolution: Of the coarsest planes along an axis of space [64].
        times: Along the axis of time [16].
        levels: Factors of the resolution in space [1, 2, 4, 8].
        width, depth: Of the MLP [256, 2].
        extent: Half the side of the cube that the planes cover.
    """

    def __init__(
        self,
        channels: int = 32,
        resolution: int = 64,
        times: int = 16,
        levels: Sequence[int] = (1, 2, 4, 8),
        width: int = 256,
        depth: int = 2,
        extent: float = 1.0,
    ) -> None:
        super().__init__()
        self.extent, self.levels = extent, len(levels)
        self.planes = nn.ParameterList()
        for level in levels:
            sizes = (*[resolution * level] * 3, times)
            for first, second in PAIRS:
                plane = torch.ones(1, channels, sizes[second], sizes[first])
                if second < 3:
                    nn.init.uniform_(plane, 0.1, 0.5)
                self.planes.append(nn.Parameter(plane))
        widths = [channels * len(levels), *[width] * depth]
        layers: list[nn.Module] = []
        for before, after in pairwise(widths):
            layers += [nn.Linear(before, after), nn.ReLU()]
        self.mlp = nn.Sequential(*layers, nn.Linear(width, 3 + 4))
        nn.init.zeros_(self.mlp[-1].weight)
        nn.init.zeros_(self.mlp[-1].bias)

    def features(self, points: Tensor, time: Tensor) -> Tensor:
        """[N, 3] at times [T] -> [T, N, channels * levels]."""
        place = points / self.extent
        clock = (2 * time - 1)[:, None].expand(-1, len(points))
        at = torch.cat(
            [place.expand(len(time), -1, -1), clock[..., None].to(place)], -1
        )
        found = []
        for level in range(self.levels):
            product = None
            for number, (first, second) in enumerate(PAIRS):
                plane = self.planes[level * len(PAIRS) + number]
                grid = at[..., [first, second]].reshape(1, 1, -1, 2)
                values = F.grid_sample(
                    plane, grid, align_corners=True, padding_mode="border"
                )
                values = values.reshape(plane.shape[1], len(time), len(points))
                product = values if product is None else product * values
            found.append(product)
        return torch.cat(found).permute(1, 2, 0)

    def forward(self, points: Tensor, time: Tensor) -> tuple[Tensor, Tensor]:
        """How far [N, 3] move until times [T]: [T, N, 3], quaternions' [T, N, 4]."""
        return self.mlp(self.features(points, time)).split((3, 4), -1)

    def total_variation(self) -> Tensor:
        """Squared differences of neighbours on the planes of space, a number's mean."""
        losses = [plane.new_zeros(()) for plane in self.planes[:1]]
        for number, plane in enumerate(self.planes):
            if number % len(PAIRS) < 3:
                steps = plane.diff(dim=2).square().sum(), plane.diff(dim=3).square()
                losses.append((steps[0] + steps[1].sum()) / plane.numel())
        return sum(losses)

    def bends(self) -> list[Tensor]:
        """The planes of space and time with time first, [T, ...]."""
        return [
            plane[0].movedim(1, 0)
            for number, plane in enumerate(self.planes)
            if number % len(PAIRS) >= 3
        ]
