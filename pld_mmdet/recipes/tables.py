"""What configs write into their tables, rows and walks, as plain data."""


def lengths(*iterations: int | None) -> list[str]:
    """Options: how long the stages are.

    Args:
        iterations: Of the first, the second, ...; None leaves a stage as it is.
    """
    return [
        f"train_cfg.stages.{place}.max_iters={count}"
        for place, count in enumerate(iterations)
        if count is not None
    ]


def in_parts(option: str, *parts: str) -> list[str]:
    """The same option of several loaders.

    Args:
        option: ``KEY=VALUE`` of a loader, such as ``dataset.size=4``.
        parts: Names of the loaders' parts [val, test].
    """
    return [f"{part}_dataloader.{option}" for part in parts or ("val", "test")]


def table(
    name: str,
    *rows: dict,
    metric: str = "accuracy",
    reported: str = "student of the last iteration",
    **more,
) -> dict:
    """An experiment: a table of results.

    Args:
        name: Of its file in ``docs/results``.
        rows: From top to bottom.
        metric: What is compared.
        reported: Which network is scored.
        more: Other entries of an experiment (``columns``, ``data``, ``gates``, ...).
    """
    return dict(name=name, rows=list(rows), metric=metric, reported=reported, **more)


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


def raw_pixels(
    *options: str, of: str = "", on: str = "", c: float | None = 0.1, **more
) -> dict:
    """The trivial row of an image classifier: pixels and a logistic regression.

    Args:
        options: As in :func:`row`; with them it sees the labels that the others see.
        of: What it sees, for the title.
        on: What it learns from, for the title.
        c: The inverse of its penalty [the baseline's own].
        more: Further entries of the baseline.
    """
    title = f"Raw pixels{' of ' * bool(of)}{of}, logistic regression"
    baseline = dict(type="raw_input", **more)
    if c is not None:
        baseline["c"] = c
    return row(
        "raw_pixels", title + f" on {on}" * bool(on), *options, baseline=baseline
    )


def on_test(*titles: str) -> dict[str, tuple[str, str]]:
    """Columns of a classifier's table, in this order.

    Args:
        titles: ``accuracy``, ``class-balanced``, ``ECE``, ``100 x NLL``.
    """
    metrics = {"class-balanced": "balanced_accuracy", "ECE": "ece", "100 x NLL": "nll"}
    return {title: ("test", metrics.get(title, title)) for title in titles}
