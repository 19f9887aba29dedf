"""Networks of the published settings: residual networks for 32 x 32 images."""

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from pld_mmdet.registry import MODELS


class _PreActivated(nn.Module):
    """BN, ReLU, 3x3, BN, ReLU, 3x3; a 1x1 shortcut where the width changes."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.bn1, self.bn2 = nn.BatchNorm2d(before), nn.BatchNorm2d(after)
        self.conv1 = nn.Conv2d(before, after, 3, stride, 1, bias=False)
        self.conv2 = nn.Conv2d(after, after, 3, 1, 1, bias=False)
        self.convShortcut = (
            None if before == after else nn.Conv2d(before, after, 1, stride, bias=False)
        )

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(x))
        short = x if self.convShortcut is None else self.convShortcut(y)
        return short + self.conv2(F.relu(self.bn2(self.conv1(y))))


@MODELS.register_module()
class WideResNet(nn.Module):
    """Wide residual network (Zagoruyko and Komodakis 2016) for 32 x 32 images.

    The layers are named as in RobustBench's checkpoints. The normalisation of the
    images, if the weights want one, belongs in ``mean`` and ``std``: CoTTA's views are
    made before it.

    Args:
        depth: ``6 n + 4`` layers.
        widen: Multiplier of the widths 16, 32, 64.
        num_classes: Outputs.
        mean: Subtracted from each channel [0].
        std: Each channel is divided by it [1].
    """

    def __init__(
        self,
        depth: int = 28,
        widen: int = 10,
        num_classes: int = 10,
        mean: float | list[float] = 0.0,
        std: float | list[float] = 1.0,
    ) -> None:
        super().__init__()
        blocks, widths = (depth - 4) // 6, [16, 16 * widen, 32 * widen, 64 * widen]
        self.mean, self.std = mean, std
        self.conv1 = nn.Conv2d(3, widths[0], 3, padding=1, bias=False)
        for i in (1, 2, 3):
            stage = nn.Module()
            stage.layer = nn.Sequential(
                _PreActivated(widths[i - 1], widths[i], 1 + (i > 1)),
                *(_PreActivated(widths[i], widths[i], 1) for _ in range(blocks - 1)),
            )
            self.add_module(f"block{i}", stage)
        self.bn1 = nn.BatchNorm2d(widths[3])
        self.fc = nn.Linear(widths[3], num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """N x 3 x H x W in [0, 1] -> N x K logits."""
        mean, std = (x.new_tensor(v).view(-1, 1, 1) for v in (self.mean, self.std))
        x = self.conv1((x - mean) / std)
        for stage in (self.block1, self.block2, self.block3):
            x = stage.layer(x)
        return self.fc(F.relu(self.bn1(x)).mean((2, 3)))


@MODELS.register_module()
class DigitNet(nn.Sequential):
    """Convolution, batch norm, ReLU, max pooling, as often as asked; then linear.

    Args:
        size: Side of the square grey images.
        widths: Channels of the blocks; each halves the resolution.
        num_classes: Outputs.
    """

    def __init__(
        self, size: int = 16, widths: Sequence[int] = (16, 32), num_classes: int = 10
    ) -> None:
        layers: list[nn.Module] = []
        for before, after in zip((1, *widths), widths, strict=False):
            layers += [
                nn.Conv2d(before, after, 3, padding=1, bias=False),
                nn.BatchNorm2d(after),
                nn.ReLU(inplace=True),
                nn.MaxPool2d(2),
            ]
        side = size >> len(widths)
        outputs = nn.Linear(widths[-1] * side * side, num_classes)
        super().__init__(*layers, nn.Flatten(), outputs)


class _GroupNormBlock(nn.Module):
    """3x3, norm, ReLU, 3x3, norm, sum, ReLU; a 1x1 shortcut where the shape changes."""

    def __init__(self, before: int, after: int, stride: int, groups: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(before, after, 3, stride, 1, bias=False),
            nn.GroupNorm(groups, after),
            nn.ReLU(inplace=True),
            nn.Conv2d(after, after, 3, 1, 1, bias=False),
            nn.GroupNorm(groups, after),
        )
        self.shortcut = nn.Identity()
        if before != after or stride > 1:
            self.shortcut = nn.Sequential(
                nn.Conv2d(before, after, 1, stride, bias=False),
                nn.GroupNorm(groups, after),
            )

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.body(x) + self.shortcut(x))


@MODELS.register_module()
class GroupNormResNet(nn.Sequential):
    """Residual network for 32 x 32 images with group norm (Hsieh et al. 2020).

    Batch statistics of clients with few classes do not average; group norm has none.

    Args:
        blocks: Basic blocks a stage; (3, 4, 6, 3) is ResNet-34.
        width: Channels of the first stage; each further one doubles them.
        groups: Groups of a norm.
        num_classes: Outputs.
    """

    def __init__(
        self,
        blocks: Sequence[int] = (3, 4, 6, 3),
        width: int = 64,
        groups: int = 2,
        num_classes: int = 10,
    ) -> None:
        layers: list[nn.Module] = [
            nn.Conv2d(3, width, 3, padding=1, bias=False),
            nn.GroupNorm(groups, width),
            nn.ReLU(inplace=True),
        ]
        before = width
        for stage, count in enumerate(blocks):
            after = width << stage
            for number in range(count):
                stride = 2 if stage and not number else 1
                layers.append(_GroupNormBlock(before, after, stride, groups))
                before = after
        pool = [nn.AdaptiveAvgPool2d(1), nn.Flatten()]
        super().__init__(*layers, *pool, nn.Linear(before, num_classes))
