"""Labelled and unlabelled images side by side; folders of images by class."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import Dataset

from pld_mmdet.engine.data.images import read_image
from pld_mmdet.errors import UserError
from pld_mmdet.registry import DATASETS
from pld_mmdet.shared.data.class_images import class_files


@DATASETS.register_module()
class LabelledAndNot(Dataset):
    """Two data sets in one; the second one's labels are taken away.

    Sample ``i`` of the second one has ``targets=-1``, so a model could not use its
    label by accident. Fill batches from both with ``pld_mmdet.SemiSampler``
    (``by_aspect=False``).

    Args:
        datasets: Configs (or data sets) of the labelled and of the unlabelled images.
    """

    def __init__(self, datasets: Sequence) -> None:
        self.datasets = [
            DATASETS.build(d) if isinstance(d, dict) else d for d in datasets
        ]
        labelled, _ = self.datasets
        self.metainfo = labelled.metainfo

    def __len__(self) -> int:
        return sum(map(len, self.datasets))

    def __getitem__(self, index: int) -> dict:
        labelled, unlabelled = self.datasets
        sample = (
            labelled[index]
            if index < len(labelled)
            else unlabelled[index - len(labelled)] | {"targets": torch.tensor(-1)}
        )
        sample.pop("subset", None)  # of LabelSubsets: the others have none
        return sample | {"index": int(index)}


@DATASETS.register_module()
class ClassFolder(Dataset):
    """Images in one folder per class, sorted by the folder's name (ImageNet's layout).

    A sample is ``dict(inputs=3 x size x size RGB float in [0, 1], targets=label,
    index=number)``; networks normalise by themselves (``mean`` and ``std`` of
    ``BackboneClassifier``, ``CLIPImageEncoder``). Wrap a training set in
    ``pld_mmdet.SeededDataset``, so that crops follow the seed.

    Args:
        data_root: The folder of the classes' folders.
        size: Side of the images.
        share: Keep this share of each class, at least one image, drawn by ``seed``.
        rest: Keep the others instead.
        seed: Of the drawing.
        augment: Random crop of ``scale`` of the area and a flip in half of the cases;
            else the short side is resized and the centre is cut out.
        scale: Smallest and largest part of the area of a random crop.

    Raises:
        UserError: There are no images, or a class without any.
    """

    def __init__(
        self,
        data_root: str,
        size: int = 224,
        share: float = 1.0,
        rest: bool = False,
        seed: int = 13,
        augment: bool = False,
        scale: tuple[float, float] = (0.5, 1.0),
    ) -> None:
        folders = class_files(data_root, fewest=1)  # a pool may be one folder
        rng = np.random.default_rng(seed)
        self.files: list[Path] = []
        targets: list[int] = []
        for label, paths in enumerate(folders.values()):
            files = np.array(paths)
            kept = np.zeros(len(files), bool)
            kept[rng.permutation(len(files))[: max(1, round(share * len(files)))]] = (
                True
            )
            chosen = files[kept ^ rest]
            self.files += list(chosen)
            targets += [label] * len(chosen)
        if not self.files:
            raise UserError(
                f"ClassFolder: of {data_root} none are left.",
                "share=1 with rest=True is empty.",
            )
        self.targets = torch.tensor(targets)
        self.size, self.augment, self.scale = size, augment, scale
        self.metainfo = {"classes": tuple(folders)}

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> dict:
        pixels = read_image(self.files[int(index)])
        image = torch.from_numpy(pixels).permute(2, 0, 1).float() / 255
        if self.augment:
            image = random_resized_crop(image, self.size, self.scale)
            image = image.flip(2) if torch.rand(()) < 0.5 else image
        else:
            image = centre_crop(image, self.size)
        return {
            "inputs": image.contiguous(),
            "targets": self.targets[int(index)],
            "index": int(index),
        }


def random_resized_crop(
    image: Tensor,
    size: int,
    scale: tuple[float, float] = (0.5, 1.0),
    ratio: tuple[float, float] = (3 / 4, 4 / 3),
) -> Tensor:
    """A window of random area and shape, resized (Szegedy et al. 2015).

    Args:
        image: C x H x W in [0, 1].
        size: Side of the result.
        scale: Range of its area as a part of the image's.
        ratio: Range of width / height.
    """
    _, height, width = image.shape
    window = min(height, width), min(height, width)  # when ten draws do not fit
    for _ in range(10):
        area = height * width * float(torch.empty(()).uniform_(*scale))
        shape = math.exp(torch.empty(()).uniform_(*map(math.log, ratio)))
        h, w = round(math.sqrt(area / shape)), round(math.sqrt(area * shape))
        if 0 < h <= height and 0 < w <= width:
            window = h, w
            break
    h, w = window
    top = int(torch.randint(height - h + 1, ()))
    left = int(torch.randint(width - w + 1, ()))
    return _resize(image[:, top : top + h, left : left + w], (size, size))


def centre_crop(image: Tensor, size: int) -> Tensor:
    """Short side to ``size``, then the square in the middle; C x H x W in [0, 1]."""
    _, height, width = image.shape
    factor = size / min(height, width)
    image = _resize(
        image, (max(size, round(height * factor)), max(size, round(width * factor)))
    )
    top, left = (image.shape[1] - size) // 2, (image.shape[2] - size) // 2
    return image[:, top : top + size, left : left + size]


def _resize(image: Tensor, size: tuple[int, int]) -> Tensor:
    if image.shape[1:] == size:
        return image
    # bicubic interpolation overshoots
    image = F.interpolate(image[None], size, mode="bicubic", antialias=True)[0]
    return image.clamp(0, 1)
