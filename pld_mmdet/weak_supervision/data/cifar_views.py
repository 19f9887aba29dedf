"""Several views of a CIFAR image, with the long tail and the sizes of the papers."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from pld_mmdet.registry import DATASETS
from pld_mmdet.shared.data.cifar import CIFAR
from pld_mmdet.weak_supervision.data.augment import CoTTAViews


@DATASETS.register_module()
class CIFARViews(CIFAR):
    """Images of :class:`CIFAR` resized, cropped and flipped, once or several times.

    A sample has the views ``inputs`` or ``view1`` and ``view2`` (3 x size x size,
    normalised), ``targets`` and ``index``.

    Args:
        data_root: Folder of the ``.bin`` files.
        part: ``train`` or ``test``.
        classes: 10 or 100.
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
        UserError: As :class:`CIFAR`.
    """

    def __init__(
        self,
        data_root: str,
        part: str,
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
        super().__init__(data_root, part, classes, augment, mean, std)
        targets = self.targets.numpy()
        most = int(np.bincount(targets).max())
        decay = imbalance ** (-1.0 / max(classes - 1, 1))
        sizes = [int(most * decay**c) for c in range(classes)]
        kept = [np.flatnonzero(targets == c)[:n] for c, n in enumerate(sizes)]
        keep = torch.from_numpy(np.sort(np.concatenate(kept)))
        self.targets, self.images = self.targets[keep], self.images[keep]
        self.size, self.resize, self.pad = size, resize or size, pad
        self.views = views
        self.strong = None if strong is None else CoTTAViews(**strong)

    def __getitem__(self, index: int) -> dict:
        image = self.images[int(index)].float() / 255
        if self.resize != 32:
            shape = (self.resize, self.resize)
            image = F.interpolate(image[None], shape, mode="bicubic", antialias=True)
            image = image[0].clamp(0, 1)
        sample = {"targets": self.targets[int(index)], "index": int(index)}
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
