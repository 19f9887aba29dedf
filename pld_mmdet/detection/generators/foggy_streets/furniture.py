"""Street furniture: trees, poles, signs, bins. Not labelled, but it hides things."""

import numpy as np

from pld_mmdet.detection.generators.foggy_streets.camera import Pose
from pld_mmdet.detection.generators.foggy_streets.canvas import Canvas

POLE, TRAFFIC_SIGN, VEGETATION, STATIC = 17, 20, 21, 4


def draw_tree(canvas: Canvas, pose: Pose, rng: np.random.Generator) -> int:
    """A trunk and a crown of overlapping leaves; returns its Cityscapes label id."""
    trunk = rng.uniform(2.0, 3.0)
    crown = rng.uniform(1.4, 2.4)
    canvas.limb((0, 0, 0), (0, 0, trunk + 0.5), (0.36, 0.24), (48, 62, 78))
    green = np.array([45, 105, 75]) * rng.uniform(0.6, 1.25, 3)
    spread = rng.normal(0, 0.42, (26, 2)) * crown
    bright = np.clip(
        0.75 + spread[:, 1] / crown * 0.3 + rng.normal(0, 0.12, 26), 0.4, 1.4
    )
    for (across, up), tone in zip(spread, bright, strict=True):
        size = crown * rng.uniform(0.22, 0.42)
        canvas.disc(
            (0, across, trunk + crown * 0.8 + up * 0.75),
            (size, size * 0.85),
            tuple(green * tone),
        )
    return VEGETATION


def draw_pole(canvas: Canvas, pose: Pose, rng: np.random.Generator) -> int:
    """A lamp post, a traffic light or a traffic sign."""
    grey = tuple([rng.uniform(70, 140)] * 3)
    kind = rng.integers(3)
    if kind == 0:
        side = -np.sign(pose.x) or 1.0
        canvas.limb((0, 0, 0), (0, 0, 6.5), (0.16, 0.1), grey)
        canvas.limb((0, 0, 6.5), (0, side * 1.5, 6.8), (0.1, 0.08), grey)
        canvas.limb(
            (0, side * 1.2, 6.8), (0, side * 1.8, 6.85), (0.16, 0.2), (190, 190, 190)
        )
        return POLE
    if kind == 1:
        canvas.limb((0, 0, 0), (0, 0, 2.9), (0.12, 0.12), grey)
        canvas.limb((0, 0, 2.3), (0, 0, 3.2), (0.32, 0.32), (40, 42, 40))
        lit = rng.integers(3)
        for index, colour in enumerate(((60, 60, 230), (60, 190, 240), (90, 210, 80))):
            tone = colour if index == lit else tuple(c * 0.3 for c in colour)
            canvas.disc((0, 0, 3.05 - 0.3 * index), (0.1, 0.1), tone)
        return POLE
    canvas.limb((0, 0, 0), (0, 0, 2.6), (0.09, 0.09), grey)
    red, blue = (45, 40, 200), (170, 90, 30)
    face = (red, (230, 230, 230)) if rng.random() < 0.6 else (blue, blue)
    canvas.disc((0, 0, 2.4), (0.33, 0.33), face[0])
    canvas.disc((0, 0, 2.4), (0.22, 0.22), face[1])
    return TRAFFIC_SIGN


def draw_bin(canvas: Canvas, pose: Pose, rng: np.random.Generator) -> int:
    """A bin, a bollard or a box at the kerb."""
    colour = tuple(rng.uniform(30, 120, 3))
    tall, wide = rng.uniform(0.7, 1.2), rng.uniform(0.18, 0.6)
    canvas.limb((0, 0, 0.05), (0, 0, tall), (wide, wide), colour)
    canvas.limb((0, 0, tall), (0, 0, tall + 0.08), (wide * 1.1, wide), (60, 60, 60))
    return STATIC
