"""Bags of instances of two classes, of which only the share of ones is known."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from mmengine.evaluator import BaseMetric
from mmengine.registry import DATASETS as ROOT_DATASETS
from torch import Tensor
from torch.utils.data import Dataset

from pld_mmdet.errors import UserError
from pld_mmdet.registry import DATASETS, METRICS


@DATASETS.register_module()
class Table(Dataset):
    """Rows of numbers with labels 0 and 1, from two CSV files with a header line.

    A sample is ``dict(inputs=[D] float, targets=label, index=row)``.

    Args:
        inputs: File of N rows of D numbers.
        targets: File of N labels, one a row.

    Raises:
        UserError: A file is missing, holds something else, or they do not fit.
    """

    def __init__(self, inputs: str, targets: str) -> None:
        values, labels = _numbers(inputs), _numbers(targets)
        if labels.shape != (len(values), 1) or not np.isin(labels, (0, 1)).all():
            raise UserError(
                f"{targets} of shape {labels.shape} does not label the {len(values)} "
                f"rows of {inputs}.",
                "Give one label, 0 or 1, for each row.",
            )
        self.inputs = torch.from_numpy(values.astype(np.float32))
        self.targets = torch.from_numpy(labels[:, 0].astype(np.int64))
        self.metainfo = {"classes": ("negative", "positive")}

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> dict:
        return {
            "inputs": self.inputs[index],
            "targets": self.targets[index],
            "index": int(index),
        }


def _numbers(path: str) -> np.ndarray:
    if not Path(path).is_file():
        raise UserError(
            f"There is no file {path}.", "`how_to_get` of the config says where from."
        )
    try:
        return np.loadtxt(path, delimiter=",", skiprows=1, ndmin=2)
    except ValueError as error:
        raise UserError(
            f"{path} holds no table of numbers: {error}.",
            "Give a CSV file with one header line and as many numbers in each row.",
        ) from error


@DATASETS.register_module()
class TwoClasses(Dataset):
    """A data set whose label is 1 for some of its classes and 0 for the others.

    Args:
        dataset: Config of a data set with ``targets``.
        positive: Labels that become 1.
    """

    def __init__(self, dataset: dict, positive: Sequence[int]) -> None:
        self.dataset = ROOT_DATASETS.build(dataset)
        self.targets = torch.isin(self.dataset.targets, torch.tensor(positive)).long()
        self.metainfo = {"classes": ("negative", "positive")}

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> dict:
        return {**self.dataset[index], "targets": self.targets[index]}


@DATASETS.register_module()
class ProportionBags(Dataset):
    """Random disjoint bags of one size; a sample is a whole bag.

    ``dict(inputs=[B, ...], sums=number of ones, index=[B] places among the instances
    0 .. N-1)``. No label of an instance leaves this data set. What does not fill a bag
    is left out.

    Args:
        dataset: Config of a data set with binary ``targets``.
        size: Instances B of a bag.
        seed: Which instances meet.

    Raises:
        UserError: Fewer instances than one bag holds.
    """

    def __init__(self, dataset: dict, size: int, seed: int = 0) -> None:
        self.dataset, self.size = ROOT_DATASETS.build(dataset), size
        bags = len(self.dataset) // size
        if not bags:
            raise UserError(
                f"ProportionBags: {len(self.dataset)} instances fill no bag of {size}.",
                "Lower `size`.",
            )
        generator = torch.Generator().manual_seed(seed)
        order = torch.randperm(len(self.dataset), generator=generator)
        self.members = order[: bags * size].view(bags, size)
        self.sums = self.dataset.targets[self.members].sum(1)

    def __len__(self) -> int:
        return len(self.members)

    def __getitem__(self, index: int) -> dict:
        images = [self.dataset[int(i)]["inputs"] for i in self.members[index]]
        first = int(index) * self.size
        return {
            "inputs": torch.stack(images),
            "sums": self.sums[index].float(),
            "index": torch.arange(first, first + self.size),
        }


def auc(scores: Tensor, targets: Tensor) -> float:
    """Share of pairs of a one and a zero in which the one scores higher; ties half.

    Args:
        scores: [N].
        targets: 0 or 1, [N].

    Raises:
        UserError: Only one of the classes is there.
    """
    ones, zeros = scores[targets == 1], scores[targets == 0]
    if not len(ones) or not len(zeros):
        raise UserError("auc: labels of one class only", "give both zeros and ones")
    gaps = ones[:, None] - zeros
    return ((gaps > 0).double().mean() + (gaps == 0).double().mean() / 2).item()


@METRICS.register_module()
class AUCMetric(BaseMetric):
    """``auc`` in percent of logits N x 2 with labels 0 and 1."""

    default_prefix = None

    def process(self, data_batch, data_samples: Sequence[dict]) -> None:
        """Keep the score of class 1 over class 0."""
        for sample in data_samples:
            logits = sample["logits"].float().cpu()
            scores = logits[:, 1] - logits[:, 0]
            pairs = zip(scores, sample["targets"].cpu(), strict=True)
            self.results += [(s.item(), t.item()) for s, t in pairs]

    def compute_metrics(self, results: list) -> dict[str, float]:
        """Over all images."""
        scores, targets = torch.tensor(results, dtype=torch.double).T
        return {"auc": 100 * auc(scores, targets)}
