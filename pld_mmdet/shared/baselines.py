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
from collections.abc import Callable
from functools import partial
from importlib import import_module

import torch
from mmengine.config import Config
from mmengine.registry import DATASETS as ROOT_DATASETS
from mmengine.registry import FUNCTIONS
from torch import Tensor, nn
from torch.utils.data import DataLoader

from pld_mmdet.engine.data.randomness import own_randomness
from pld_mmdet.engine.run.optional import require
from pld_mmdet.errors import UserError
from pld_mmdet.registry import MODELS
from pld_mmdet.shared.readers import (
    Counted,
    build_dataset,
    encode,
    entry,
    fitted,
    gathered,
    logistic,
    pixel_features,
    scored,
    word_counts,
)

_EXTRA = "classification"  # the extra that names scikit-learn
_STREAM = 7  # keeps random weights apart from a run's iterations and samples


def raw_input(
    cfg: Config,
    seed: int,
    train: str = "train_dataloader.dataset",
    key: str = "inputs",
    target: str = "targets",
    part: str | None = None,
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
        part: Attribute of that data set that is its labelled part [the whole].
        features: Function of a batch of inputs [N, ...] -> [N, D], ``module.function``
            [flatten]; e.g. a mean spectrum.
        geometry: Arguments of that function.
        c: Inverse strength of the L2 penalty [1, scikit-learn's].
        standardise: Subtract the mean and divide by the deviation of each feature.
        evaluator: Config of another metric than the config's.
    """
    read = _features(features, geometry or {})
    labelled = build_dataset(cfg, train)
    known = gathered(getattr(labelled, part) if part else labelled)
    inputs, targets = read(known[key]), known[target]
    subsets = known.get("subset", torch.zeros(len(targets)))
    test = build_dataset(cfg, "test_dataloader.dataset")
    batch = gathered(test)
    asked = read(batch[key])
    predictions = []
    for subset in subsets.unique():
        own = (subsets == subset) & (targets >= 0)
        logits = logistic(inputs[own], targets[own], asked, c, standardise)
        predictions.append({"logits": logits, "targets": batch[target]})
    return scored(cfg, test, [(batch, predictions)], evaluator)


def nearest(
    cfg: Config,
    seed: int,
    train: str = "train_dataloader.dataset",
    key: str = "inputs",
    target: str = "targets",
) -> dict:
    """The label of the nearest labelled input, by Euclidean distance.

    Args:
        cfg: See :func:`raw_input`.
        seed: Not used.
        train: See :func:`raw_input`; samples without a label (-1) are left out.
        key: See :func:`raw_input`.
        target: See :func:`raw_input`.
    """
    known = gathered(build_dataset(cfg, train))
    own = known[target] >= 0
    labels = known[target][own]
    seen = known[key][own].flatten(1).double()
    test = build_dataset(cfg, "test_dataloader.dataset")
    batch = gathered(test)
    near = torch.cdist(batch[key].flatten(1).double(), seen).argmin(1)
    classes = max(int(labels.max()), int(batch[target].max())) + 1
    logits = nn.functional.one_hot(labels[near], classes).float()
    predictions = [{"logits": logits, "targets": batch[target]}]
    return scored(cfg, test, [(batch, predictions)])


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
    known = gathered(build_dataset(cfg, train))
    test = build_dataset(cfg, "test_dataloader.dataset")
    batch = gathered(test)
    size = int(max(known[key].max(), batch[key].max())) + 1
    counts = [word_counts(part[key], part.get(mask), size) for part in (known, batch)]
    logits = logistic(counts[0], known[target], counts[1], c)
    predictions = [{"logits": logits, "targets": batch[target]}]
    return scored(cfg, test, [(batch, predictions)])


def raw_features(cfg: Config, seed: int, key: str = "inputs") -> dict:
    """The input itself, given to the probe that the config's evaluator is.

    Args:
        cfg: See :func:`raw_input`; the evaluator reads ``features`` and ``targets``.
        seed: Not used.
        key: Name of the input in a sample.
    """
    test = build_dataset(cfg, "test_dataloader.dataset")
    batch = gathered(test)
    found = {"features": batch[key].flatten(1), "targets": batch["targets"]}
    return scored(cfg, test, [(batch, [found])])


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
    return scored(cfg, test, answers)


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
        encoder = MODELS.build(entry(cfg, network))
    encoder.eval()
    known = gathered(build_dataset(cfg, train))
    test = build_dataset(cfg, "test_dataloader.dataset")
    batch = gathered(test)
    seen, asked = (encode(encoder, part[key]) for part in (known, batch))
    own = known["targets"] >= 0
    logits = logistic(seen[own], known["targets"][own], asked, c, standardise=True)
    predictions = [{"logits": logits, "targets": batch["targets"]}]
    return scored(cfg, test, [(batch, predictions)])


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
    batch = gathered(test)
    inputs = batch[key].flatten(1).double()
    if unit:
        inputs = nn.functional.normalize(inputs)
    cluster = require("sklearn.cluster", _EXTRA)
    means = cluster.KMeans(clusters, n_init=restarts, random_state=seed)
    found = torch.from_numpy(means.fit_predict(inputs.numpy())).long()
    logits = nn.functional.one_hot(found, clusters).float()
    predictions = [{"logits": logits, "targets": batch["targets"]}]
    return scored(cfg, test, [(batch, predictions)])


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
    labelled = ROOT_DATASETS.build(dict(entry(cfg, train), pipeline=pipeline))
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
    return scored(cfg, test, answers)


def proportions(
    cfg: Config, seed: int, train: str = "train_dataloader.dataset", c: float = 1.0
) -> dict:
    """Logistic regression on the input, each instance with the share of its bag.

    An instance of a bag with three ones of ten counts 0.3 as a one and 0.7 as a zero.

    Args:
        cfg: See :func:`raw_input`; a training sample is a bag, ``inputs`` B x ... and
            ``sums``, its ones.
        seed: Not used.
        train: See :func:`raw_input`.
        c: See :func:`raw_input`.
    """
    bags = gathered(build_dataset(cfg, train))
    size = bags["inputs"].shape[1]
    inputs = bags["inputs"].flatten(0, 1).flatten(1)
    share = (bags["sums"] / size).repeat_interleave(size)
    reader = fitted(
        torch.cat([inputs, inputs]),
        torch.arange(2).repeat_interleave(len(inputs)),
        c,
        weights=torch.cat([1 - share, share]),
    )
    test = build_dataset(cfg, "test_dataloader.dataset")
    batch = gathered(test)
    logits = reader(batch["inputs"].flatten(1))
    return scored(
        cfg, test, [(batch, [{"logits": logits, "targets": batch["targets"]}])]
    )


def gaussian(
    cfg: Config, seed: int, train: str = "train_dataloader.dataset", key: str = "inputs"
) -> dict:
    """Draws of one Gaussian with the training data's mean and covariance.

    Args:
        cfg: See :func:`raw_input`; the evaluator compares ``samples`` and
            ``references``.
        seed: Of the draws, as many as there are test samples.
        train: Where the training data set stands.
        key: Name of the input in a sample.
    """
    known = gathered(build_dataset(cfg, train))[key].flatten(1).double()
    spread, axes = torch.linalg.eigh(
        torch.cov(known.T, correction=0).view(2 * known.shape[1:])
    )
    test = build_dataset(cfg, "test_dataloader.dataset")
    batch = gathered(test)
    dice = torch.Generator().manual_seed(seed)
    noise = torch.randn(len(test), len(spread), generator=dice).double()
    samples = known.mean(0) + noise * spread.clamp(min=0).sqrt() @ axes.T
    found = {"samples": samples.float().view_as(batch[key]), "references": batch[key]}
    return scored(cfg, test, [(batch, [found])])


def nearest_picture(
    cfg: Config, seed: int, train: str = "train_dataloader.dataset", channels: int = 3
) -> dict:
    """The training picture of the nearest camera, and of those the nearest time.

    The mean of the pictures that are equally near.

    Args:
        cfg: See :func:`raw_input`; a sample has ``inputs`` C x H x W, ``camera`` and
            ``time``; the evaluator compares ``samples`` and ``references``.
        seed: Not used.
        train: Where the training pictures stand.
        channels: Of a picture, that are compared.
    """
    known = gathered(build_dataset(cfg, train))
    test = build_dataset(cfg, "test_dataloader.dataset")
    batch = gathered(test)
    near = torch.ones(len(test), len(known["time"]), dtype=torch.bool)
    for key in ("camera", "time"):
        places = (
            part[key].double().view(len(part[key]), -1) for part in (batch, known)
        )
        gaps = torch.cdist(*places).masked_fill(~near, torch.inf)
        near = gaps <= gaps.min(1, keepdim=True).values + 1e-5
    weights = near / near.sum(1, keepdim=True)
    pictures = torch.einsum("mn,n...->m...", weights, known["inputs"][:, :channels])
    found = {"samples": pictures, "references": batch["inputs"][:, :channels]}
    return scored(cfg, test, [(batch, [{**batch, **found}])])


def counted(
    cfg: Config, seed: int, size: int, before: int = 1,
    train: str = "train_dataloader.dataset",
) -> dict:  # fmt: skip
    """A table of counts, as the config's model judges its student.

    Args:
        cfg: See :func:`raw_input`; the model has a ``student``, ids -> logits.
        seed: Not used.
        size: Words of the vocabulary.
        before: Words before a word that count [1].
        train: Where the texts stand.
    """
    known = gathered(build_dataset(cfg, train))
    test = build_dataset(cfg, "test_dataloader.dataset")
    batch = gathered(test)
    with own_randomness(seed, _STREAM), torch.no_grad():
        model = MODELS.build(cfg.model).eval()
        model.student = Counted(known["input_ids"], size, before)
        answers = model.test_step(batch)
    return scored(cfg, test, [(batch, answers)])


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
    batch = gathered(test)
    small = nn.functional.avg_pool2d(batch[key], scale)
    size = batch[key].shape[-2:]
    samples = nn.functional.interpolate(small, size, mode="bicubic").clamp(0, 1)
    found = {"samples": samples, "references": batch[key]}
    return scored(cfg, test, [(batch, [found])])


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
    return scored(cfg, test, [({}, [{"texts": texts}])])


def one_answer(
    cfg: Config, seed: int, prompt: int, train: str = "train_dataloader.dataset"
) -> dict:
    """What the ranker puts first of all training texts, said behind every prompt.

    Args:
        cfg: See :func:`raw_input`; ``model.ranker`` orders texts and judges them, and
            the evaluator reads ``judged``.
        seed: Of the ranker's mistakes.
        prompt: Words of a prompt; what follows is the answer.
        train: Where the texts stand.
    """
    known = gathered(build_dataset(cfg, train))["input_ids"]
    test = build_dataset(cfg, "test_dataloader.dataset")
    batch = gathered(test)
    with own_randomness(seed, _STREAM):
        ranker = MODELS.build(cfg.model.ranker)
        best = known[ranker(known, known[:0, None])[0]]
    texts = torch.where(torch.arange(len(best)) < prompt, batch["input_ids"], best)
    return scored(cfg, test, [(batch, [{"judged": ranker.judge(texts)}])])


BASELINES: dict[str, Callable[..., dict]] = {
    function.__name__: function
    for function in (
        raw_input, nearest, bag_of_words, raw_features, untrained, random_weights,
        kmeans, pixelwise, proportions, gaussian, nearest_picture, counted, bicubic,
        repeated, one_answer,
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
