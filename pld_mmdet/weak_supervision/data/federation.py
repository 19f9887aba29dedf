"""Clients as views of one data set: who has which images, and which with a label."""

from collections.abc import Sequence

import numpy as np
import torch
from mmengine.registry import DATASETS as ROOT_DATASETS
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import Dataset

from pld_mmdet.engine.data.sampler import DrawIndex
from pld_mmdet.errors import UserError
from pld_mmdet.registry import DATASETS
from pld_mmdet.shared import Digits

_DRAWS = 1000


def dirichlet_partition(
    targets: np.ndarray, clients: int, alpha: float, seed: int
) -> list[np.ndarray]:
    """Give each class to the clients in shares drawn from a Dirichlet distribution.

    Hsu et al. 2019: the smaller ``alpha``, the fewer classes a client has. The draw is
    repeated until each client has at least one image, at most a thousand times.

    Args:
        targets: [N] classes.
        clients: How many.
        alpha: Concentration.
        seed: Of the draw.

    Returns:
        For each client the sorted places of its images; together all of them.

    Raises:
        UserError: ``alpha`` or ``clients`` mean nothing, or no draw leaves every client
            an image.
    """
    if clients < 1 or not 0 < alpha < np.inf:
        raise UserError(
            f"Federation: alpha={alpha}, num_clients={clients}.",
            "Choose a finite alpha above 0 (the smaller, the fewer classes a client "
            "has) and a client or more.",
        )
    generator = np.random.default_rng((seed, 1))
    classes = np.unique(targets)
    for _ in range(_DRAWS if clients <= len(targets) else 0):
        places: list[list[np.ndarray]] = [[] for _ in range(clients)]
        for label in classes:
            own = generator.permutation(np.flatnonzero(targets == label))
            shares = generator.dirichlet([alpha] * clients)
            cuts = np.round(np.cumsum(shares)[:-1] * len(own)).astype(int)
            for client, piece in enumerate(np.split(own, cuts)):
                places[client].append(piece)
        found = [np.sort(np.concatenate(pieces)) for pieces in places]
        if min(map(len, found)) > 0:
            return found
    raise UserError(
        f"Federation: no draw gives each of {clients} clients one of {len(targets)} "
        f"images with alpha={alpha}.",
        "Choose fewer clients (num_clients) or a larger alpha.",
    )


def partition_by(dataset: Dataset, name: str) -> list[np.ndarray]:
    """The places of each value of a data set's attribute [N], in ascending order.

    Raises:
        UserError: No such attribute, or one value only.
    """
    values = getattr(dataset, name, None)
    if values is None or len(values.unique()) < 2:
        raise UserError(
            f"{type(dataset).__name__} does not divide by {name}.",
            "Leave `by` out: clients then follow the classes.",
        )
    return [np.flatnonzero(values.numpy() == v) for v in values.unique().tolist()]


class View(Dataset):
    """Some samples of a data set; the draw numbers of the indices go through.

    Args:
        dataset: The whole.
        indices: Places in it.
    """

    def __init__(self, dataset: Dataset, indices: Sequence[int]) -> None:
        self.dataset = dataset
        self.indices = [int(i) for i in indices]
        self.metainfo = dataset.metainfo

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> dict:
        place = self.indices[index]
        if isinstance(index, DrawIndex):
            place = DrawIndex(place, index.draw, index.seed)
        return self.dataset[place]


@DATASETS.register_module()
class Federation(Dataset):
    """A data set whose images belong to clients, few of them with a label.

    ``clients[k]`` is ``dict(labelled=view, unlabelled=view)``; ``sizes[k]`` the number
    of images of both. Unlabelled views have ``targets`` too, to log how good
    pseudo-labels are. As a data set it is the whole.

    Args:
        dataset: Config of a data set with ``targets``.
        num_clients: How many clients.
        alpha: Of the Dirichlet distribution of classes over clients.
        labelled: Share of a client's images that have a label; at least one has, and
            at least one has none unless the share is 1 (then both views are all).
        seed: Of the partition.
        by: Attribute [N] of the data set instead, such as ``cities`` of StreetCrops:
            each value is a client, and ``num_clients`` and ``alpha`` are not read.
    """

    def __init__(
        self,
        dataset: dict,
        num_clients: int = 100,
        alpha: float = 0.1,
        labelled: float = 0.1,
        seed: int = 0,
        by: str | None = None,
    ) -> None:
        self.dataset = ROOT_DATASETS.build(dataset)
        self.metainfo = self.dataset.metainfo
        targets = self.dataset.targets.numpy()
        generator = np.random.default_rng((seed, 2))
        self.clients, self.sizes = [], []
        if by is None:
            parts = dirichlet_partition(targets, num_clients, alpha, seed)
        else:
            parts = partition_by(self.dataset, by)
        for places in parts:
            order = generator.permutation(places)
            count = max(1, round(labelled * len(order)))
            rest = order[count:] if count < len(order) else order
            self.clients.append(
                {
                    "labelled": View(self.dataset, order[:count]),
                    "unlabelled": View(self.dataset, rest),
                }
            )
            self.sizes.append(len(order))

    @property
    def labelled(self) -> View:
        """What has a label, of all clients."""
        parts = (client["labelled"].indices for client in self.clients)
        return View(self.dataset, [place for part in parts for place in part])

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> dict:
        return self.dataset[index]


def _generator(index: int) -> np.random.Generator:
    """Random numbers that follow from the run's seed, the image and the draw."""
    seed, draw = getattr(index, "seed", 0), getattr(index, "draw", index)
    key = seed << 32 | int(index), int(draw)
    return np.random.Generator(np.random.Philox(key=key))


@DATASETS.register_module()
class NoisyDigits(Digits):
    """Digits with a weak view ``inputs`` and a ``strong`` one: less and more noise.

    The noise is a function of the run's seed, the image and the number of the draw.

    Args:
        weak: Standard deviation of the weak view's noise; pixels lie in [0, 1].
        strong: Of the strong view's.
        kwargs: Of :class:`pld_mmdet.shared.Digits`.
    """

    def __init__(self, *, weak: float = 0.02, strong: float = 0.15, **kwargs) -> None:
        super().__init__(**kwargs)
        self.deviations = np.array([weak, strong], np.float32).reshape(2, 1, 1, 1)

    def __getitem__(self, index: int) -> dict:
        sample = super().__getitem__(int(index))
        image = sample["inputs"]
        shape = 2, *image.shape
        noise = _generator(index).standard_normal(shape, dtype=np.float32)
        weak, strong = image + torch.from_numpy(self.deviations * noise)
        return {**sample, "inputs": weak, "strong": strong}


@DATASETS.register_module()
class DigitViews(Digits):
    """Digits with a weak view ``inputs`` and a ``strong`` one.

    Weak: the digit, moved by whole pixels if asked. Strong: turned, scaled and moved,
    with a square blanked and noise. Both are functions of the run's seed, the image and
    the number of the draw. A pixel is an eighth of these images, which are centred: so
    by default the weak view stays in its place, and the strong one moves by half a one.

    Args:
        weak_shift: Largest move of the weak view in whole pixels.
        shift: Of the strong view, in pixels.
        degrees: Largest turn of the strong view to either side.
        scale: Largest change of its size, as a share.
        cutout: Side of its blank square in pixels; part of it may lie outside.
        noise: Standard deviation of its noise; pixels lie in [0, 1].
        kwargs: Of :class:`pld_mmdet.shared.Digits`.
    """

    def __init__(
        self,
        *,
        weak_shift: int = 0,
        shift: float = 0.5,
        degrees: float = 15.0,
        scale: float = 0.1,
        cutout: int = 2,
        noise: float = 0.1,
        **kwargs,
    ) -> None:
        super().__init__(**kwargs)
        self.weak_shift, self.shift = weak_shift, shift
        self.degrees, self.scale = degrees, scale
        self.cutout, self.noise = cutout, noise

    def __getitem__(self, index: int) -> dict:
        sample, generator = super().__getitem__(int(index)), _generator(index)
        weak = self._weak(sample["inputs"], generator)
        strong = self._strong(sample["inputs"], generator)
        return {**sample, "inputs": weak, "strong": strong}

    def _weak(self, image: Tensor, generator: np.random.Generator) -> Tensor:
        most, (height, width) = self.weak_shift, image.shape[-2:]
        top, left = generator.integers(2 * most + 1, size=2)
        padded = F.pad(image, (most,) * 4)
        return padded[..., top : top + height, left : left + width]

    def _strong(self, image: Tensor, generator: np.random.Generator) -> Tensor:
        height, width = image.shape[-2:]
        angle, size, dx, dy = generator.uniform(-1, 1, 4) * (
            np.radians(self.degrees),
            self.scale,
            2 * self.shift / width,
            2 * self.shift / height,
        )
        cos, sin = np.cos(angle) / (1 + size), np.sin(angle) / (1 + size)
        theta = torch.tensor([[[cos, sin, dx], [-sin, cos, dy]]], dtype=image.dtype)
        grid = F.affine_grid(theta, [1, *image.shape], align_corners=False)
        view = F.grid_sample(image[None], grid, align_corners=False)[0]
        noise = generator.standard_normal(image.shape, dtype=np.float32)
        view = view + self.noise * torch.from_numpy(noise)
        if self.cutout:
            top = generator.integers(1 - self.cutout, height)
            left = generator.integers(1 - self.cutout, width)
            view[
                ...,
                max(top, 0) : top + self.cutout,
                max(left, 0) : left + self.cutout,
            ] = 0
        return view
