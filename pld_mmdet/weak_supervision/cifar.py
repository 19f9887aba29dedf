"""CIFAR-10 and CIFAR-100 from their binary files, with the views of the papers."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import Dataset

from pld_mmdet.errors import UserError
from pld_mmdet.registry import DATASETS
from pld_mmdet.weak_supervision.augment import CoTTAViews


@DATASETS.register_module()
class Cifar(Dataset):
    """32 x 32 images of the binary version, which needs no unpickling.

    A sample has the views ``inputs`` or ``view1`` and ``view2`` (3 x size x size,
    normalised), ``targets`` and ``index``.

    Args:
        data_root: Folder of the files.
        files: Names, e.g. ``data_batch_1.bin``.
        classes: 10, or 100 (whose records carry a coarse label first).
        imbalance: Class c keeps ``n0 imbalance^(-c/(classes-1))`` images [1: all].
        size: Side of the views.
        resize: Side that images are resized to before the crop (bicubic) [size].
        pad: Border of zeros before the crop [0].
        augment: Random crop and flip, or the centre.
        views: Views of a sample.
        strong: Arguments of :class:`CoTTAViews`; such a view of ``inputs`` comes
            beside it as ``strong`` [None: no such view].
        mean: Of the channels, in [0, 1].
        std: Of the channels.

    Raises:
        UserError: A file is missing or has another length.
    """

    def __init__(
        self,
        data_root: str,
        files: Sequence[str],
        classes: int = 10,
        imbalance: float = 1.0,
        size: int = 32,
        resize: int | None = None,
        pad: int = 0,
        augment: bool = True,
        views: int = 1,
        strong: dict | None = None,
        mean: Sequence[float] = (0.0, 0.0, 0.0),
        std: Sequence[float] = (1.0, 1.0, 1.0),
    ) -> None:
        labels = 2 if classes == 100 else 1
        records = [_records(Path(data_root, name), labels) for name in files]
        table = np.concatenate(records)
        targets = table[:, labels - 1].astype(np.int64)
        most = int(np.bincount(targets).max())
        decay = imbalance ** (-1.0 / max(classes - 1, 1))
        sizes = [int(most * decay**c) for c in range(classes)]
        kept = [np.flatnonzero(targets == c)[:n] for c, n in enumerate(sizes)]
        keep = np.sort(np.concatenate(kept))
        self.targets = torch.from_numpy(targets[keep])
        self.images = table[keep, labels:].reshape(-1, 3, 32, 32)
        self.size, self.resize, self.pad = size, resize or size, pad
        self.augment, self.views = augment, views
        self.strong = None if strong is None else CoTTAViews(**strong)
        self.mean = torch.tensor(mean).view(3, 1, 1)
        self.std = torch.tensor(std).view(3, 1, 1)
        self.metainfo = {"classes": tuple(map(str, range(classes)))}

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> dict:
        image = torch.from_numpy(self.images[index]).float() / 255
        if self.resize != 32:
            shape = (self.resize, self.resize)
            image = F.interpolate(image[None], shape, mode="bicubic", antialias=True)
            image = image[0].clamp(0, 1)
        sample = {"targets": self.targets[index], "index": int(index)}
        if self.views > 1:
            views = [self._normalised(self._view(image)) for _ in range(self.views)]
            return {**{f"view{i}": v for i, v in enumerate(views, 1)}, **sample}
        view = self._view(image)
        sample["inputs"] = self._normalised(view)
        if self.strong is not None:
            sample["strong"] = self._normalised(self.strong(view[None])[0])
        return sample

    def _normalised(self, image: Tensor) -> Tensor:
        return (image - self.mean) / self.std

    def _view(self, image: Tensor) -> Tensor:
        image = F.pad(image, (self.pad,) * 4)
        free = image.shape[-1] - self.size
        top, left = free // 2, free // 2
        if self.augment:
            top, left = torch.randint(free + 1, (2,)).tolist()
            if torch.rand(()) < 0.5:
                image = image.flip(-1)
        return image[:, top : top + self.size, left : left + self.size]


def _records(path: Path, labels: int) -> np.ndarray:
    length = labels + 3 * 32 * 32
    if not path.is_file() or path.stat().st_size % length:
        raise UserError(
            f"{path} is not there or no binary CIFAR file ({length} bytes a record).",
            "Download the binary version from www.cs.toronto.edu/~kriz/cifar.html.",
        )
    return np.fromfile(path, np.uint8).reshape(-1, length)
