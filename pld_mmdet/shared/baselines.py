"""Trivial rivals: what is reached without the method, and often without learning.

A gain means little when a linear reader of the raw input does better. Every rival here
is scored by the config's own test data and evaluator, so its numbers stand in the same
table. A row of an experiment names one in a line::

    dict(name="raw_pixels", title="Raw pixels", baseline="raw_input")
    dict(name="words", title="Bag of words", baseline=dict(type="bag_of_words", c=10))

``tools/baseline.py CONFIG NAME`` runs one by hand. Two more trivial rivals are plain
rows: learning rate 0, and the teacher itself (``untrained`` of a config that predicts
with it); ``trivial=True`` marks a row that is trained by the usual command.
"""

import random
from collections.abc import Callable, Sequence
from functools import partial, reduce
from importlib import import_module

import numpy as np
import torch
from mmengine.config import Config, ConfigDict
from mmengine.evaluator import BaseMetric
from mmengine.registry import DATASETS as ROOT_DATASETS
from mmengine.registry import FUNCTIONS
from mmengine.registry import METRICS as ROOT_METRICS
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from pld_mmdet.engine.data.randomness import own_randomness
from pld_mmdet.engine.optional import require
from pld_mmdet.errors import UserError
from pld_mmdet.registry import MODELS

_EXTRA = "classification"  # the extra that names scikit-learn
_STREAM = 7  # keeps random weights apart from a run's iterations and samples


def raw_input(
    cfg: Config,
    seed: int,
    train: str = "train_dataloader.dataset",
    key: str = "inputs",
    target: str = "targets",
    features: str | None = None,
    geometry: dict | None = None,
    c: float = 1.0,
    standardise: bool = False,
    evaluator: dict | None = None,
) -> dict:
    """Logistic regression on the input itself, from the labels that the method has.

    Samples that say which ``subset`` they belong to (``LabelSubsets``) make one reader
    a subset, and the score is over all of them.

    Args:
        cfg: Resolved config with test data and an evaluator.
        seed: Not used: nothing is drawn.
        train: Where in the config the labelled data set stands; its samples without a
            label (-1) are left out.
        key: Name of the input in a sample.
        target: Name of the label in a sample.
        features: Function of a batch of inputs [N, ...] -> [N, D], ``module.function``
            [flatten]; e.g. a mean spectrum.
        geometry: Arguments of that function.
        c: Inverse strength of the L2 penalty [1, scikit-learn's].
        standardise: Subtract the mean and divide by the deviation of each feature.
        evaluator: Config of another metric than the config's.
    """
    read = _features(features, geometry or {})
    known = _gathered(build_dataset(cfg, train))
    inputs, targets = read(known[key]), known[target]
    subsets = known.get("subset", torch.zeros(len(targets)))
    test = build_dataset(cfg, "test_dataloader.dataset")
    batch = _gathered(test)
    asked = read(batch[key])
    predictions = []
    for subset in subsets.unique():
        own = (subsets == subset) & (targets >= 0)
        logits = logistic(inputs[own], targets[own], asked, c, standardise)
        predictions.append({"logits": logits, "targets": batch[target]})
    return _scored(cfg, test, [(batch, predictions)], evaluator)


def bag_of_words(
    cfg: Config,
    seed: int,
    train: str = "train_dataloader.dataset",
    key: str = "input_ids",
    mask: str = "attention_mask",
    target: str = "targets",
    c: float = 1.0,
) -> dict:
    """Logistic regression on how often each word occurs, without their order.

    Args:
        cfg: See :func:`raw_input`.
        seed: Not used.
        train: See :func:`raw_input`.
        key: Name of the ids in a sample.
        mask: Name of the mask, 0 where there is no word; all are words without it.
        target: Name of the label in a sample.
        c: See :func:`raw_input`.
    """
    known = _gathered(build_dataset(cfg, train))
    test = build_dataset(cfg, "test_dataloader.dataset")
    batch = _gathered(test)
    size = int(max(known[key].max(), batch[key].max())) + 1
    counts = [word_counts(part[key], part.get(mask), size) for part in (known, batch)]
    logits = logistic(counts[0], known[target], counts[1], c)
    predictions = [{"logits": logits, "targets": batch[target]}]
    return _scored(cfg, test, [(batch, predictions)])


def raw_features(cfg: Config, seed: int, key: str = "inputs") -> dict:
    """The input itself, given to the probe that the config's evaluator is.

    Args:
        cfg: See :func:`raw_input`; the evaluator reads ``features`` and ``targets``.
        seed: Not used.
        key: Name of the input in a sample.
    """
    test = build_dataset(cfg, "test_dataloader.dataset")
    batch = _gathered(test)
    found = {"features": batch[key].flatten(1), "targets": batch["targets"]}
    return _scored(cfg, test, [(batch, [found])])


def untrained(cfg: Config, seed: int) -> dict:
    """The config's model as it is built: random weights, or a teacher as it comes.

    Args:
        cfg: See :func:`raw_input`.
        seed: Of the weights.
    """
    test = build_dataset(cfg, "test_dataloader.dataset")
    size = cfg.test_dataloader.get("batch_size", 64)
    with own_randomness(seed, _STREAM), torch.no_grad():
        model = MODELS.build(cfg.model)
        model.init_weights()
        model.eval()
        answers = [
            (batch, model.test_step(batch))
            for batch in DataLoader(test, size, collate_fn=_collate(cfg))
        ]
    return _scored(cfg, test, answers)


def random_weights(
    cfg: Config,
    seed: int,
    network: str,
    train: str = "train_dataloader.dataset",
    key: str = "inputs",
    c: float = 1.0,
) -> dict:
    """Logistic regression on what a network sees that has never learnt.

    Args:
        cfg: See :func:`raw_input`.
        seed: Of the weights.
        network: Where in the config the network stands; it offers ``features``.
        train: See :func:`raw_input`.
        key: See :func:`raw_input`.
        c: See :func:`raw_input`.
    """
    with own_randomness(seed, _STREAM):
        encoder = MODELS.build(_entry(cfg, network))
    encoder.eval()
    known = _gathered(build_dataset(cfg, train))
    test = build_dataset(cfg, "test_dataloader.dataset")
    batch = _gathered(test)
    seen, asked = (encode(encoder, part[key]) for part in (known, batch))
    own = known["targets"] >= 0
    logits = logistic(seen[own], known["targets"][own], asked, c, standardise=True)
    predictions = [{"logits": logits, "targets": batch["targets"]}]
    return _scored(cfg, test, [(batch, predictions)])


def kmeans(
    cfg: Config,
    seed: int,
    clusters: int,
    key: str = "inputs",
    unit: bool = False,
    restarts: int = 10,
) -> dict:
    """k-means on the test images themselves, as clustering is scored.

    Args:
        cfg: See :func:`raw_input`; the evaluator matches clusters to classes.
        seed: Of the first centres.
        clusters: How many.
        key: Name of the input in a sample.
        unit: Make each input unit length (what a cosine head sees).
        restarts: The best of this many, by the within-cluster distance [10].
    """
    test = build_dataset(cfg, "test_dataloader.dataset")
    batch = _gathered(test)
    inputs = batch[key].flatten(1).double()
    if unit:
        inputs = nn.functional.normalize(inputs)
    cluster = require("sklearn.cluster", _EXTRA)
    means = cluster.KMeans(clusters, n_init=restarts, random_state=seed)
    found = torch.from_numpy(means.fit_predict(inputs.numpy())).long()
    logits = nn.functional.one_hot(found, clusters).float()
    predictions = [{"logits": logits, "targets": batch["targets"]}]
    return _scored(cfg, test, [(batch, predictions)])


def pixelwise(
    cfg: Config,
    seed: int,
    train: str = "train_dataloader.dataset.dataset",
    thin: dict | None = None,
    pixels: int = 20000,
    c: float = 1.0,
) -> dict:
    """Logistic regression on the colour and the place of a pixel, for label maps.

    It reads the labelled images whole, through the test data's pipeline.

    Args:
        cfg: See :func:`raw_input`; a sample has ``inputs`` C x H x W and ``targets``
            H x W, of which numbers that are no class do not count.
        seed: Of the pixels that it learns from.
        train: See :func:`raw_input`.
        thin: Transform before the pipeline's last one, which takes labels away [none].
        pixels: How many it learns from at most, about as many of each image.
        c: See :func:`raw_input`.
    """
    test = build_dataset(cfg, "test_dataloader.dataset")
    pipeline = list(cfg.test_dataloader.dataset.pipeline)
    pipeline[-1:-1] = [thin] if thin else []
    labelled = ROOT_DATASETS.build(dict(_entry(cfg, train), pipeline=pipeline))
    classes = len(test.metainfo["classes"])
    share = -(-pixels // max(len(labelled), 1))
    dice = torch.Generator().manual_seed(seed)
    seen, told = [torch.empty(0)], [torch.empty(0, dtype=torch.long)]
    for sample in map(labelled.__getitem__, range(len(labelled))):
        targets = sample["targets"].flatten()
        own = (targets < classes).nonzero().flatten()
        own = own[torch.randperm(len(own), generator=dice)[:share]]
        seen.append(pixel_features(sample["inputs"])[own])
        told.append(targets[own])
    reader = fitted(torch.cat(seen), torch.cat(told), c, standardise=True)
    answers = []
    for sample in map(test.__getitem__, range(len(test))):
        found = reader(pixel_features(sample["inputs"])).argmax(1)
        targets = sample["targets"][None]
        maps = {"predictions": found.view_as(targets), "targets": targets}
        answers.append((sample, [maps]))
    return _scored(cfg, test, answers)


def bicubic(cfg: Config, seed: int, scale: int, key: str = "inputs") -> dict:
    """Test images shrunk by means and enlarged by a bicubic spline: no learning.

    Args:
        cfg: See :func:`raw_input`; the evaluator compares ``samples`` and
            ``references``, N x C x H x W in [0, 1].
        seed: Not used.
        scale: How many times.
        key: Name of the image in a sample.
    """
    test = build_dataset(cfg, "test_dataloader.dataset")
    batch = _gathered(test)
    small = nn.functional.avg_pool2d(batch[key], scale)
    size = batch[key].shape[-2:]
    samples = nn.functional.interpolate(small, size, mode="bicubic").clamp(0, 1)
    found = {"samples": samples, "references": batch[key]}
    return _scored(cfg, test, [(batch, [found])])


def repeated(cfg: Config, seed: int, train: str) -> dict:
    """Texts with the label 1, said again: memory of the labels, no learning.

    Each prompt gets one at random of those that hold a word of its ``concept``; where
    there is none, nothing is said behind it.

    Args:
        cfg: See :func:`raw_input`; the evaluator reads ``texts``.
        seed: Of the choice.
        train: Where the data set of ``text`` and ``targets`` stands.
    """
    labelled, test = (build_dataset(cfg, p) for p in (train, "test_dataloader.dataset"))
    known = [one["text"] for one in map(labelled.__getitem__, range(len(labelled)))
             if one["targets"] == 1]  # fmt: skip
    dice, texts = random.Random(seed), []
    for prompt in map(test.__getitem__, range(len(test))):
        words = set(prompt["concept"].split())
        fitting = [text for text in known if words.intersection(text.split())]
        texts.append(dice.choice(fitting or [prompt["text"]]))
    return _scored(cfg, test, [({}, [{"texts": texts}])])


BASELINES: dict[str, Callable[..., dict]] = {
    function.__name__: function
    for function in (
        raw_input, bag_of_words, raw_features, untrained, random_weights, kmeans,
        pixelwise, bicubic, repeated,
    )
}  # fmt: skip


def evaluate(cfg: Config, baseline: str | dict, seed: int = 0) -> dict:
    """The numbers of a trivial rival on a config's test data.

    Args:
        cfg: Resolved config.
        baseline: Name in ``BASELINES``, or ``dict(type=name, **arguments)``.
        seed: Of whatever it draws.

    Raises:
        UserError: Unknown name or argument.
    """
    arguments = {"type": baseline} if isinstance(baseline, str) else dict(baseline)
    name = arguments.pop("type", None)
    if name not in BASELINES:
        raise UserError(
            f"There is no baseline {name!r}.", f"Choose from {', '.join(BASELINES)}."
        )
    try:
        return BASELINES[name](cfg, seed, **arguments)
    except TypeError as error:
        if "argument" not in str(error):
            raise
        raise UserError(
            f"The baseline {name} cannot be called so: {error}.",
            "Its arguments are described in pld_mmdet/shared/baselines.py.",
        ) from error


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
    inputs: Tensor, targets: Tensor, c: float = 1.0, standardise: bool = False
) -> Callable[[Tensor], Tensor]:
    """A logistic regression (scikit-learn's, L2): [M, D] -> log-probabilities [M, K].

    Classes without a label get minus infinity's stand-in, -1e9.

    Args:
        inputs: [N, D] with labels.
        targets: [N] labels, of two classes at least.
        c: Inverse strength of the penalty.
        standardise: By mean and deviation of ``inputs``.

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
    reader.fit(known, targets.numpy())

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


def build_dataset(cfg: Config, path: str) -> Dataset:
    """The data set that stands at a place of a config.

    Args:
        cfg: Resolved config.
        path: Keys with dots, ``train_cfg.stages.3.dataloader.dataset``.

    Raises:
        UserError: Nothing stands there.
    """
    return ROOT_DATASETS.build(_entry(cfg, path))


def _entry(cfg: Config, path: str) -> ConfigDict:
    def step(node, key: str):
        return node[int(key)] if isinstance(node, list | tuple) else node[key]

    try:
        return reduce(step, path.split("."), cfg)
    except (KeyError, IndexError, ValueError, TypeError) as error:
        raise UserError(
            f"The config has no {path}.", "Say where the labelled data set stands."
        ) from error


def _gathered(dataset: Dataset) -> dict[str, Tensor]:
    """All samples as one batch."""
    return torch.utils.data.default_collate([dataset[i] for i in range(len(dataset))])


def _features(name: str | None, arguments: dict) -> Callable[[Tensor], Tensor]:
    if name is None:
        return lambda inputs: inputs.flatten(1).float()
    module, _, function = name.rpartition(".")
    try:
        return partial(getattr(import_module(module), function), **arguments)
    except (ImportError, AttributeError, ValueError) as error:
        raise UserError(
            f"There is no function {name}: {error}.", "Write module.function."
        ) from error


def _collate(cfg: Config) -> Callable:
    return FUNCTIONS.get(cfg.test_dataloader.get("collate_fn", {})["type"])


def _scored(
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
