"""CIFAR-10 and CIFAR-100 from their binary files, which need no pickle to be read."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import Dataset

from pld_mmdet.errors import UserError
from pld_mmdet.registry import DATASETS

_PIXELS = 3 * 32 * 32
# classes -> bytes of a label, files of both parts, mean and std of the training pixels
_KINDS = {
    10: (
        1,
        {
            "train": [f"data_batch_{i}.bin" for i in range(1, 6)],
            "test": ["test_batch.bin"],
        },
        (0.4914, 0.4822, 0.4465),
        (0.2470, 0.2435, 0.2616),
    ),
    # A coarse label stands before the fine one.
    100: (
        2,
        {"train": ["train.bin"], "test": ["test.bin"]},
        (0.5071, 0.4865, 0.4409),
        (0.2673, 0.2564, 0.2762),
    ),
}


@DATASETS.register_module()
class CIFAR(Dataset):
    """50 000 + 10 000 images of 32 x 32 pixels (Krizhevsky 2009), normalised.

    A sample is ``dict(inputs=3 x 32 x 32 float, targets=label, index=number)``. Wrap
    the training part in ``pld_mmdet.SeededDataset``: crops then follow the seed.

    Args:
        data_root: Folder with the ``.bin`` files of the binary version.
        part: ``train`` or ``test``.
        classes: 10 or 100.
        augment: Crop of 32 from the image with 4 black pixels around it, and a flip in
            half of the cases.
        mean: Of red, green, blue in [0, 1], subtracted [of the training pixels].
        std: Divided by [of the training pixels].
        flip: Mirror half of the images without a crop, as generators learn from them.

    Raises:
        UserError: Unknown part or classes, a file is missing or torn.
    """

    def __init__(
        self,
        data_root: str,
        part: str,
        classes: int = 100,
        augment: bool = False,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        flip: bool = False,
    ) -> None:
        if flip and augment:
            raise UserError(
                "CIFAR: augment crops and flips already, and flip would turn back half "
                "of its images.",
                "Set one of them.",
            )
        if classes not in _KINDS or part not in ("train", "test"):
            raise UserError(
                f"CIFAR has no part {part!r} with {classes} classes.",
                "part is 'train' or 'test', classes is 10 or 100.",
            )
        label_bytes, files, own_mean, own_std = _KINDS[classes]
        width = label_bytes + _PIXELS
        records = [_read(Path(data_root) / name, width) for name in files[part]]
        table = torch.from_numpy(np.concatenate(records))
        self.images = table[:, label_bytes:].reshape(-1, 3, 32, 32)
        self.targets = table[:, label_bytes - 1].long()
        self.mean = torch.tensor(mean or own_mean).view(3, 1, 1)
        self.std = torch.tensor(std or own_std).view(3, 1, 1)
        self.augment, self.flip = augment, flip
        self.metainfo = {"classes": tuple(str(label) for label in range(classes))}

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> dict:
        image = self.images[int(index)].float() / 255
        if self.augment:  # before the normalisation: what is put around is black
            image = crop_and_flip(image)
        elif self.flip:
            image = maybe_flipped(image)
        return {
            "inputs": (image - self.mean) / self.std,
            "targets": self.targets[int(index)],
            "index": int(index),
        }


def crop_and_flip(image: Tensor, padding: int = 4) -> Tensor:
    """A random crop of the image's own size out of the padded image, maybe mirrored.

    Args:
        image: C x H x W; zeros are put around it.
        padding: Pixels on each side.
    """
    _, height, width = image.shape
    top, left = torch.randint(2 * padding + 1, (2,)).tolist()
    image = F.pad(image, [padding] * 4)[:, top : top + height, left : left + width]
    return maybe_flipped(image)


def maybe_flipped(image: Tensor) -> Tensor:
    """Half of the images C x H x W mirrored, left for right."""
    return image.flip(2) if torch.rand(()) < 0.5 else image


def _read(path: Path, width: int) -> np.ndarray:
    if not path.is_file():
        raise UserError(
            f"There is no file {path}.",
            "Get the binary version: https://www.cs.toronto.edu/~kriz/cifar.html",
        )
    content = np.fromfile(path, np.uint8)
    if len(content) == 0 or len(content) % width:
        raise UserError(
            f"{path} has {len(content)} bytes, which are no whole images of {width}.",
            "Get the file again; it is the binary version, not the Python one.",
        )
    return content.reshape(-1, width)
