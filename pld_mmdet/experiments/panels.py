"""Samples of an experiment's rows side by side, in one picture.

An experiment names how its samples look::

    pictures=dict(draw='pld_mmdet.diffusion.scores.pictures.points', label='test', ...)

``label`` is one of the rows' evaluations; in its folder ``KeptSamplesHook`` has left
samples.npz. ``draw`` turns N x ... samples into one panel, uint8 [H, W, 3]; the other
entries are its arguments. ``rows`` and ``seed`` choose [all; the first].
"""

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from pld_mmdet.engine.hooks.kept_samples import FILE
from pld_mmdet.engine.state.files import write_atomic
from pld_mmdet.errors import UserError

SIDE, GAP, LINE = 220, 8, 16
COLUMNS = 4


def draw_pictures(
    pictures: dict, rows: Sequence[tuple[str, str]], out: Path, seed: int, file: Path
) -> list[str]:
    """Write the picture of an experiment.

    Args:
        pictures: The experiment's entry.
        rows: Name and title of each row.
        out: Folder of the runs.
        seed: Whose samples are shown.
        file: A png.

    Returns:
        Titles of rows that have no samples; where all are missing, no file is written.

    Raises:
        UserError: ``draw`` names no function.
    """
    how = dict(pictures)
    function, label = _function(how.pop("draw")), how.pop("label", "test")
    wanted = how.pop("rows", None)
    panels, missing = [], []
    for name, title in rows:
        if wanted and name not in wanted:
            continue
        found = out / f"seed_{seed}" / name / f"test_{label}" / FILE
        if not found.is_file():
            missing.append(title)
            continue
        with np.load(found) as arrays:
            if not panels and "references" in arrays:
                panels.append(("The data", function(arrays["references"], **how)))
            panels.append((title, function(arrays["samples"], **how)))
    if panels:
        picture = montage(panels)
        write_atomic(file, lambda stream: picture.save(stream, format="png"))
    return missing


def montage(panels: Sequence[tuple[str, np.ndarray]]) -> Image.Image:
    """Titles above panels, at most four in a line."""
    columns = min(len(panels), COLUMNS)
    lines = -(-len(panels) // columns)
    cell = SIDE + GAP, SIDE + GAP + LINE
    size = columns * cell[0] + GAP, lines * cell[1] + GAP
    picture = Image.new("RGB", size, "white")
    pen = ImageDraw.Draw(picture)
    for number, (title, panel) in enumerate(panels):
        x = GAP + number % columns * cell[0]
        y = GAP + number // columns * cell[1]
        pen.text((x, y), title, fill="black")
        shown = Image.fromarray(panel)
        scale = SIDE / max(shown.size)
        wide, high = (max(round(length * scale), 1) for length in shown.size)
        shown = shown.resize((wide, high), Image.Resampling.NEAREST)
        picture.paste(shown, (x, y + LINE))
    return picture


def _function(path: str):
    module, _, name = path.rpartition(".")
    try:
        return getattr(import_module(module), name)
    except (ImportError, AttributeError, ValueError):
        raise UserError(
            f"experiment.pictures.draw: there is no {path!r}.",
            "Name a function by its module, as "
            "pld_mmdet.diffusion.scores.pictures.points.",
        ) from None
