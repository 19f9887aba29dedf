"""Real images that a distilled set starts from, and its students' views of it."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import Dataset

from pld_mmdet.errors import UserError
from pld_mmdet.shared.views import mirrored, shifted


def real_images(
    dataset: Dataset, per_class: int, num_classes: int, seed: int
) -> Tensor:
    """As many random images of each class, the same on every process.

    Args:
        dataset: Its samples are ``dict(inputs=C x H x W, targets=label, ...)``.
        per_class: Images n of a class.
        num_classes: Classes K.
        seed: Of the draw.

    Returns:
        [n, K, C, H, W]: n sets of one image of every class.

    Raises:
        UserError: A class has too few, or a label is no class.
    """
    dice = torch.Generator().manual_seed(seed)
    found: list[list[Tensor]] = [[] for _ in range(num_classes)]
    missing = per_class * num_classes
    for place in torch.randperm(len(dataset), generator=dice).tolist():
        if not missing:
            break
        sample = dataset[place]
        label = int(sample["targets"])
        if not 0 <= label < num_classes:
            raise UserError(
                f"Image {place} is of class {label}, and num_classes={num_classes}.",
                "Set model.num_classes to the number of classes of the data set.",
            )
        if len(found[label]) < per_class:
            found[label].append(sample["inputs"])
            missing -= 1
    if missing:
        few = min(range(num_classes), key=lambda label: len(found[label]))
        raise UserError(
            f"Class {few} has {len(found[few])} real images, {per_class} are wanted.",
            "Lower the images per class, or give more real ones.",
        )
    if not per_class:
        return torch.zeros(0, num_classes, *dataset[0]["inputs"].shape)
    rows = [torch.stack([own[n] for own in found]) for n in range(per_class)]
    return torch.stack(rows)


def medium_images(
    dataset: Dataset,
    per_class: int,
    num_classes: int,
    seed: int,
    hard: Callable[[Tensor, Tensor], Tensor],
    start: float = 1 / 3,
) -> Tensor:
    """Of three times as many random images those of the middle third by difficulty.

    Args:
        dataset: See :func:`real_images`.
        per_class: n.
        num_classes: K.
        seed: Of the draw.
        hard: Images N x C x H x W and labels [N] -> difficulty [N].
        start: Share of easier images that are passed over [1/3; 0: the easiest].

    Returns:
        [n, K, C, H, W], the easier ones first.

    Raises:
        UserError: See :func:`real_images`.
    """
    pool = real_images(dataset, 3 * per_class, num_classes, seed)
    labels = torch.arange(num_classes)
    values = [hard(images, labels) for images in pool]
    if not values:
        return pool
    order = torch.stack(values).argsort(dim=0, stable=True)  # [3 n, K]
    skipped = round(start * 3 * per_class)
    order = order[skipped : skipped + per_class]
    return pool[order, labels]


def cropped(images: Tensor, padding: int, flip: float = 0.5) -> Tensor:
    """CIFAR's usual view: black around the image, a crop of its size, mirrored or not.

    Args:
        images: N x C x H x W in [0, 1].
        padding: Pixels on each side.
        flip: Probability of a mirror image.
    """
    return mirrored(shifted(F.pad(images, [padding] * 4), padding), flip)
