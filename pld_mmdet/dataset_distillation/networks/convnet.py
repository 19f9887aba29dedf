"""The convolutional network of the dataset distillation literature."""

from collections.abc import Sequence

from torch import Tensor, nn

from pld_mmdet.registry import MODELS


@MODELS.register_module()
class DistillConvNet(nn.Module):
    """Blocks of conv 3x3, batch norm, ReLU, mean pooling by 2; then a linear head.

    Args:
        image_shape: C, H, W.
        widths: Channels of the blocks [128, 256, 512; KRR-ST on CIFAR-100].
        outputs: Of the head.
        standardise: Features with mean 0 and variance 1 over the data, for networks
            whose features are regression targets [False].
    """

    def __init__(
        self,
        image_shape: tuple[int, int, int] = (3, 32, 32),
        widths: Sequence[int] = (128, 256, 512),
        outputs: int = 512,
        standardise: bool = False,
    ) -> None:
        super().__init__()
        channels, height, width = image_shape
        layers: list[nn.Module] = []
        for number in widths:
            layers += [
                nn.Conv2d(channels, number, 3, padding=1),
                nn.BatchNorm2d(number),
                nn.ReLU(inplace=True),
                nn.AvgPool2d(2),
            ]
            channels, height, width = number, height // 2, width // 2
        self.feat_dim = channels * height * width
        layers.append(nn.Flatten())
        if standardise:
            layers.append(nn.BatchNorm1d(self.feat_dim, affine=False))
        self.backbone = nn.Sequential(*layers)
        self.fc = nn.Linear(self.feat_dim, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """N x C x H x W -> N x outputs."""
        return self.fc(self.backbone(x))

    def reset(self) -> None:
        """New random weights and fresh batch-norm statistics."""
        for module in self.modules():
            if hasattr(module, "reset_parameters"):
                module.reset_parameters()
