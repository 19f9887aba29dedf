"""Light networks for images of 32 x 32 pixels, as distillation papers run them."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from pld_mmdet.registry import MODELS

# expansion, width, blocks, stride, kernel
_MOBILE = (
    (1, 16, 1, 1, 3), (6, 24, 2, 1, 3), (6, 32, 3, 2, 3), (6, 64, 4, 2, 3),
    (6, 96, 3, 1, 3), (6, 160, 3, 2, 3), (6, 320, 1, 1, 3),
)  # fmt: skip
_EFFICIENT = (
    (1, 16, 1, 1, 3), (6, 24, 2, 2, 3), (6, 40, 2, 2, 5), (6, 80, 3, 2, 3),
    (6, 112, 3, 1, 5), (6, 192, 4, 2, 5), (6, 320, 1, 1, 3),
)  # fmt: skip


class Classifying(nn.Module):
    """A backbone that ends in a vector, and a linear layer."""

    def __init__(self, layers: Sequence[nn.Module], width: int, classes: int) -> None:
        super().__init__()
        self.backbone = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.fc = nn.Linear(width, classes)
        self.feat_dim, self.num_classes = width, classes

    def features(self, x: Tensor) -> Tensor:
        """N x 3 x H x W -> N x D."""
        return self.backbone(x)

    def forward(self, x: Tensor) -> Tensor:
        """N x 3 x H x W -> N x K logits."""
        return self.fc(self.backbone(x))


@MODELS.register_module()
class SmallMobileNetV2(Classifying):
    """MobileNetV2 (Sandler et al. 2018) with a stride of 8 instead of 32, and ReLU.

    A block of stride 1 that changes the width has a 1 x 1 convolution as its shortcut,
    as in the version for CIFAR that such papers take.

    Args:
        num_classes: Outputs K.
    """

    def __init__(self, num_classes: int = 100) -> None:
        blocks, width = _inverted(_MOBILE, nn.ReLU, squeeze=False)
        layers = [*conv(3, 32, 3, act=nn.ReLU), *blocks]
        super().__init__(
            [*layers, *conv(width, 1280, 1, act=nn.ReLU)], 1280, num_classes
        )


@MODELS.register_module()
class SmallEfficientNetB0(Classifying):
    """EfficientNet-B0 (Tan and Le 2019) with a stem of stride 1 and no last widening.

    Without drop connect and dropout: here it is a network that is given.

    Args:
        num_classes: Outputs K.
    """

    def __init__(self, num_classes: int = 100) -> None:
        blocks, width = _inverted(_EFFICIENT, nn.SiLU, squeeze=True)
        super().__init__([*conv(3, 32, 3, act=nn.SiLU), *blocks], width, num_classes)


@MODELS.register_module()
class SmallShuffleNet(Classifying):
    """ShuffleNet (Zhang et al. 2018) with a 1 x 1 stem of stride 1.

    Args:
        num_classes: Outputs K.
        widths: Channels of the stages [200, 400, 800: two groups].
        blocks: Of each stage [4, 8, 4].
        groups: Of the 1 x 1 convolutions [2].
    """

    def __init__(
        self,
        num_classes: int = 100,
        widths: Sequence[int] = (200, 400, 800),
        blocks: Sequence[int] = (4, 8, 4),
        groups: int = 2,
    ) -> None:
        layers, before = conv(3, 24, 1, act=nn.ReLU), 24
        for count, width in zip(blocks, widths, strict=True):
            for number in range(count):
                layers.append(_Shuffle(before, width, number == 0, groups))
                before = width
        super().__init__(layers, before, num_classes)


@MODELS.register_module()
class SmallShuffleNetV2(Classifying):
    """ShuffleNetV2 (Ma et al. 2018) with a stem of stride 1.

    Args:
        num_classes: Outputs K.
        widths: Channels of the stages and of the last convolution [size 0.5].
        blocks: Of each stage after its first [3, 7, 3].
    """

    def __init__(
        self,
        num_classes: int = 100,
        widths: Sequence[int] = (48, 96, 192, 1024),
        blocks: Sequence[int] = (3, 7, 3),
    ) -> None:
        layers, before = conv(3, 24, 3, act=nn.ReLU), 24
        for count, width in zip(blocks, widths[:-1], strict=True):
            layers.append(_Branches(before, width, down=True))
            layers += [_Branches(width, width, down=False) for _ in range(count)]
            before = width
        layers += conv(before, widths[-1], 1, act=nn.ReLU)
        super().__init__(layers, widths[-1], num_classes)


def conv(
    before: int,
    after: int,
    kernel: int,
    stride: int = 1,
    groups: int = 1,
    act: type[nn.Module] | None = None,
) -> list[nn.Module]:
    """Convolution, batch norm, activation (if one is named)."""
    convolution = nn.Conv2d(
        before, after, kernel, stride, kernel // 2, groups=groups, bias=False
    )
    layers = [convolution, nn.BatchNorm2d(after)]
    return layers if act is None else [*layers, act()]


def _inverted(
    settings: Sequence[tuple], act: type[nn.Module], squeeze: bool
) -> tuple[list[nn.Module], int]:
    layers, before = [], 32
    for expansion, width, count, first, kernel in settings:
        for number in range(count):
            stride = 1 if number else first
            layers.append(
                _Inverted(before, width, expansion, stride, kernel, act, squeeze)
            )
            before = width
    return layers, before


class _Inverted(nn.Module):
    """Widen, depth-wise, (squeeze and excite,) narrow; a shortcut at stride 1."""

    def __init__(
        self,
        before: int,
        after: int,
        expansion: int,
        stride: int,
        kernel: int,
        act: type[nn.Module],
        squeeze: bool,
    ) -> None:
        super().__init__()
        wide = before * expansion
        layers = []
        if expansion > 1 or not squeeze:
            layers += conv(before, wide, 1, act=act)
        layers += conv(wide, wide, kernel, stride, groups=wide, act=act)
        if squeeze:
            layers.append(_Squeeze(wide, before // 4, act))
        self.body = nn.Sequential(*layers, *conv(wide, after, 1))
        self.shortcut: nn.Module | None = None
        if stride == 1 and before == after:
            self.shortcut = nn.Identity()
        elif stride == 1 and not squeeze:
            self.shortcut = nn.Sequential(*conv(before, after, 1))

    def forward(self, x: Tensor) -> Tensor:
        y = self.body(x)
        return y if self.shortcut is None else y + self.shortcut(x)


class _Squeeze(nn.Module):
    def __init__(self, width: int, narrow: int, act: type[nn.Module]) -> None:
        super().__init__()
        self.gate = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(width, narrow, 1),
            act(),
            nn.Conv2d(narrow, width, 1),
            nn.Sigmoid(),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gate(x)


class _Shuffle(nn.Module):
    """Grouped 1 x 1, shuffle, depth-wise, grouped 1 x 1; sum, or pooled and beside."""

    def __init__(self, before: int, after: int, down: bool, groups: int) -> None:
        super().__init__()
        self.down, own = down, after - before if down else after
        middle = own // 4
        self.groups = 1 if before == 24 else groups  # the stem is too narrow
        self.first = nn.Sequential(
            *conv(before, middle, 1, groups=self.groups, act=nn.ReLU)
        )
        stride = 2 if down else 1
        self.second = nn.Sequential(
            *conv(middle, middle, 3, stride, groups=middle, act=nn.ReLU),
            *conv(middle, own, 1, groups=groups),
        )
        self.pool = nn.AvgPool2d(3, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.second(_shuffled(self.first(x), self.groups))
        y = torch.cat([y, self.pool(x)], 1) if self.down else y + x
        return y.relu()


class _Branches(nn.Module):
    """Half of the channels pass, the other half is worked on; then they are mixed."""

    def __init__(self, before: int, after: int, down: bool) -> None:
        super().__init__()
        stride, middle = 2 if down else 1, after // 2
        own = before if down else before // 2
        self.kept: nn.Module | None = None
        if down:
            self.kept = nn.Sequential(
                *conv(own, own, 3, 2, groups=own), *conv(own, middle, 1, act=nn.ReLU)
            )
        self.worked = nn.Sequential(
            *conv(own, middle, 1, act=nn.ReLU),
            *conv(middle, middle, 3, stride, groups=middle),
            *conv(middle, middle, 1, act=nn.ReLU),
        )

    def forward(self, x: Tensor) -> Tensor:
        if self.kept is not None:
            first, second = self.kept(x), x
        else:
            first, second = x.chunk(2, 1)
        return _shuffled(torch.cat([first, self.worked(second)], 1), 2)


def _shuffled(x: Tensor, groups: int) -> Tensor:
    return x.unflatten(1, (groups, -1)).transpose(1, 2).flatten(1, 2)
