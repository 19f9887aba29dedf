"""Photographs in one folder a class, as ImageNet is laid out."""

import math
import random
from collections.abc import Sequence

import numpy as np
import torch
from torch.utils.data import Dataset

from pld_mmdet.engine.data.images import read_image
from pld_mmdet.registry import DATASETS
from pld_mmdet.shared.data.class_images import class_files


@DATASETS.register_module()
class LabelledImages(Dataset):
    """``data_root/<class>/<image>``: square RGB images and class numbers.

    A sample is ``dict(inputs=3 x S x S float, targets=class number, index=...)``.
    Classes are numbered in the order of their folders' names.

    Args:
        data_root: Folder of the class folders.
        size: S.
        area: Range of a random crop's share of the image, with a random aspect of 3/4
            to 4/3 [None: the middle square].
        flip: Mirror every other image at random. Wrap in ``SeededDataset`` when this
            or ``area`` is used.
        mean, std: Subtracted and divided, for values in [0, 1]; of R, G, B, or one
            number.

    Raises:
        UserError: The folder is missing, or a class folder has no images.
    """

    def __init__(
        self,
        data_root: str,
        size: int = 224,
        area: tuple[float, float] | None = None,
        flip: bool = False,
        mean: float | Sequence[float] = (0.485, 0.456, 0.406),
        std: float | Sequence[float] = (0.229, 0.224, 0.225),
    ) -> None:
        folders = class_files(data_root, fewest=1)
        self.files = [
            (label, path)
            for label, paths in enumerate(folders.values())
            for path in paths
        ]
        self.size, self.area, self.flip = size, area, flip
        self.mean = np.broadcast_to(np.asarray(mean, np.float32), 3)
        self.std = np.broadcast_to(np.asarray(std, np.float32), 3)
        self.metainfo = {"classes": tuple(folders)}

    def __len__(self) -> int:
        return len(self.files)

    def get_data_info(self, index: int) -> dict:
        """Where an image is; for ``SeededDataset``'s errors."""
        return {"img_path": str(self.files[index][1])}

    def __getitem__(self, index: int) -> dict:
        import cv2

        image = read_image(self.files[index][1])
        height, width = image.shape[:2]
        top, left, h, w = (
            _middle(height, width)
            if self.area is None
            else _random_crop(height, width, self.area)
        )
        image = image[top : top + h, left : left + w]
        kind = cv2.INTER_AREA if min(h, w) > self.size else cv2.INTER_CUBIC
        image = cv2.resize(image, (self.size, self.size), interpolation=kind)
        if self.flip and random.random() < 0.5:
            image = image[:, ::-1]
        values = (image.astype(np.float32) / 255 - self.mean) / self.std
        inputs = torch.from_numpy(np.ascontiguousarray(values.transpose(2, 0, 1)))
        return {"inputs": inputs, "targets": self.files[index][0], "index": int(index)}


def _middle(height: int, width: int) -> tuple[int, int, int, int]:
    side = min(height, width)
    return (height - side) // 2, (width - side) // 2, side, side


def _random_crop(
    height: int, width: int, area: tuple[float, float]
) -> tuple[int, int, int, int]:
    """Inception's crop: ten tries for a box that fits, then the middle."""
    for _ in range(10):
        size = random.uniform(*area) * height * width
        ratio = math.exp(random.uniform(math.log(3 / 4), math.log(4 / 3)))
        w, h = round(math.sqrt(size * ratio)), round(math.sqrt(size / ratio))
        if 0 < w <= width and 0 < h <= height:
            return random.randint(0, height - h), random.randint(0, width - w), h, w
    return _middle(height, width)
