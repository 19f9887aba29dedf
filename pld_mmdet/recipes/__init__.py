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

# Arguments of an optimizer's wrapper, not of the optimizer
WRAPPER = ("clip_grad", "paramwise_cfg", "constructor", "accumulative_counts")


def loader(
    dataset: dict,
    batch: int,
    *,
    train: bool = False,
    seeded: bool = False,
    workers: int = 0,
    epochs: bool = False,
    sampler: dict | None = None,
    persistent: bool = True,
) -> dict:
    """A data loader of a method outside detection: dicts of stacked tensors.

    Args:
        dataset: Config of the data set.
        batch: Samples of a batch.
        train: Shuffled by the seed, and resumed where it stopped [in order].
        seeded: The data set draws (crops, flips): each sample's draws follow the seed.
        workers: Loading processes.
        epochs: The training loop counts epochs, so a pass ends [it counts iterations].
        sampler: Config of another sampler, in the place of ``train`` and ``epochs``.
        persistent: The processes live on when a pass is over.

    Returns:
        A loader's config.
    """
    if seeded:
        dataset = dict(type="pld_mmdet.SeededDataset", dataset=dataset)
    order = dict(type="DefaultSampler", shuffle=False)
    if train:
        order = dict(
            type="pld_mmdet.ResumableSampler", shuffle=True, infinite=not epochs
        )
    made = dict(
        batch_size=batch,
        num_workers=workers,
        sampler=sampler or order,
        collate_fn=dict(type="default_collate"),
        dataset=dataset,
    )
    if workers and persistent:
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


def from_each(batch: int, *shares: int, **more) -> dict:
    """A sampler whose batches hold so much of each part of a concatenated data set.

    Args:
        batch: Samples of a batch.
        shares: Of the parts, in their order: ``1, 3`` is a quarter and the rest.
        more: ``_delete_=True`` where a base has another sampler.
    """
    kind = dict(type="pld_mmdet.SemiSampler", batch_size=batch, by_aspect=False)
    return {**kind, "source_ratio": list(shares), **more}


def in_turn(batch: int, every: int, **more) -> dict:
    """A sampler of batches of one part each: ``every`` passes over the first part, then
    one over the second.

    Args:
        batch: Samples of a batch.
        every: Passes.
        more: As in :func:`from_each`.
    """
    return dict(type="pld_mmdet.InTurnSampler", batch_size=batch, every=every, **more)


def optimizer(
    kind: str,
    lr: float,
    *,
    clip: float | None = None,
    half: bool | str = False,
    spare_norms: bool = False,
    **more,
) -> dict:
    """An optimizer that skips and counts steps whose gradients are not finite.

    Args:
        kind: Name of torch's class, such as ``Adam``.
        lr: Its rate.
        clip: Longest norm of the gradient [any].
        half: Forward in half precision; a word names the type, such as ``bfloat16``.
        spare_norms: Norms and biases are not decayed; parameters stand in few groups.
        more: Its other arguments; what :data:`WRAPPER` names goes to the wrapper.
    """
    wrapper = {k: more.pop(k) for k in WRAPPER if k in more}
    if clip is not None:
        wrapper["clip_grad"] = dict(max_norm=clip)
    if spare_norms:
        wrapper["constructor"] = "pld_mmdet.MergedGroups"
        wrapper["paramwise_cfg"] = dict(norm_decay_mult=0.0, bias_decay_mult=0.0)
    if isinstance(half, str):
        wrapper["dtype"] = half
    name = f"pld_mmdet.Finite{'Amp' * bool(half)}OptimWrapper"
    return dict(type=name, optimizer=dict(type=kind, lr=lr, **more), **wrapper)


def parts(**optimizers: dict) -> dict:
    """An optimizer for each part of a model, all of which skip what is not finite.

    Args:
        optimizers: Of a part: ``optimizer``, and what its wrapper takes.
    """
    return dict(
        constructor="pld_mmdet.PartsOptimConstructor",
        type="pld_mmdet.FiniteOptimWrapper",
        **optimizers,
    )


def warm_up(start: float, end: int, **more) -> dict:
    """The rate rises from a share of itself.

    Args:
        start: The share at first.
        end: Iteration from which on it is whole.
        more: Other arguments of ``LinearLR``.
    """
    return dict(type="LinearLR", start_factor=start, by_epoch=False, end=end, **more)


def drops(*milestones: int, gamma: float = 0.1) -> dict:
    """The rate is multiplied now and then.

    Args:
        milestones: Iterations.
        gamma: By what.
    """
    return dict(
        type="MultiStepLR", by_epoch=False, milestones=list(milestones), gamma=gamma
    )


def cosine(**more) -> dict:
    """The rate falls along a cosine of iterations.

    Args:
        more: Arguments of ``CosineAnnealingLR`` [over the whole run].
    """
    return dict(type="CosineAnnealingLR", by_epoch=False, **more)


def poly(power: float, **more) -> dict:
    """The rate falls to 0 along a power of what is left.

    Args:
        power: The power; 1 is a straight line.
        more: Other arguments of ``PolyLR``.
    """
    return dict(type="PolyLR", power=power, eta_min=0.0, by_epoch=False, **more)


def rise_and_fall(end: int) -> list[dict]:
    """The rate rises from next to nothing, then falls to 0 along a line.

    Args:
        end: Iteration at which it is whole.
    """
    return [warm_up(1e-4, end), poly(1.0, begin=end)]


def iterations(count: int, val_interval: int | None = None) -> dict:
    """A loop of so many iterations, evaluated on val now and then [at the end].

    Args:
        count: Iterations.
        val_interval: Between two evaluations.
    """
    return dict(
        type="IterBasedTrainLoop", max_iters=count, val_interval=val_interval or count
    )


def stage(
    name: str,
    steps: int,
    *,
    data: dict | None = None,
    work: dict | None = None,
    optim: dict | None = None,
    schedule: list | None = None,
    **more,
) -> dict:
    """A stage of ``StagedLoop``; what it does not say is the config's.

    Args:
        name: The method learns by ``loss_<name>`` in it.
        steps: Its iterations.
        data: Loader of its batches.
        work: Loader of what is done before the first of them.
        optim: Its optimizer.
        schedule: Its schedulers.
        more: Other entries of a stage.
    """
    own = dict(
        dataloader=data,
        work_dataloader=work,
        optim_wrapper=optim,
        param_scheduler=schedule,
    )
    said = {key: value for key, value in own.items() if value is not None}
    return dict(name=name, max_iters=steps, **said, **more)


def staged(*stages: dict, **more) -> dict:
    """A loop of stages, each with its data, optimizer and work.

    Args:
        stages: One after the other.
        more: Other arguments of ``StagedLoop``.
    """
    return dict(type="pld_mmdet.StagedLoop", stages=list(stages), **more)
