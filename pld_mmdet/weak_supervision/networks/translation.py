"""SPARSE's two own networks: a U-Net that translates and classifies, a patch critic."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pld_mmdet.registry import MODELS


def _block(before: int, after: int) -> nn.Sequential:
    """Two 3 x 3 convolutions with batch norm."""
    layers: list[nn.Module] = []
    for channels in (before, after):
        layers += [
            nn.Conv2d(channels, after, 3, padding=1, bias=False),
            nn.BatchNorm2d(after),
            nn.ReLU(inplace=True),
        ]
    return nn.Sequential(*layers)


class _Gate(nn.Module):
    """Attention U-Net's gate: what comes from below weighs the pixels of the skip."""

    def __init__(self, width: int) -> None:
        super().__init__()
        inner = max(width // 2, 1)
        self.below, self.skip = nn.Conv2d(width, inner, 1), nn.Conv2d(width, inner, 1)
        self.weigh = nn.Conv2d(inner, 1, 1)

    def forward(self, below: Tensor, skip: Tensor) -> Tensor:
        """Both N x width x H x W."""
        return skip * self.weigh((self.below(below) + self.skip(skip)).relu()).sigmoid()


@MODELS.register_module()
class AttentionUNet(nn.Module):
    """Two entrances, one encoder, a class head at its bottom and a decoder.

    Args:
        num_classes: K.
        in_channels: C of the images.
        widths: Of the levels; each but the first halves the resolution
            [(64, 128, 256, 512)].
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int = 3,
        widths: Sequence[int] = (64, 128, 256, 512),
    ) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.enter_translate = _block(in_channels + num_classes, widths[0])
        self.enter_classify = _block(in_channels, widths[0])
        self.down = nn.ModuleList(_block(a, b) for a, b in pairwise(widths))
        self.head = nn.Linear(widths[-1], num_classes)
        upward = list(pairwise(widths))[::-1]
        self.up = nn.ModuleList(nn.Conv2d(b, a, 3, padding=1) for a, b in upward)
        self.gates = nn.ModuleList(_Gate(a) for a, _ in upward)
        self.merge = nn.ModuleList(_block(2 * a, a) for a, _ in upward)
        self.out = nn.Conv2d(widths[0], in_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Class logits N x K of images N x C x H x W."""
        return self.head(self._encode(self.enter_classify(x))[-1].mean((2, 3)))

    def translate(self, x: Tensor, classes: Tensor) -> Tensor:
        """Images N x C x H x W as if they were of other classes N; no bound on them."""
        tiled = F.one_hot(classes, self.num_classes).to(x)[..., None, None]
        tiled = tiled.expand(-1, -1, *x.shape[2:])
        *skips, x = self._encode(self.enter_translate(torch.cat([x, tiled], 1)))
        parts = zip(skips[::-1], self.up, self.gates, self.merge, strict=True)
        for skip, up, gate, merge in parts:
            x = up(F.interpolate(x, size=skip.shape[2:]))
            x = merge(torch.cat([gate(x, skip), x], 1))
        return self.out(x)

    def _encode(self, x: Tensor) -> list[Tensor]:
        levels = [x]
        for block in self.down:
            levels.append(block(F.max_pool2d(levels[-1], 2)))
        return levels


@MODELS.register_module()
class ClassCritic(nn.Module):
    """Convolutions of stride 2 without norm; a score for each patch, and classes.

    Args:
        num_classes: K.
        image_size: Height and width, in pixels.
        in_channels: C of the images.
        widths: Of the convolutions [(64, 128, 256, 512, 1024, 2048)].
    """

    def __init__(
        self,
        num_classes: int,
        image_size: int = 128,
        in_channels: int = 3,
        widths: Sequence[int] = (64, 128, 256, 512, 1024, 2048),
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for before, after in pairwise((in_channels, *widths)):
            layers += [nn.Conv2d(before, after, 4, 2, 1), nn.LeakyReLU(0.01)]
        self.body = nn.Sequential(*layers)
        self.score = nn.Conv2d(widths[-1], 1, 3, padding=1, bias=False)
        side = image_size // 2 ** len(widths)
        self.classify = nn.Conv2d(widths[-1], num_classes, side, bias=False)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Scores N x 1 x h x w (high: real) and class logits N x K."""
        x = self.body(x)
        return self.score(x), self.classify(x).flatten(1)
