"""Mixed precision for every optimizer that a config has, stage by stage."""

from collections.abc import Iterator

from pld_mmdet.errors import UserError

DTYPES = {"fp16": "float16", "bf16": "bfloat16"}
_OURS = "FiniteAmpOptimWrapper"
_KNOWN = ("OptimWrapper", "FiniteOptimWrapper", "AmpOptimWrapper", _OURS)


def use_amp(cfg, kind: str) -> None:
    """Switch all optimizer wrappers of a config to mixed precision, in place.

    Those are ``optim_wrapper``, that of each stage of ``train_cfg.stages``, and the
    parts of either, where it has one optimizer a part of the model.

    Args:
        cfg: The config.
        kind: ``'fp16'`` or ``'bf16'``.

    Raises:
        UserError: A wrapper is of a foreign type, or fp16 has no GPU.
    """
    for where, wrapper in _wrappers(cfg):
        name = wrapper.get("type", "OptimWrapper")
        if name.removeprefix("pld_mmdet.") not in _KNOWN:
            raise UserError(
                f"--amp cannot change {where}.type='{name}' of this config.",
                "Set the mixed precision of that wrapper in the config itself.",
            )
        wrapper["type"] = f"pld_mmdet.{_OURS}"
        wrapper["dtype"] = DTYPES[kind]
    check_amp(cfg)


def check_amp(cfg) -> None:
    """Refuse fp16 without a GPU before anything is built.

    Raises:
        UserError: Names the wrapper that wants it.
    """
    from mmengine.device import get_device

    if get_device() != "cpu":
        return
    for where, wrapper in _wrappers(cfg):
        name = wrapper.get("type", "OptimWrapper").rpartition(".")[2]
        if "AmpOptimWrapper" in name and wrapper.get("dtype") != "bfloat16":
            raise UserError(
                f"{where}: mixed precision in {wrapper.get('dtype') or 'float16'} "
                "needs a GPU, and none is visible.",
                "Use --amp bf16, or leave --amp out.",
            )


def _wrappers(cfg) -> Iterator[tuple[str, dict]]:
    """All wrapper configs and where they stand."""
    found = [("optim_wrapper", cfg.get("optim_wrapper"))]
    for stage in (cfg.get("train_cfg") or {}).get("stages", []):
        where = f"train_cfg.stages, {stage.get('name')}: optim_wrapper"
        found.append((where, stage.get("optim_wrapper")))
    for where, wrapper in found:
        if wrapper is None:
            continue
        yield where, wrapper
        for key, part in wrapper.items():
            # a part without a type takes the shared one
            if isinstance(part, dict) and {"optimizer", "type"} <= part.keys():
                yield f"{where}.{key}", part
