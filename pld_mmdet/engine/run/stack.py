"""Which mm* distributions are installed, and the line that mends a wrong mixture."""

from importlib import metadata

from pld_mmdet.errors import UserError
from pld_mmdet.quiet import quiet_imports

# one module, two distributions: the maintained continuation and the original
_PAIRS = {
    "mmengine": "onedl-mmengine",
    "mmcv": "onedl-mmcv",
    "mmdet": "onedl-mmdetection",
}


def installed(name: str) -> str | None:
    """Version of a distribution, or None."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def check_stack() -> str:
    """Look for one whole line of mmengine, mmcv and mmdet without importing them.

    Returns:
        ``onedl`` or ``upstream``.

    Raises:
        UserError: If the stack is missing, incomplete or mixed.
    """
    upstream = {module: installed(module) for module in _PAIRS}
    onedl = {module: installed(name) for module, name in _PAIRS.items()}
    both = [m for m in _PAIRS if upstream[m] and onedl[m]]
    if both:
        # the uninstall removes files that the two share: what stays is put back
        names = " ".join(both)
        stay = " ".join(f"{_PAIRS[m]}=={onedl[m]}" for m in both)
        raise UserError(
            f"{names} and {' '.join(_PAIRS[m] for m in both)} are both installed: they "
            "overwrite each other's files.",
            f"pip uninstall -y {names} && pip install --force-reinstall --no-deps "
            f"--no-build-isolation {stay}",
        )
    if all(onedl.values()):
        return "onedl"
    if all(upstream.values()):
        return "upstream"
    use_upstream = sum(map(bool, upstream.values())) > sum(map(bool, onedl.values()))
    wanted, other = (upstream, onedl) if use_upstream else (onedl, upstream)
    missing = [m for m in _PAIRS if not wanted[m]]
    foreign = [m if other is upstream else _PAIRS[m] for m in _PAIRS if other[m]]
    extra = "upstream" if use_upstream else "onedl"
    if foreign:
        raise UserError(
            f"The two lines of the OpenMMLab stack are mixed: {', '.join(foreign)} "
            f"does not belong to the {extra} line.",
            f"pip uninstall -y {' '.join(foreign)} && pip install "
            f"--no-build-isolation 'pld-mmdet[{extra}]'",
        )
    raise UserError(
        f"Not installed: {', '.join(missing)} (the detection stack comes as an extra).",
        f"pip install --no-build-isolation 'pld-mmdet[{extra}]'",
    )


def import_mmdet() -> None:
    """Import mmdet's data sets without the line it prints, and register its modules."""
    with quiet_imports():
        from mmdet.utils import register_all_modules

        register_all_modules(init_default_scope=False)
