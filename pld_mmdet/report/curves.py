"""Scalars that a training wrote, as series over iterations."""

from pathlib import Path

from pld_mmdet.reading import read_json_lines

Series = list[tuple[float, float]]


def read_scalars(work_dir: Path) -> dict[str, Series]:
    """Every scalar of a training run, sorted by step.

    Args:
        work_dir: Work directory; its ``<timestamp>/vis_data/scalars.json`` files hold
            one json object a line. A resumed run has several: where they overlap, the
            later one counts.

    Returns:
        Name -> list of (step, value); non-finite values are left out.
    """
    table: dict[str, dict[float, float]] = {}
    for file in sorted(work_dir.glob("*/vis_data/scalars.json")):
        for row in read_json_lines(file, dict, nan=True):
            step = row.get("step", row.get("iter"))
            if not isinstance(step, int | float):
                continue
            for key, value in row.items():
                if key in ("step", "iter", "epoch") or not _finite(value):
                    continue
                table.setdefault(key, {})[step] = float(value)
    return {key: sorted(points.items()) for key, points in table.items()}


def smooth(series: Series, points: int = 60) -> Series:
    """Means over equal groups, so that a curve has at most ``points`` points."""
    if len(series) <= points:
        return series
    size = -(-len(series) // points)
    groups = [series[i : i + size] for i in range(0, len(series), size)]
    return [
        (group[-1][0], sum(value for _, value in group) / len(group))
        for group in groups
    ]


def _finite(value: object) -> bool:
    return (
        isinstance(value, int | float)
        and not isinstance(value, bool)
        and abs(value) < float("inf")
    )
