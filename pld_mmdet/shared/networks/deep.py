"""Deep networks for images of 32 x 32 pixels, as distillation papers run them."""

import torch
from torch import Tensor, nn

from pld_mmdet.registry import MODELS
from pld_mmdet.shared.networks.mobile import Classifying, conv


@MODELS.register_module()
class SmallResNet50(Classifying):
    """ResNet-50 (He et al. 2016) with a 3 x 3 stem of stride 1 and no pooling.

    Args:
        num_classes: Outputs K.
    """

    def __init__(self, num_classes: int = 100) -> None:
        layers, before = conv(3, 64, 3, act=nn.ReLU), 64
        for stage, count in enumerate((3, 4, 6, 3)):
            for number in range(count):
                stride = 2 if stage and not number else 1
                layers.append(_Bottleneck(before, 64 << stage, stride))
                before = 4 * (64 << stage)
        super().__init__(layers, before, num_classes)


@MODELS.register_module()
class SmallDenseNet121(Classifying):
    """DenseNet-121 (Huang et al. 2017) with a 3 x 3 stem of stride 1 and no pooling.

    Args:
        num_classes: Outputs K.
        growth: Channels that a layer adds [32].
    """

    def __init__(self, num_classes: int = 100, growth: int = 32) -> None:
        width = 2 * growth
        layers: list[nn.Module] = [nn.Conv2d(3, width, 3, padding=1, bias=False)]
        for stage, count in enumerate((6, 12, 24, 16)):
            if stage:
                layers += _activated(width, width // 2, 1)
                layers.append(nn.AvgPool2d(2))
                width //= 2
            for _ in range(count):
                layers.append(_Dense(width, growth))
                width += growth
        layers += [nn.BatchNorm2d(width), nn.ReLU()]
        super().__init__(layers, width, num_classes)


class _Bottleneck(nn.Module):
    def __init__(self, before: int, width: int, stride: int) -> None:
        super().__init__()
        after = 4 * width
        self.body = nn.Sequential(
            *conv(before, width, 1, act=nn.ReLU),
            *conv(width, width, 3, stride, act=nn.ReLU),
            *conv(width, after, 1),
        )
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or before != after:
            self.shortcut = nn.Sequential(*conv(before, after, 1, stride))

    def forward(self, x: Tensor) -> Tensor:
        return (self.body(x) + self.shortcut(x)).relu()


class _Dense(nn.Module):
    """Norm, 1 x 1, norm, 3 x 3; what comes out stands beside what came in."""

    def __init__(self, before: int, growth: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *_activated(before, 4 * growth, 1), *_activated(4 * growth, growth, 3)
        )

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.body(x), x], 1)


def _activated(before: int, after: int, kernel: int) -> list[nn.Module]:
    convolution = nn.Conv2d(before, after, kernel, padding=kernel // 2, bias=False)
    return [nn.BatchNorm2d(before), nn.ReLU(), convolution]
