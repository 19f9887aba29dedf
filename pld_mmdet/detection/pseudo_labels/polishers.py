"""The two small networks of dual polishing (layers as released)."""

import torch
from torch import Tensor, nn


class BoxPolisher(nn.Module):
    """Class-agnostic deltas [N, 4] from the crops of a box and its context boxes.

    Crops side by side on the channels -> 1x1 convolution back to C -> three fully
    connected layers. 14,358,788 parameters with 7 crops of 256 x 7 x 7 and width 1024.

    Args:
        channels: C of a crop.
        size: Height and width of a crop.
        crops: The box and its context boxes (7).
        hidden_channels: Width of the fully connected layers (1024).
    """

    def __init__(
        self,
        channels: int,
        size: tuple[int, int],
        crops: int = 7,
        hidden_channels: int = 1024,
    ) -> None:
        super().__init__()
        self.fuse = nn.Conv2d(crops * channels, channels, 1)
        self.layers = nn.Sequential(
            nn.Linear(channels * size[0] * size[1], hidden_channels),
            nn.ReLU(inplace=True),
            nn.Linear(hidden_channels, hidden_channels),
            nn.ReLU(inplace=True),
            nn.Linear(hidden_channels, 4),
        )

    def forward(self, crops: Tensor) -> Tensor:
        """Crops [N, 7, C, h, w] -> deltas [N, 4]."""
        fused = self.fuse(crops.flatten(1, 2)).relu()
        return self.layers(fused.flatten(1)).float()


class CategoryPolisher(nn.Module):
    """Class logits [N, C + 1] from the crop of a box alone.

    The second layer has no activation, as released. 13,978,705 parameters with crops of
    256 x 7 x 7, width 1024 and 80 classes.

    Args:
        channels: Channels of a crop.
        size: Height and width of a crop.
        num_classes: Foreground classes.
        hidden_channels: Width of the fully connected layers (1024).
    """

    def __init__(
        self,
        channels: int,
        size: tuple[int, int],
        num_classes: int,
        hidden_channels: int = 1024,
    ) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(channels * size[0] * size[1], hidden_channels),
            nn.ReLU(inplace=True),
            nn.Linear(hidden_channels, hidden_channels),
            nn.Linear(hidden_channels, num_classes + 1),
        )

    def forward(self, crop: Tensor) -> Tensor:
        """Crop [N, C, h, w] -> logits [N, C + 1], background last."""
        return self.layers(crop.flatten(1)).float()


class Polishers(nn.Module):
    """Box and category polisher on the features of a RoI extractor.

    Args:
        extractor: mmdet's RoI extractor; says channels and size of a crop.
        num_classes: Foreground classes.
        crops: Crops a box has for the box polisher.
        hidden_channels: Width of both.
        box: Whether there is a box polisher.
        category: Whether there is a category polisher.
    """

    def __init__(
        self,
        extractor: nn.Module,
        num_classes: int,
        crops: int = 7,
        hidden_channels: int = 1024,
        box: bool = True,
        category: bool = True,
    ) -> None:
        super().__init__()
        channels = extractor.out_channels
        size = torch.nn.modules.utils._pair(extractor.roi_layers[0].output_size)
        self.box = BoxPolisher(channels, size, crops, hidden_channels) if box else None
        self.category = (
            CategoryPolisher(channels, size, num_classes, hidden_channels)
            if category
            else None
        )
