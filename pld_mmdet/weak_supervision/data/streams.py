"""Streams of corrupted images, and the score of a stream round by round."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import Dataset

from pld_mmdet.engine.data.arrays import read_array
from pld_mmdet.engine.run.metrics import ClassificationMetric
from pld_mmdet.errors import UserError
from pld_mmdet.registry import DATASETS, METRICS
from pld_mmdet.shared import Digits

Corruption = Callable[[Tensor, torch.Generator], Tensor]


def _noise(x: Tensor, g: torch.Generator) -> Tensor:
    return (x + 0.4 * torch.randn(x.shape, generator=g)).clamp(0, 1)


def _contrast(x: Tensor, g: torch.Generator) -> Tensor:
    return 0.5 + 0.4 * (x - 0.5)


def _blur(x: Tensor, g: torch.Generator) -> Tensor:
    return F.avg_pool2d(F.pad(x, (3, 3, 3, 3), mode="replicate"), 7, stride=1)


def _shift(x: Tensor, g: torch.Generator) -> Tensor:
    """Two pixels right and down; what leaves does not come back."""
    return F.pad(x, (2, 0, 2, 0))[..., : x.shape[-2], : x.shape[-1]]


def _dropout(x: Tensor, g: torch.Generator) -> Tensor:
    return x * (torch.rand(x.shape, generator=g) > 0.3)


def _clean(x: Tensor, g: torch.Generator) -> Tensor:
    return x


# Synthetic and ours: they only share their names with CIFAR-10-C's. Strengths were set
# on the val images, before any learning, so that batch statistics err in about 40 %.
CORRUPTIONS: dict[str, Corruption] = {
    "clean": _clean,
    "noise": _noise,
    "contrast": _contrast,
    "blur": _blur,
    "shift": _shift,
    "dropout": _dropout,
}


@DATASETS.register_module()
class CorruptedDigits(Dataset):
    """scikit-learn's digits at another size under synthetic corruptions, in order.

    Round after round, corruption after corruption, image after image. Random
    corruptions are drawn anew in each round, from ``seed``. A sample is ``dict(
    inputs=1 x size x size in [0, 1], targets, index, round, domain=number of the
    corruption)``.

    Args:
        part: Part of :class:`pld_mmdet.shared.Digits`.
        corruptions: Names, in the order of the stream.
        rounds: How often all of them follow each other.
        images: The first this many images of the part [all].
        size: Pixels a side, bilinear from 8.
        seed: Of the corruptions, not the run's: all seeds see the same stream.
        pad: Each time it is drawn, an image is moved by up to this many pixels each
            way, as CIFAR networks are trained: a border of zeros and a random crop,
            from torch's stream [0: as it is].
    """

    def __init__(
        self,
        part: str,
        corruptions: Sequence[str] = ("clean",),
        rounds: int = 1,
        images: int | None = None,
        size: int = 16,
        seed: int = 0,
        pad: int = 0,
    ) -> None:
        unknown = set(corruptions) - CORRUPTIONS.keys()
        if unknown:
            raise UserError(
                f"CorruptedDigits knows no corruption {sorted(unknown)[0]!r}.",
                f"Choose from {', '.join(CORRUPTIONS)}.",
            )
        digits = Digits(part)
        clean = F.interpolate(
            digits.images[:images], (size, size), mode="bilinear", align_corners=False
        )
        blocks = [
            CORRUPTIONS[name](clean, torch.Generator().manual_seed(number))
            for number, name in enumerate(list(corruptions) * rounds, 1000 * seed)
        ]
        self.images = torch.cat(blocks)
        self.size, self.pad = size, pad
        self.targets = digits.targets[:images].repeat(len(blocks))
        block = torch.arange(len(blocks)).repeat_interleave(len(clean))
        self.rounds = block // len(corruptions)
        self.domains = block % len(corruptions)
        self.metainfo = {**digits.metainfo, "domains": tuple(corruptions)}

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> dict:
        image = self.images[index]
        if self.pad:
            top, left = torch.randint(2 * self.pad + 1, (2,)).tolist()
            padded = F.pad(image, (self.pad,) * 4)
            image = padded[:, top : top + self.size, left : left + self.size]
        return {
            "inputs": image,
            "targets": self.targets[index],
            "index": int(index),
            "round": self.rounds[index],
            "domain": self.domains[index],
        }


@DATASETS.register_module()
class CifarC(Dataset):
    """CIFAR-10-C or CIFAR-100-C: one severity, corruption after corruption.

    Args:
        data_root: Folder with ``labels.npy`` and one ``<corruption>.npy`` each: 50000 x
            32 x 32 x 3 bytes, five severities of 10000 images one after the other.
        corruptions: Names of the files, in the order of the stream.
        severity: 1 to 5.

    Raises:
        UserError: A file is missing or of another length, or there is no such severity.
    """

    def __init__(
        self, data_root: str, corruptions: Sequence[str], severity: int = 5
    ) -> None:
        root = Path(data_root)
        missing = [
            f"{n}.npy"
            for n in ("labels", *corruptions)
            if not (root / f"{n}.npy").is_file()
        ]
        if missing:
            raise UserError(
                f"{root} has no {', '.join(missing)}.",
                "Unpack CIFAR-10-C (zenodo.org/records/2535967) there.",
            )
        # Mapped: all fifteen corruptions are 2.3 GB.
        self.arrays = [
            read_array(root / f"{name}.npy", mapped=True) for name in corruptions
        ]
        self.labels = read_array(root / "labels.npy")
        sizes = [len(self.labels), *map(len, self.arrays)]
        if severity not in range(1, 6) or len({*sizes}) > 1 or sizes[0] % 5:
            raise UserError(
                f"CifarC cannot read severity {severity} of {root}: labels and images "
                f"are {', '.join(map(str, sizes))}.",
                "Severities are 1 to 5, a fifth of as many images as labels each.",
            )
        self.block = len(self.labels) // 5
        self.start = (severity - 1) * self.block
        self.metainfo = {"domains": tuple(corruptions)}

    def __len__(self) -> int:
        return self.block * len(self.arrays)

    def __getitem__(self, index: int) -> dict:
        domain, place = divmod(int(index), self.block)
        place += self.start
        image = torch.from_numpy(np.array(self.arrays[domain][place]))
        return {
            "inputs": image.permute(2, 0, 1).float() / 255,
            "targets": int(self.labels[place]),
            "index": int(index),
            "round": 0,
            "domain": domain,
        }


@METRICS.register_module()
class StreamMetric(ClassificationMetric):
    """Accuracy over a stream, of its first and last round, and of each domain.

    Reads ``round`` [N] and ``domain`` [N] of the batch beside the predictions.
    """

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        """Keep the numbers of a batch with their place in the stream."""
        before = len(self.results)
        super().process(data_batch, data_samples)
        place = torch.stack([data_batch["round"], data_batch["domain"]], 1).cpu()
        rows = np.concatenate(self.results[before:])
        self.results[before:] = [np.hstack([rows, place.numpy().astype(rows.dtype)])]

    def compute_metrics(self, results: list[np.ndarray]) -> dict[str, float]:
        """Of all samples, of the first and the last round, of each domain."""
        rows = np.concatenate(results)
        metrics = super().compute_metrics([rows[:, :-2]])
        correct, rounds, domains = rows[:, 1], rows[:, -2], rows[:, -1]
        metrics["accuracy_first"] = float(correct[rounds == rounds.min()].mean())
        metrics["accuracy_last"] = float(correct[rounds == rounds.max()].mean())
        names = self.dataset_meta["domains"]
        for number in np.unique(domains).astype(int):
            mean = float(correct[domains == number].mean())
            metrics[f"accuracy_{names[number]}"] = mean
        return metrics
