"""Images that are held as bytes, with their labels."""

from torch import Tensor
from torch.utils.data import Dataset


class PixelDataset(Dataset):
    """A sample is ``dict(inputs=3 x H x W float RGB in [0, 1], targets, index)``.

    A subclass sets ``pixels`` (N x 3 x H x W uint8) and ``targets`` (N int64).
    """

    pixels: Tensor
    targets: Tensor

    @property
    def images(self) -> Tensor:
        """All images, N x 3 x H x W float in [0, 1]."""
        return self.pixels.float() / 255

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> dict:
        return {
            "inputs": self.pixels[index].float() / 255,
            "targets": self.targets[index],
            "index": int(index),
        }
