"""Cars and trucks."""

import numpy as np

from pld_mmdet.detection.generators.foggy_streets.camera import Pose
from pld_mmdet.detection.generators.foggy_streets.canvas import Canvas
from pld_mmdet.detection.generators.foggy_streets.solids import (
    GLASS,
    TRIM,
    TYRE,
    Solid,
    pick_paint,
    quad,
    tone,
)

CAR_LENGTH, TRUCK_LENGTH = 4.6, 8.0

# BGR; grey scale dominates as in real traffic.
CAR_PAINT = np.array(
    [
        [225, 225, 225],
        [190, 190, 188],
        [120, 118, 115],
        [60, 58, 56],
        [38, 36, 36],
        [50, 40, 165],
        [150, 85, 45],
        [110, 60, 35],
        [70, 110, 60],
        [60, 165, 205],
        [110, 140, 165],
    ],
    float,
)
CARGO_PAINT = np.array(
    [
        [230, 230, 228],
        [200, 205, 210],
        [150, 100, 50],
        [60, 90, 170],
        [70, 130, 90],
        [60, 60, 165],
    ],
    float,
)


def draw_car(canvas: Canvas, pose: Pose, rng: np.random.Generator) -> None:
    """A hatchback, a saloon, an estate or a van, 3.7-4.9 m long."""
    paint = pick_paint(rng, CAR_PAINT)
    body = rng.choice(["hatch", "saloon", "estate", "van"], p=[0.35, 0.3, 0.2, 0.15])
    long = {"hatch": 3.9, "saloon": 4.6, "estate": 4.5, "van": 4.8}[body] / 2
    tall = {"hatch": 1.48, "saloon": 1.43, "estate": 1.55, "van": 1.95}[body]
    rear_slope = {"hatch": 0.45, "saloon": 1.15, "estate": 0.3, "van": 0.12}[body]
    boot = 0.5 if body == "saloon" else 0.08
    belt = 0.92 if body != "van" else 1.1
    nose = 1.05 if body != "van" else 0.7
    profile = [
        (-long + 0.05, 0.22),
        (-long, 0.62),
        (-long + 0.04, belt),
        (-long + boot, belt + 0.04),
        (-long + boot + rear_slope, tall),
        (long - nose - 0.85, tall),
        (long - nose, belt + 0.02),
        (long - 0.12, belt - 0.16),
        (long, 0.55),
        (long - 0.06, 0.22),
    ]
    half = [0.86, 0.89, 0.88, 0.84, 0.66, 0.66, 0.82, 0.85, 0.88, 0.86]
    bumper = tone(paint, 0.6)
    edges = [bumper, paint, paint, GLASS, paint, GLASS, paint, paint, bumper, paint]
    solid = Solid(canvas, pose, profile, half, edges)

    def rear(corners: np.ndarray) -> None:
        solid.lamps(corners, (0.3, 0.95), True)
        solid.on_edge(corners, (0.36, 0.64), (0.15, 0.6), (215, 215, 215))

    def front(corners: np.ndarray) -> None:
        solid.lamps(corners, (0.08, 0.6), False)
        solid.on_edge(corners, (0.28, 0.72), (0.1, 0.62), TRIM)

    def under(corners: np.ndarray) -> None:
        solid.on_edge(corners, (0.0, 1.0), (0.0, 0.45), TRIM)
        solid.on_edge(corners, (0.04, 0.2), (0.0, 0.4), TYRE)
        solid.on_edge(corners, (0.8, 0.96), (0.0, 0.4), TYRE)

    def nose_plate(corners: np.ndarray) -> None:
        solid.on_edge(corners, (0.36, 0.64), (0.1, 0.5), (215, 215, 215))
        solid.on_edge(corners, (0.0, 1.0), (0.7, 1.0), TRIM)

    def side(sign: int) -> None:
        back, front_end = -long + boot + 0.12, long - nose - 0.05
        top = tall - 0.08
        window = [
            (back + 0.1, belt + 0.06),
            (back + rear_slope, top),
            (long - nose - 0.85, top),
            (front_end - 0.05, belt + 0.06),
        ]
        solid.on_side(sign, window, GLASS)
        pillar = (back + front_end) / 2
        solid.on_side(
            sign, quad((pillar, pillar + 0.09), (belt, top)), tone(paint, 0.7)
        )
        solid.on_side(
            sign, quad((pillar, pillar + 0.03), (0.3, belt)), tone(paint, 0.65)
        )
        solid.on_side(sign, quad((-long + 0.5, long - 0.5), (0.2, 0.32)), TRIM)
        solid.wheels(sign, (-long + 0.8, long - 0.85), 0.32)

    solid.draw({0: under, 1: rear, 7: front, 8: nose_plate}, side)


def draw_truck(canvas: Canvas, pose: Pose, rng: np.random.Generator) -> None:
    """A cab and a taller box, tarpaulin or open load."""
    cab, cargo = pick_paint(rng, CAR_PAINT), pick_paint(rng, CARGO_PAINT)
    tall = rng.uniform(2.9, 3.7)
    long = TRUCK_LENGTH / 2
    tipper = rng.random() < 0.25
    roof = 2.5
    load = Solid(
        canvas,
        pose,
        [
            (-long, 0.95),
            (-long, tall if not tipper else 2.0),
            (long - 2.1, tall if not tipper else 2.0),
            (long - 2.1, 0.95),
        ],
        1.24,
        [cargo, tone(cargo, 0.9), cargo, cargo],
    )
    chassis = Solid(
        canvas,
        pose,
        [(-long, 0.45), (-long, 0.95), (long - 1.9, 0.95), (long - 1.9, 0.45)],
        1.0,
        [TRIM, TRIM, TRIM, TRIM],
    )
    head = Solid(
        canvas,
        pose,
        [
            (long - 1.95, 0.4),
            (long - 1.95, roof),
            (long - 0.4, roof),
            (long - 0.06, 1.45),
            (long, 0.95),
            (long, 0.35),
        ],
        1.14,
        [cab, cab, tone(GLASS, 0.9), cab, tone(cab, 0.75), cab],
    )

    def load_rear(corners: np.ndarray) -> None:
        load.on_edge(corners, (0.49, 0.51), (0.0, 1.0), TRIM)
        for edge in ((0.0, 0.04), (0.96, 1.0)):
            load.on_edge(corners, edge, (0.0, 1.0), tone(cargo, 0.7))
        load.on_edge(corners, (0.0, 1.0), (0.0, 0.04), TRIM)

    def load_side(sign: int) -> None:
        top = load.profile[1, 1]
        step = 1.1 if tipper else 1.7
        for along in np.arange(-long + step, long - 2.2, step):
            load.on_side(
                sign, quad((along, along + 0.06), (1.0, top)), tone(cargo, 0.78)
            )
        load.on_side(sign, quad((-long, long - 2.1), (0.95, 1.08)), tone(cargo, 0.6))
        if not tipper and marking:
            load.on_side(
                sign,
                quad((-long * 0.5, long * 0.25), (tall * 0.5, tall * 0.72)),
                stripe,
            )

    def chassis_rear(corners: np.ndarray) -> None:
        chassis.lamps(corners, (0.35, 0.8), True)
        chassis.on_edge(corners, (0.38, 0.62), (0.25, 0.75), (205, 205, 205))

    def chassis_side(sign: int) -> None:
        chassis.wheels(sign, (-long + 1.0, -long + 2.05), 0.48)

    def grille(corners: np.ndarray) -> None:
        head.on_edge(corners, (0.15, 0.85), (0.15, 0.85), TRIM)

    def bumper(corners: np.ndarray) -> None:
        head.lamps(corners, (0.25, 0.75), False)

    def head_side(sign: int) -> None:
        window = [
            (long - 1.35, 1.5),
            (long - 1.35, 2.2),
            (long - 0.55, 2.2),
            (long - 0.3, 1.5),
        ]
        head.on_side(sign, window, GLASS)
        head.on_side(sign, quad((long - 1.45, long - 1.4), (0.5, 2.3)), tone(cab, 0.6))
        head.wheels(sign, (long - 0.95,), 0.48)

    marking = rng.random() < 0.6
    stripe = tuple(rng.uniform(30, 220, 3))
    parts = [
        lambda: chassis.draw({0: chassis_rear}, chassis_side),
        lambda: load.draw({0: load_rear}, load_side),
        lambda: head.draw({3: grille, 4: bumper}, head_side),
    ]
    # The end that is nearer to the camera is drawn last.
    front, back = pose.world(np.array([[long, 0, 0], [-long, 0, 0]]))
    if np.hypot(front[0], front[2]) > np.hypot(back[0], back[2]):
        parts = [parts[2], parts[0], parts[1]]
    for part in parts:
        part()
