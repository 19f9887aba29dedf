"""Convolutional encoder of log-mel spectrograms."""

from torch import Tensor, nn

from pld_mmdet.registry import MODELS


@MODELS.register_module()
class AudioNTT(nn.Module):
    """Three blocks of conv 3x3, batch norm, ReLU, max pooling; then two linear layers.

    NTT's encoder of DCASE 2020 task 6, which BYOL-A and LAPE use.

    Args:
        bins: Mel bins, a multiple of 8 [64].
        width: Channels of the blocks [64].
        dim: d, of the linear layers [2048].
        dropout: Between them [0.3].

    Attributes:
        block_dims: Length of each block's vector, width x bins / 2, / 4 and / 8.
    """

    def __init__(
        self, bins: int = 64, width: int = 64, dim: int = 2048, dropout: float = 0.3
    ) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(1 if number == 0 else width, width, 3, padding=1),
                nn.BatchNorm2d(width),
                nn.ReLU(),
                nn.MaxPool2d(2),
            )
            for number in range(3)
        )
        self.block_dims = tuple(width * (bins >> number) for number in (1, 2, 3))
        self.fc = nn.Sequential(
            nn.Linear(self.block_dims[-1], dim),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(dim, dim),
            nn.ReLU(),
        )
        self.feat_dim = dim

    def forward(self, mel: Tensor) -> tuple[list[Tensor], Tensor]:
        """Log-mel [B, 1, bins, T].

        Returns:
            The time mean of each block, three of [B, block_dims[i]], and the frames
            [B, T // 8, d].
        """
        means, x = [], mel
        for block in self.blocks:
            x = block(x)
            frames = x.flatten(1, 2).transpose(1, 2)  # [B, T, channels x bins]
            means.append(frames.mean(1))
        return means, self.fc(frames)

    def features(self, mel: Tensor) -> Tensor:
        """Mean of the frames over time [B, d]."""
        return self(mel)[1].mean(1)
