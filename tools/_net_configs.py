"""What every published config resolves to: the lines of tools/net.py --configs."""

from pathlib import Path

# Entries that a run, a table or a tool reads. The others are names that a config gives
# to its own parts: a lost or changed one is told, and is no difference.
_READ = """
auto_scale_lr custom_hooks custom_imports default_hooks default_scope env_cfg
expected_counts experiment fine_tune find_unused_parameters how_to_get
image_folder load_from log_level log_processor metainfo model model_wrapper_cfg
optim_wrapper param_scheduler randomness resume runner_type sync_bn test_cfg
test_dataloader test_evaluator test_pipeline train_cfg train_dataloader
train_pipeline val_cfg val_dataloader val_evaluator vis_backends visualizer walk
walk_data work_dir
"""
READ = frozenset(_READ.split())


def published(root: Path) -> list[str]:
    """Paths of the configs below a checkout: all but bases; their tables are."""
    files = sorted((root / "configs").rglob("*.py"))
    return [
        str(file.relative_to(root))
        for file in files
        if not file.name.startswith("_")
        and ("_base_" not in file.parts or "experiments" in file.parts)
    ]


def leaves(tree, name: str = "") -> dict[str, str]:
    """Values of nested dicts, lists and tuples by path, as text that keeps their type.

    A list's places stand in square brackets, a tuple's in round ones.
    """
    if isinstance(tree, dict) and tree:
        items = {f"{name}.{key}" if name else str(key): v for key, v in tree.items()}
    elif isinstance(tree, list) and tree:
        items = {f"{name}[{n}]": value for n, value in enumerate(tree)}
    elif isinstance(tree, tuple) and tree:
        items = {f"{name}({n})": value for n, value in enumerate(tree)}
    else:
        return {name: repr(tree)}
    return {k: v for key, value in items.items() for k, v in leaves(value, key).items()}


def resolve(root: Path, path: str) -> dict:
    """A config's values by path, or why it could not be read."""
    from mmengine.config import Config

    try:
        return leaves(Config.fromfile(root / path).to_dict())
    except Exception as error:
        return dict(failed=f"{type(error).__name__}: {error}")


def differences(before: dict, after: dict) -> tuple[list[str], list[str]]:
    """What makes two resolved configs unequal, and what is only worth telling."""
    if "failed" in before or "failed" in after:
        return [after.get("failed") or f"it was: {before['failed']}"], []
    found, told = [], set()
    for key in {**before, **after}:
        old, new = before.get(key), after.get(key)
        if old == new:
            continue
        entry = key.partition(".")[0].partition("[")[0].partition("(")[0]
        if entry in READ:
            found.append(f"{key} was {old}, is {new}")
        else:
            told.add(f"the name {entry}")
    return found, sorted(told)
