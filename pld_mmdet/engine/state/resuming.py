"""A run goes on with the recipe it began with; another one is refused, not mixed in."""

from fnmatch import fnmatch
from pathlib import Path

from mmengine.config import Config

from pld_mmdet.engine.config.data_files import read_dump
from pld_mmdet.engine.state.files import differences
from pld_mmdet.errors import UserError
from pld_mmdet.reading import read_state

# What may differ in a run that goes on: where, how far and how it is watched. All else
# would silently stay as it was (the checkpoint's learning rate and seed) or be mixed.
FREE = (
    "work_dir",
    "launcher",
    "resume",
    "load_from",
    "experiment_name",
    "experiment*",
    "walk*",
    "how_to_get*",
    "log_*",
    "visualizer*",
    "vis_backends*",
    "default_hooks*",
    "env_cfg*",
    "custom_imports*",
    "auto_scale_lr*",
    "val_*",
    "test_*",
    "train_cfg.max_iters",
    "train_cfg.max_epochs",
    "train_cfg.val_*",
    "*num_workers",
    "*persistent_workers",
    "*prefetch_factor",
    "*pin_memory",
    # other shares of the same step; SafeRunner says so when the step changes
    "train_dataloader.batch_size",
    "optim_wrapper.accumulative_counts",
)
# What --auto-scale-lr computes from the number of processes.
SCALED = ("optim_wrapper*", "param_scheduler*", "train_cfg*", "custom_hooks*")


def refuse_other_recipe(cfg: Config, processes: int) -> None:
    """Compare a config with the one that the run in its work dir began with.

    Args:
        cfg: Of the run that shall go on, as it would be run.
        processes: Training processes now.

    Raises:
        UserError: They differ in what makes the result. Names the differences.
    """
    folder = Path(cfg.work_dir)
    recorded = folder / "config.py"
    if not recorded.is_file():  # no RunRecordHook: nothing to compare with
        return
    free = FREE
    if read_state(folder / "run.json").get("processes", processes) != processes:
        free += SCALED
    before = read_dump(recorded).to_dict()
    other = [
        (place, old, new)
        for place, old, new in differences(before, cfg.to_dict())
        if not any(fnmatch(place, pattern) for pattern in free)
    ]
    if other:
        raise UserError(
            f"--resume would go on with another recipe than the run in {folder} began "
            f"with: {listed(other)}.",
            "Give the options of its beginning, or start a new run with another "
            "--work-dir (from its weights: --cfg-options load_from=CHECKPOINT).",
        )


def listed(found: list[tuple[str, object, object]], most: int = 6) -> str:
    """Differences in words: ``lr=0.2 (the run has 0.1)``."""
    parts = [
        f"{name}={_shown(new)} (the run has {_shown(old)})"
        for name, old, new in found[:most]
    ]
    more = len(found) - most
    return ", ".join(parts) + (f" and {more} more" if more > 0 else "")


def _shown(value: object) -> str:
    text = "nothing" if value is None else str(value)
    return text if len(text) <= 70 else text[:67] + "..."
