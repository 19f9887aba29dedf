"""Networks of a few thousand to a million weights."""

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn

from pld_mmdet.registry import MODELS


@MODELS.register_module()
class MLP(nn.Sequential):
    """Flatten, then linear layers with ReLU between them.

    Args:
        sizes: Widths from the input to the output, e.g. ``(64, 128, 10)``.
    """

    def __init__(self, sizes: Sequence[int]) -> None:
        layers: list[nn.Module] = [nn.Flatten()]
        for before, after in pairwise(sizes):
            layers += [nn.Linear(before, after), nn.ReLU(inplace=True)]
        super().__init__(*layers[:-1])


@MODELS.register_module()
class SmallConvNet(nn.Module):
    """3x3 convolutions with batch norm, mean pooling, and a linear classifier.

    ``features`` is what the classifier sees, so that a method can ask for both.

    Args:
        in_channels: Channels of the images.
        widths: Channels of the blocks; each but the first halves the resolution.
        num_classes: Outputs of the classifier.
    """

    def __init__(
        self,
        in_channels: int = 1,
        widths: Sequence[int] = (16, 32),
        num_classes: int = 10,
    ) -> None:
        super().__init__()
        blocks: list[nn.Module] = []
        for i, width in enumerate(widths):
            blocks += [
                nn.Conv2d(
                    in_channels, width, 3, stride=1 + (i > 0), padding=1, bias=False
                ),
                nn.BatchNorm2d(width),
                nn.ReLU(inplace=True),
            ]
            in_channels = width
        self.backbone = nn.Sequential(*blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.fc = nn.Linear(in_channels, num_classes)
        self.feat_dim, self.num_classes = in_channels, num_classes

    def features(self, x: Tensor) -> Tensor:
        """N x C x H x W -> N x D."""
        return self.backbone(x)

    def forward(self, x: Tensor) -> Tensor:
        """N x C x H x W -> N x K logits."""
        return self.fc(self.backbone(x))


def projector_layers(*widths: int) -> nn.Sequential:
    """Linear layers without bias, with batch norm and ReLU between them.

    Args:
        widths: From the input to the output.
    """
    layers: list[nn.Module] = []
    for before, after in pairwise(widths):
        layers += [nn.Linear(before, after, bias=False), nn.BatchNorm1d(after)]
        layers += [nn.ReLU(inplace=True)]
    return nn.Sequential(*layers[:-2])
