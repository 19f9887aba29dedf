"""Samples of rows side by side: which are drawn, how they look, what is missing."""

import numpy as np
import pytest
import torch
from PIL import Image

from pld_mmdet.diffusion.scores.pictures import images, points, tokens
from pld_mmdet.engine.hooks import KeptSamplesHook
from pld_mmdet.errors import UserError
from pld_mmdet.experiments.panels import draw_pictures

DRAW = dict(draw="pld_mmdet.diffusion.scores.pictures.points")


class Runner:
    def __init__(self, folder):
        self.work_dir = str(folder)


def keep(folder, values):
    """What a test of a row leaves behind."""
    folder.mkdir(parents=True)
    hook, runner = KeptSamplesHook(count=3), Runner(folder)
    hook.before_test(runner)
    for value in values:
        answer = dict(samples=torch.full((2, 2), value), references=torch.zeros(2, 2))
        hook.after_test_iter(runner, 0, outputs=[answer])
    hook.after_test(runner)
    return folder / "samples.npz"


def test_a_few_samples_are_kept(tmp_path):
    with np.load(keep(tmp_path / "test_test", [0.25, 0.5, 0.75])) as found:
        assert found["samples"][:, 0].tolist() == [0.25, 0.25, 0.5]
        assert found["references"].shape == (3, 2)
    assert not keep(tmp_path / "none", []).exists()


def test_rows_stand_side_by_side(tmp_path):
    keep(tmp_path / "seed_7" / "plain" / "test_test", [0.25])
    keep(tmp_path / "seed_7" / "ours" / "test_test", [0.5])
    rows = [("plain", "Plain"), ("ours", "Ours"), ("late", "Too late")]
    file = tmp_path / "pictures.png"
    assert draw_pictures(DRAW, rows, tmp_path, 7, file) == ["Too late"]
    three = Image.open(file).size  # the data and two rows
    some = dict(DRAW, rows=["ours"], reach=1.0)
    assert draw_pictures(some, rows, tmp_path, 7, file) == []
    assert Image.open(file).size[0] < three[0]
    nothing = tmp_path / "nothing.png"
    assert draw_pictures(DRAW, rows[2:], tmp_path, 7, nothing) == ["Too late"]
    assert not nothing.exists()
    with pytest.raises(UserError, match=r"no 'pld_mmdet\.nowhere'"):
        draw_pictures(dict(draw="pld_mmdet.nowhere"), rows, tmp_path, 7, file)


def test_panels_by_hand():
    dots = points(np.array([[0.6, 0.6], [0.6, 0.6], [9.0, 0.0]]), reach=1.0, side=2)
    assert (dots[0, 1] < dots[1, 1]).all() or dots[0, 1].sum() < dots[1, 1].sum()
    assert dots[1, 0].tolist() == dots[0, 0].tolist() == [255, 255, 255]
    lines = tokens(np.array([[0, 1], [1, 1], [2, 2]]), count=2, pixels=3)
    assert lines.shape == (6, 6, 3)
    assert lines[0, 0].tolist() == [0, 114, 178]
    assert lines[5, 0].tolist() == lines[0, 5].tolist() == [230, 159, 0]
    grey = np.stack([np.full((1, 2, 2), v) for v in (0.0, 0.4, 2.0)])
    grid = images(grey, which=(1, 2, 7), columns=2)
    assert grid.shape == (3, 6, 3)
    assert grid[0, 0].tolist() == [102] * 3
    assert grid[0, 3].tolist() == [255] * 3
