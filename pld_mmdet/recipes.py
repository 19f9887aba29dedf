"""What configs write again and again, as functions that return plain dicts.

A config may call them as long as ``_base_`` is its first statement (mmengine takes a
file that begins with an import for its other config style)::

    _base_ = "../_base_/toy_runtime.py"
    from pld_mmdet.recipes import loaders

    train_dataloader, val_dataloader, test_dataloader = loaders(
        dict(type="pld_mmdet.Digits"),
        64,
        train=dict(part="train"),
        val=dict(part="val"),
        test=dict(part="test"),
    )
"""


def loader(
    dataset: dict,
    batch: int,
    *,
    train: bool,
    seeded: bool = False,
    workers: int = 0,
    epochs: bool = False,
) -> dict:
    """A data loader of a method outside detection: dicts of stacked tensors.

    Args:
        dataset: Config of the data set.
        batch: Samples of a batch.
        train: Shuffled by the seed, and resumed where it stopped; else in order.
        seeded: The data set draws (crops, flips): each sample's draws follow the seed.
        workers: Loading processes.
        epochs: The training loop counts epochs, so a pass ends [it counts iterations].

    Returns:
        A loader's config.
    """
    if seeded:
        dataset = dict(type="pld_mmdet.SeededDataset", dataset=dataset)
    sampler = dict(type="DefaultSampler", shuffle=False)
    if train:
        sampler = dict(
            type="pld_mmdet.ResumableSampler", shuffle=True, infinite=not epochs
        )
    made = dict(
        batch_size=batch,
        num_workers=workers,
        sampler=sampler,
        collate_fn=dict(type="default_collate"),
        dataset=dataset,
    )
    if workers:
        made["persistent_workers"] = True
    return made


def loaders(
    dataset: dict,
    batch: int,
    *,
    train: dict,
    val: dict | None = None,
    test: dict | None = None,
    eval_batch: int = 360,
    seeded: bool = False,
    workers: int = 0,
    epochs: bool = False,
) -> tuple[dict | None, ...]:
    """Loaders of the parts of one data set.

    Args:
        dataset: What the parts have in common.
        batch: Samples of a training batch.
        train: What the training part adds or changes.
        val: The same of the part that choices are made on [none].
        test: The same of the part that numbers come from [none].
        eval_batch: Samples of a batch of val and test.
        seeded: As in :func:`loader`, for the training part.
        workers: As in :func:`loader`.
        epochs: As in :func:`loader`.

    Returns:
        ``train_dataloader, val_dataloader, test_dataloader``; None for a missing part.
    """
    parts: list[dict | None] = [
        loader(
            {**dataset, **train},
            batch,
            train=True,
            seeded=seeded,
            workers=workers,
            epochs=epochs,
        )
    ]
    for part in (val, test):
        made = None
        if part is not None:
            made = loader({**dataset, **part}, eval_batch, train=False, workers=workers)
        parts.append(made)
    return tuple(parts)


def optimizer(kind: str, lr: float, **more) -> dict:
    """An optimizer that skips and counts steps whose gradients are not finite.

    Args:
        kind: Name of torch's class, such as ``Adam``.
        lr: Its rate.
        more: Its other arguments; ``clip_grad`` and ``paramwise_cfg`` go to the
            wrapper.
    """
    wrapper = {k: more.pop(k) for k in ("clip_grad", "paramwise_cfg") if k in more}
    inner = dict(type=kind, lr=lr, **more)
    return dict(type="pld_mmdet.FiniteOptimWrapper", optimizer=inner, **wrapper)


def iterations(count: int, val_interval: int | None = None) -> dict:
    """A loop of so many iterations, evaluated on val now and then [at the end].

    Args:
        count: Iterations.
        val_interval: Between two evaluations.
    """
    return dict(
        type="IterBasedTrainLoop", max_iters=count, val_interval=val_interval or count
    )


def row(name: str, title: str, *options: str, **more) -> dict:
    """A row of a table of results (``pld_mmdet.experiments.rows``).

    Args:
        name: Of its folder; its config is ``configs/<stem>/<name>.py`` where that
            exists, else the one that carries the table.
        title: What the table calls it.
        options: ``KEY=VALUE`` of its training.
        more: Other entries of a row (``init``, ``evaluate``, ``config``, ...).
    """
    return dict(name=name, title=title, options=list(options), **more)


def raw_pixels(*options: str, of: str = "", **more) -> dict:
    """The trivial row of an image classifier: pixels and a logistic regression.

    Args:
        options: As in :func:`row`; with them it sees the labels that the others see.
        of: What it sees, for the title.
        more: Further entries of the baseline.
    """
    title = f"Raw pixels{' of ' * bool(of)}{of}, logistic regression"
    baseline = dict(type="raw_input", c=0.1, **more)
    return row("raw_pixels", title, *options, baseline=baseline)


def pixelwise(**more) -> dict:
    """The trivial row of segmentation: a pixel's colour and place, no network.

    Args:
        more: Arguments of the baseline: where the labelled scenes stand.
    """
    baseline = dict(type="pixelwise", **more)
    title = "Colour and place of a pixel, logistic regression"
    return row("pixelwise", title, baseline=baseline)


def crops(**which) -> dict:
    """Training crops of StreetCrops.

    Args:
        which: How many are labelled, from which draw, in which fog.
    """
    place = dict(part="train", data_root="data/street_crops")
    return dict(type="pld_mmdet.StreetCrops", **place, **which)


def crop_network(*widths: int) -> dict:
    """A convolutional network for StreetCrops' eight classes.

    Args:
        widths: Channels of its layers.
    """
    return dict(
        type="pld_mmdet.SmallConvNet", in_channels=3, widths=widths, num_classes=8
    )


# Columns of a classifier's table
ACCURACIES = {
    "accuracy": ("test", "accuracy"),
    "class-balanced": ("test", "balanced_accuracy"),
}
