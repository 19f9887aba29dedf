"""What configs of detectors on FoggyStreets write again and again, as plain data."""

from pld_mmdet.recipes import cosine, warm_up
from pld_mmdet.recipes.tables import row

CLEAR = "configs/source/foggy_streets.py"
FOG = "configs/source/foggy_streets_on_fog.py"
IMAGES = "data/foggy_streets/leftImg8bit_foggy/train/**/*beta_0.02.png"
# Options of `--quick`: of a run, and of one on a few scenes
SHORT = ("train_cfg.max_iters=12", "train_cfg.val_interval=12")
FEW = (*SHORT, "expected_counts=None")


def in_fog(data_root: str) -> tuple[dict, dict, dict, dict]:
    """The foggy scenes of FoggyStreets are scored.

    Args:
        data_root: Their folder.

    Returns:
        Changes of ``val_dataloader, test_dataloader, val_evaluator, test_evaluator``.
    """
    files = [f"annotations/{part}_foggy_beta_0.02.json" for part in ("val", "test")]
    return (
        *(dict(dataset=dict(ann_file=file)) for file in files),
        *(dict(ann_file=data_root + file) for file in files),
    )


def warmed_cosine(end: int, rise: int = 100) -> list[dict]:
    """The rate of the small detectors: it rises from 0.01, then a cosine takes it to 0.

    Args:
        end: Iterations of the run.
        rise: Those in which it rises.
    """
    fall = dict(begin=rise, end=end, T_max=end - rise, eta_min=0)
    return [warm_up(0.01, rise), cosine(**fall)]


def quick_streets(
    train: int, *, others: int = 0, per_seed: bool = False, **more
) -> dict:
    """How ``--quick`` tries an experiment on FoggyStreets: on a few scenes elsewhere.

    Args:
        train: Scenes to learn from.
        others: Further commands of ``data``.
        per_seed: There is a ``seed_data``.
        more: Other entries.
    """
    root = f"data/foggy_streets_quick_{train}"
    scenes = f"--train {train} --val 16 --test 16 --root {root}"
    made = dict(data_args=[scenes, *[f"--root {root}"] * others] if others else scenes)
    if per_seed:
        made["seed_data_args"] = f"--root {root}"
    return dict(made, data_root=("data/foggy_streets/", f"{root}/"), **more)


def two_sets(train: int = 48, **more) -> dict:
    """Of an experiment that learns from 3,200 images too: how both sets are made.

    Args:
        train: Scenes of a ``--quick`` look, the same for both.
        more: Other entries of :func:`quick_streets`.
    """
    quick, large = quick_streets(train, **more), "data/foggy_streets_3200"
    quick["data_args"] = [quick["data_args"]] * 2
    small = quick["data_root"]
    quick["data_root"] = [small, (f"{large}/", small[1])]
    make = "python tools/prepare.py foggy_streets"
    both = [make, f"{make} --root {large} --train 3200 --val 0 --test 0"]
    return dict(data=both, data_seconds=900, quick=quick)


def source_row(clear: bool = True, of: str = "", title: str = "", **more) -> dict:
    """The detector that adaptation starts from.

    Args:
        clear: It is scored on clear images too.
        of: Ending of its configs and its row, such as ``_cascade`` [Faster R-CNN].
        title: Its name, where the table has several.
        more: Other entries of a row.
    """
    config, fog = (
        f"configs/source/foggy_streets{of}{end}.py" for end in ("", "_on_fog")
    )
    place = dict(config=config, quick=list(SHORT))
    place["evaluate"] = dict(clear=config, fog=fog) if clear else dict(fog=fog)
    title = f"{title}, source only" if title else "Source only"
    return row(f"source{of}", title, **place | more)


def tool_row(name: str, title: str, words: str = "", of: str = "", **more) -> dict:
    """A detector that ``tools/adapt.py`` made from the source's.

    Args:
        name: Of the row.
        title: Likewise.
        words: What else the command says; ``--method`` above all.
        of: As in :func:`source_row`.
        more: Other entries of a row.
    """
    config, fog = (
        f"configs/source/foggy_streets{of}{end}.py" for end in ("", "_on_fog")
    )
    place = dict(
        config=config,
        init=f"source{of}",
        command=f"python tools/adapt.py {{config}} {{init}} '{IMAGES}' {words} "
        "--select last --seed {seed} --out {out}",
        checkpoint="adapted.pth",
        evaluate=dict(fog=fog),
        quick=["--iterations", "12", "--evaluations", "1"],
    )
    return row(name, title, **place | more)


def oracle_row() -> dict:
    """The same training, on foggy images with labels."""
    place = dict(config="configs/oracle/foggy_streets.py", evaluate=dict(fog=FOG))
    return row("oracle", "Oracle (foggy labels)", **place, quick=list(SHORT))


def adabn_row(fog: str | None = None) -> dict:
    """Batch-norm statistics of foggy images, and nothing else.

    Args:
        fog: The config that scores it [its own].
    """
    return row(
        "adabn",
        "AdaBN",
        config="configs/adabn/foggy_streets.py",
        init="source",
        evaluate=dict(fog=fog),
        quick=["train_cfg.num_images=16", "expected_counts=None"],
    )


def adapted_row(
    name: str, title: str, config: str, fog: str | None = None, **more
) -> dict:
    """A detector that learned fog from the source's.

    Args:
        name: Of the row.
        title: Likewise.
        config: Name of its config, such as ``lpld/foggy_streets``.
        fog: The config that scores it [its own].
        more: Other entries of a row.
    """
    place = dict(config=f"configs/{config}.py", init="source", evaluate=dict(fog=fog))
    return row(name, title, **place, quick=list(FEW), **more)
