"""Buses and trams."""

from functools import partial

import numpy as np

from pld_mmdet.detection.generators.foggy_streets.camera import Pose
from pld_mmdet.detection.generators.foggy_streets.canvas import Canvas, Colour
from pld_mmdet.detection.generators.foggy_streets.solids import (
    GLASS,
    RED_LAMP,
    TRIM,
    WHITE_LAMP,
    Solid,
    pick_paint,
    quad,
    tone,
)

BUS_LENGTH, TRAIN_LENGTH = 11.0, 24.0

# BGR. Trams are light with a coloured waistband, buses have one strong colour: from
# far ahead their shapes alone could not be told apart.
BUS_PAINT = np.array(
    [[40, 180, 235], [50, 45, 190], [60, 120, 215], [170, 110, 40], [90, 160, 70]],
    float,
)
TRAM_PAINT = np.array([[215, 220, 220], [190, 215, 228], [228, 222, 210]], float)
TRAM_BAND = np.array(
    [[50, 50, 200], [60, 150, 70], [175, 90, 35], [40, 140, 235]], float
)
TRAM_HEIGHT = 3.5


def draw_bus(canvas: Canvas, pose: Pose, rng: np.random.Generator) -> None:
    """A city bus: one long box of glass with doors and a destination board."""
    paint = pick_paint(rng, BUS_PAINT)
    skirt = tone(paint, 0.7) if rng.random() < 0.5 else pick_paint(rng, BUS_PAINT)
    long, tall = BUS_LENGTH / 2, 3.05
    profile = [
        (-long, 0.35),
        (-long, tall - 0.1),
        (-long + 0.15, tall),
        (long - 0.2, tall),
        (long - 0.03, tall - 0.25),
        (long, 1.15),
        (long, 0.35),
    ]
    solid = Solid(
        canvas,
        pose,
        profile,
        1.26,
        [paint, paint, (200, 200, 200), paint, paint, paint, paint],
    )

    def rear(corners: np.ndarray) -> None:
        solid.on_edge(corners, (0.1, 0.9), (0.55, 0.88), GLASS)
        solid.on_edge(corners, (0.2, 0.8), (0.14, 0.4), tone(skirt, 0.7))
        solid.lamps(corners, (0.2, 0.32), True)
        solid.on_edge(corners, (0.0, 1.0), (0.0, 0.08), TRIM)
        solid.on_edge(corners, (0.35, 0.65), (0.9, 0.97), (50, 180, 240))

    def windscreen(corners: np.ndarray) -> None:
        solid.on_edge(corners, (0.04, 0.96), (0.02, 0.82), GLASS)
        solid.on_edge(corners, (0.12, 0.88), (0.84, 0.98), (30, 35, 35))
        solid.on_edge(corners, (0.25, 0.75), (0.87, 0.95), (50, 180, 240))

    def front(corners: np.ndarray) -> None:
        solid.on_edge(corners, (0.0, 1.0), (0.0, 0.5), skirt)
        solid.lamps(corners, (0.3, 0.65), False)
        solid.on_edge(corners, (0.0, 1.0), (0.0, 0.15), TRIM)

    def side(sign: int) -> None:
        solid.on_side(sign, quad((-long, long), (0.35, 1.05)), skirt)
        solid.on_side(sign, quad((-long + 0.3, long - 0.1), (1.35, 2.6)), GLASS)
        for along in np.arange(-long + 1.6, long - 0.8, 1.55):
            solid.on_side(
                sign, quad((along, along + 0.1), (1.3, 2.65)), tone(paint, 0.75)
            )
        if sign > 0:
            for along in (-1.2, long - 1.7):
                solid.on_side(
                    sign, quad((along, along + 1.15), (0.42, 2.6)), tone(GLASS, 1.25)
                )
                solid.on_side(
                    sign, quad((along + 0.55, along + 0.62), (0.42, 2.6)), TRIM
                )
        solid.wheels(sign, (-long + 2.6, long - 2.4), 0.48)

    solid.draw({0: rear, 4: windscreen, 5: front}, side)


def draw_train(canvas: Canvas, pose: Pose, rng: np.random.Generator) -> None:
    """A tram of three sections with pantographs and a coloured waistband."""
    paint, band = pick_paint(rng, TRAM_PAINT), pick_paint(rng, TRAM_BAND)
    ends = np.linspace(-TRAIN_LENGTH / 2, TRAIN_LENGTH / 2, 4)
    pieces = []
    for part in range(3):
        middle = (ends[part] + ends[part + 1]) / 2
        pieces.append(
            (
                _distance(pose, middle),
                partial(_tram_section, canvas, pose, ends, part, paint, band),
            )
        )
    for joint in ends[1:3]:
        pieces.append(
            (_distance(pose, joint), partial(_bellows, canvas, pose, float(joint)))
        )
    for _, draw in sorted(pieces, key=lambda piece: -piece[0]):
        draw()


def _distance(pose: Pose, along: float) -> float:
    x, _, z = pose.world(np.array([[along, 0, 0]]))[0]
    return float(np.hypot(x, z))


def _bellows(canvas: Canvas, pose: Pose, along: float) -> None:
    low, high = 0.4, TRAM_HEIGHT - 0.2
    ends = (along - 0.35, along + 0.35)
    profile = [(ends[0], low), (ends[0], high), (ends[1], high), (ends[1], low)]
    Solid(canvas, pose, profile, 1.15, [TRIM] * 4).draw()


def _tram_section(
    canvas: Canvas,
    pose: Pose,
    ends: np.ndarray,
    part: int,
    paint: Colour,
    band: Colour,
) -> None:
    back = ends[part] + 0.22 * (part > 0)
    front = ends[part + 1] - 0.22 * (part < 2)
    # Slanted noses at both ends of the tram.
    back_cut = 0.75 if part == 0 else 0.0
    front_cut = 0.75 if part == 2 else 0.0
    profile = [
        (back, 0.25),
        (back, 1.3),
        (back + back_cut, TRAM_HEIGHT - 0.35),
        (back + back_cut + 0.2, TRAM_HEIGHT),
        (front - front_cut - 0.2, TRAM_HEIGHT),
        (front - front_cut, TRAM_HEIGHT - 0.35),
        (front, 1.3),
        (front, 0.25),
    ]
    roof = (140, 140, 142)
    solid = Solid(
        canvas,
        pose,
        profile,
        1.25,
        [band, paint, paint, roof, paint, paint, band, paint],
    )

    def glass(corners: np.ndarray) -> None:
        solid.on_edge(corners, (0.06, 0.94), (0.05, 0.8), GLASS)
        solid.on_edge(corners, (0.3, 0.7), (0.84, 0.97), (60, 200, 245))

    def nose(corners: np.ndarray, rear: bool = False) -> None:
        low, high = (0.45, 0.8) if not rear else (0.2, 0.55)
        solid.lamps(corners, (low, high), rear)
        lamp = RED_LAMP if rear else WHITE_LAMP
        solid.on_edge(corners, (0.42, 0.58), (low, high), lamp)
        edge = (0.0, 0.22) if not rear else (0.78, 1.0)
        solid.on_edge(corners, (0.0, 1.0), edge, TRIM)

    def side(sign: int) -> None:
        solid.on_side(sign, quad((back, front), (0.25, 0.5)), TRIM)
        solid.on_side(sign, quad((back, front), (0.5, 1.25)), band)
        start, stop = back + back_cut + 0.25, front - front_cut - 0.25
        for along in np.arange(start, stop - 0.9, 1.3):
            solid.on_side(sign, quad((along, along + 1.1), (1.6, 2.75)), GLASS)
        middle = (back + front) / 2
        door = quad((middle - 0.65, middle + 0.65), (0.5, 2.8))
        solid.on_side(sign, door, tone(GLASS, 1.3))
        solid.on_side(sign, quad((middle - 0.04, middle + 0.04), (0.5, 2.8)), TRIM)
        solid.on_side(sign, quad((start, stop), (3.0, 3.15)), band)

    details = {
        0: {1: glass, 0: partial(nose, rear=True)},
        1: {},
        2: {5: glass, 6: nose},
    }
    solid.draw(details[part], side)
    if part != 1:
        foot, up = (back + front) / 2, TRAM_HEIGHT + 0.95
        knee = (foot + 1, 0, TRAM_HEIGHT + 0.5)
        canvas.limb((foot, 0, TRAM_HEIGHT), knee, (0.1, 0.1), TRIM)
        canvas.limb(knee, (foot + 0.1, 0, up), (0.1, 0.1), TRIM)
        canvas.limb((foot + 0.1, -0.8, up), (foot + 0.1, 0.8, up), (0.12, 0.12), TRIM)
