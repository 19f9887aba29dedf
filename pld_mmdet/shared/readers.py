"""What trivial rivals share: their data, their readers without layers, their score."""

from collections.abc import Callable, Sequence
from functools import reduce

import numpy as np
import torch
from mmengine.config import Config, ConfigDict
from mmengine.evaluator import BaseMetric
from mmengine.registry import DATASETS as ROOT_DATASETS
from mmengine.registry import METRICS as ROOT_METRICS
from torch import Tensor, nn
from torch.utils.data import Dataset

from pld_mmdet.engine.run.optional import require
from pld_mmdet.errors import UserError

_EXTRA = "classification"  # the extra that names scikit-learn


def logistic(
    inputs: Tensor,
    targets: Tensor,
    asked: Tensor,
    c: float = 1.0,
    standardise: bool = False,
) -> Tensor:
    """What :func:`fitted` says of ``asked`` [M, D]: log-probabilities [M, K]."""
    return fitted(inputs, targets, c, standardise)(asked)


def fitted(
    inputs: Tensor,
    targets: Tensor,
    c: float = 1.0,
    standardise: bool = False,
    weights: Tensor | None = None,
) -> Callable[[Tensor], Tensor]:
    """A logistic regression (scikit-learn's, L2): [M, D] -> log-probabilities [M, K].

    Classes without a label get minus infinity's stand-in, -1e9.

    Args:
        inputs: [N, D] with labels.
        targets: [N] labels, of two classes at least.
        c: Inverse strength of the penalty.
        standardise: By mean and deviation of ``inputs``.
        weights: [N] of the rows [1 each].

    Raises:
        UserError: All labels are of one class.
    """
    if len(targets.unique()) < 2:
        raise UserError(
            "A logistic regression needs labels of two classes.",
            "Check the data set that it learns from.",
        )
    known = inputs.double().numpy()
    mean, scale = 0.0, 1.0
    if standardise:
        mean, scale = known.mean(0), known.std(0)
        scale[scale == 0] = 1.0
        known = (known - mean) / scale
    basis = None
    if known.shape[1] > len(known):
        # the L2-penalised weights lie in the span of the rows: same answer, and
        # minutes less for 400 images of 3072 pixels
        basis = np.linalg.qr(known.T)[0]
        known = known @ basis
    linear = require("sklearn.linear_model", _EXTRA)
    reader = linear.LogisticRegression(C=c, max_iter=2000)
    reader.fit(known, targets.numpy(), None if weights is None else weights.numpy())

    def read(asked: Tensor) -> Tensor:
        rows = (asked.double().numpy() - mean) / scale
        rows = rows if basis is None else rows @ basis
        logits = np.full((len(rows), int(targets.max()) + 1), -1e9)
        logits[:, reader.classes_] = reader.predict_log_proba(rows)
        return torch.from_numpy(logits).float()

    return read


def pixel_features(image: Tensor) -> Tensor:
    """Channels, then row and column from 0 to 1: C x H x W -> [H * W, C + 2]."""
    rows, columns = ((torch.arange(n) + 0.5) / n for n in image.shape[1:])
    place = torch.stack(torch.meshgrid(rows, columns, indexing="ij"))
    return torch.cat([image.float(), place]).flatten(1).T


def word_counts(ids: Tensor, mask: Tensor | None, size: int) -> Tensor:
    """How often each word occurs in each row: ids [N, T] -> [N, size]."""
    weights = torch.ones_like(ids) if mask is None else mask
    counts = torch.zeros(len(ids), size)
    return counts.scatter_add_(1, ids, weights.float())


@torch.no_grad()
def encode(encoder: nn.Module, inputs: Tensor, batch: int = 256) -> Tensor:
    """What an encoder's ``features`` gives, [N, D], in batches, as one vector each."""
    return torch.cat([encoder.features(x).flatten(1) for x in inputs.split(batch)])


class Counted(nn.Module):
    """A language model of counts: how often a word followed the words before it.

    Args:
        ids: Texts [N, T] to count in.
        size: Words of the vocabulary.
        before: How many words before it count [1: pairs].
        extra: Added to each count, so that nothing is impossible [1].
    """

    def __init__(self, ids: Tensor, size: int, before: int = 1, extra: float = 1.0):
        super().__init__()
        self.before = before
        runs = ids.unfold(1, before + 1, 1).flatten(0, 1)
        places = runs @ size ** torch.arange(before, -1, -1)
        counts = torch.bincount(places, minlength=size ** (before + 1)) + extra
        counts = counts.view((size,) * (before + 1))
        self.register_buffer("table", (counts / counts.sum(-1, keepdim=True)).log())

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None):
        """Ids [B, T] -> log-probabilities [B, T, V]; word 0 stands before the first."""
        runs = nn.functional.pad(input_ids, (self.before - 1, 0))
        return self.table[runs.unfold(1, self.before, 1).unbind(-1)]


def build_dataset(cfg: Config, path: str) -> Dataset:
    """The data set that stands at a place of a config.

    Args:
        cfg: Resolved config.
        path: Keys with dots, ``train_cfg.stages.3.dataloader.dataset``.

    Raises:
        UserError: Nothing stands there.
    """
    return ROOT_DATASETS.build(entry(cfg, path))


def entry(cfg: Config, path: str) -> ConfigDict:
    """What stands at a place of a config; see :func:`build_dataset`."""

    def step(node, key: str):
        return node[int(key)] if isinstance(node, list | tuple) else node[key]

    try:
        return reduce(step, path.split("."), cfg)
    except (KeyError, IndexError, ValueError, TypeError) as error:
        raise UserError(
            f"The config has no {path}.", "Say where the labelled data set stands."
        ) from error


def gathered(dataset: Dataset) -> dict[str, Tensor]:
    """All samples as one batch."""
    return torch.utils.data.default_collate([dataset[i] for i in range(len(dataset))])


def scored(
    cfg: Config,
    dataset: Dataset,
    answers: Sequence[tuple[dict, list[dict]]],
    evaluator: dict | None = None,
) -> dict:
    """What the config's evaluator (or another one) says of batches and predictions."""
    metrics = evaluator or cfg.test_evaluator
    metrics = metrics if isinstance(metrics, list | tuple) else [metrics]
    found: dict = {}
    for part in metrics:
        metric: BaseMetric = ROOT_METRICS.build(part)
        metric.dataset_meta = getattr(dataset, "metainfo", None)
        for batch, predictions in answers:
            metric.process(batch, predictions)
        found |= metric.evaluate(len(dataset))
    return found
