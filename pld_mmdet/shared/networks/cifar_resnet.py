"""Residual networks for images of 32 x 32 pixels: what CIFAR papers are run on."""

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from pld_mmdet.errors import one_of
from pld_mmdet.registry import MODELS


@MODELS.register_module()
class CIFARResNet(nn.Module):
    """A 3 x 3 stem, stages of basic blocks, mean pooling, a linear classifier.

    ``blocks=(2, 2, 2, 2), widths=(64, 128, 256, 512), stem=64, pre_activation=True`` is
    PreAct ResNet-18 (He et al. 2016); ``blocks=(5, 5, 5), widths=(64, 128, 256),
    stem=32`` is the ResNet-32x4, ``(1, 1, 1)`` the ResNet-8x4 of distillation papers.

    Args:
        num_classes: Outputs K.
        blocks: Basic blocks of each stage.
        widths: Channels of each stage; each but the first halves the resolution.
        stem: Channels of the first convolution.
        pre_activation: Batch norm and ReLU before the convolutions; the stem has none
            then, and one more pair stands before the pooling.
        stem_norm: Batch norm and ReLU after the stem [where ``pre_activation`` is off].
        last_norm: Batch norm and ReLU before the pooling [where it is on].
        stem_padding: Of the first convolution [1; 2 widens 32 pixels to 34, KRR-ST's
            teachers].
        stem_stride: Of the first convolution [1; 2 is four times as fast].
        init: ``kaiming``: convolutions start normal by their fan out. ``torch``: as
            torch leaves them.
    """

    def __init__(
        self,
        num_classes: int = 100,
        blocks: Sequence[int] = (2, 2, 2, 2),
        widths: Sequence[int] = (64, 128, 256, 512),
        stem: int = 64,
        pre_activation: bool = True,
        stem_norm: bool | None = None,
        last_norm: bool | None = None,
        stem_padding: int = 1,
        stem_stride: int = 1,
        init: str = "kaiming",
    ) -> None:
        super().__init__()
        one_of("CIFARResNet", init=(init, ("kaiming", "torch")))
        layers: list[nn.Module] = [
            nn.Conv2d(3, stem, 3, stem_stride, stem_padding, bias=False)
        ]
        if not pre_activation if stem_norm is None else stem_norm:
            layers += [nn.BatchNorm2d(stem), nn.ReLU(inplace=True)]
        block, channels = _PreActBlock if pre_activation else _BasicBlock, stem
        for stage, (count, width) in enumerate(zip(blocks, widths, strict=True)):
            for i in range(count):
                stride = 2 if stage > 0 and i == 0 else 1
                layers.append(block(channels, width, stride))
                channels = width
        if pre_activation if last_norm is None else last_norm:
            layers += [nn.BatchNorm2d(channels), nn.ReLU(inplace=True)]
        self.backbone = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.fc = nn.Linear(channels, num_classes)
        self.feat_dim, self.num_classes = channels, num_classes
        for module in self.modules():
            if init == "kaiming" and isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(
                    module.weight, mode="fan_out", nonlinearity="relu"
                )

    def features(self, x: Tensor) -> Tensor:
        """N x 3 x 32 x 32 -> N x D."""
        return self.backbone(x)

    def forward(self, x: Tensor) -> Tensor:
        """N x 3 x 32 x 32 -> N x K logits."""
        return self.fc(self.backbone(x))


class _BasicBlock(nn.Module):
    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.shortcut = nn.Sequential()
        if stride != 1 or channels != width:
            self.shortcut = nn.Sequential(
                nn.Conv2d(channels, width, 1, stride, bias=False),
                nn.BatchNorm2d(width),
            )

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(y + self.shortcut(x))


class _PreActBlock(nn.Module):
    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv1 = nn.Conv2d(channels, width, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.shortcut = None
        if stride != 1 or channels != width:
            self.shortcut = nn.Conv2d(channels, width, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        activated = F.relu(self.bn1(x))
        y = self.conv2(F.relu(self.bn2(self.conv1(activated))))
        return y + (x if self.shortcut is None else self.shortcut(activated))
