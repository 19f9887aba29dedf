"""Cars, trucks, buses and trams: side profiles extruded to solids.

A profile is a polygon in (along, up) metres, front at positive ``along``. Extruded
across the width it gives faces that are drawn from far to near; windows, lamps and
wheels are polygons on the faces. So one model serves every heading.
"""

from collections.abc import Callable, Sequence

import numpy as np

from .camera import Pose
from .canvas import Canvas, Colour

CAR_LENGTH, TRUCK_LENGTH, BUS_LENGTH, TRAIN_LENGTH = 4.6, 8.0, 11.0, 24.0

GLASS: Colour = (78, 66, 54)
TYRE: Colour = (28, 28, 30)
TRIM: Colour = (45, 45, 48)
RED_LAMP: Colour = (40, 30, 205)
WHITE_LAMP: Colour = (235, 240, 240)

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
BUS_PAINT = np.array(
    [[40, 180, 235], [50, 45, 190], [225, 220, 215], [170, 110, 40], [90, 160, 70]],
    float,
)
TRAM_PAINT = np.array(
    [[200, 205, 205], [55, 60, 200], [60, 200, 225], [150, 80, 30], [120, 150, 60]],
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


def quad(along: Sequence[float], up: Sequence[float]) -> list[tuple[float, float]]:
    """Rectangle (along, up) from two intervals."""
    return [(along[0], up[0]), (along[1], up[0]), (along[1], up[1]), (along[0], up[1])]


class Solid:
    """An extruded profile on a canvas.

    Args:
        canvas: Where it is drawn; ``canvas.begin(pose)`` was called.
        pose: Position and heading, for light and visibility.
        profile: Nx2 (along, up), anticlockwise seen from the right (front to the left
            of the picture excluded: rear bottom, up, forward over the roof, down).
        half: Half width in metres, one number or one per profile point.
        paint: Colour of each edge i -> i + 1 and, last, of the sides.
    """

    def __init__(
        self,
        canvas: Canvas,
        pose: Pose,
        profile: Sequence[tuple[float, float]],
        half: float | Sequence[float],
        paint: Sequence[Colour],
    ) -> None:
        self.canvas, self.pose = canvas, pose
        self.profile = np.asarray(profile, float)
        self.half = np.broadcast_to(np.asarray(half, float), len(profile))
        self.paint = paint

    def _edge(self, index: int) -> np.ndarray:
        after = (index + 1) % len(self.profile)
        (a, up_a), (b, up_b) = self.profile[index], self.profile[after]
        wide_a, wide_b = self.half[index], self.half[after]
        return np.array(
            [
                [a, -wide_a, up_a],
                [a, wide_a, up_a],
                [b, wide_b, up_b],
                [b, -wide_b, up_b],
            ]
        )

    def _side(self, sign: int) -> np.ndarray:
        points = np.c_[self.profile[:, 0], sign * self.half, self.profile[:, 1]]
        return points if sign < 0 else points[::-1]

    def draw(
        self,
        edges: dict[int, Callable[[np.ndarray], None]] | None = None,
        side: Callable[[int], None] | None = None,
    ) -> None:
        """Draw the faces that look at the camera, far ones first.

        Args:
            edges: Details of an edge face, called with its corners after the face.
            side: Details of a side, called with its sign (-1 left, 1 right).
        """
        eye = np.array([0.0, self.canvas.camera.eye, 0.0])
        middle = np.array([self.profile[:, 0].mean(), 0, self.profile[:, 1].mean()])
        faces = []
        for index in range(len(self.profile) - 1):
            faces.append((self._edge(index), self.paint[index], ("edge", index)))
        for sign in (-1, 1):
            faces.append((self._side(sign), self.paint[-1], ("side", sign)))
        todo = []
        for points, colour, what in faces:
            world = self.pose.world(points)
            centre = world.mean(0)
            # Newell's sum: the first corners of a side may lie on one line.
            normal = np.cross(world - centre, np.roll(world, -1, 0) - centre).sum(0)
            size = np.linalg.norm(normal)
            if size < 1e-9:
                continue
            normal /= size
            if normal @ (centre - self.pose.world(middle)[0]) < 0:
                normal = -normal
            if normal @ (eye - centre) <= 0:
                continue
            distance = float(np.linalg.norm(centre - eye))
            todo.append((distance, points, colour, normal, what))
        for _, points, colour, normal, (kind, which) in sorted(
            todo, key=lambda item: -item[0]
        ):
            self.canvas.face(points, colour, self.canvas.light.shade(normal))
            if kind == "edge" and edges and which in edges:
                edges[which](points)
            if kind == "side" and side:
                side(which)

    def on_side(
        self, sign: int, outline: Sequence[tuple[float, float]], colour: Colour
    ) -> None:
        """A polygon (along, up) on a side; it leans with the side's upper part."""
        outline = np.asarray(outline, float)
        order = np.argsort(self.profile[:, 1])
        wide = np.interp(outline[:, 1], self.profile[order, 1], self.half[order])
        points = np.c_[outline[:, 0], sign * wide, outline[:, 1]]
        self.canvas.fill(self.canvas.pixels(points), colour)

    def on_edge(
        self,
        corners: np.ndarray,
        across: tuple[float, float],
        up: tuple[float, float],
        colour: Colour,
    ) -> None:
        """A rectangle on an edge face, in fractions of its width and height."""
        low = np.array([1 - up[0], up[0]]), np.array([1 - up[1], up[1]])
        left, right = corners[[0, 3]], corners[[1, 2]]
        points = []
        for share, weights in ((0, low[0]), (1, low[0]), (1, low[1]), (0, low[1])):
            row_left, row_right = weights @ left, weights @ right
            points.append(row_left + across[share] * (row_right - row_left))
        self.canvas.fill(self.canvas.pixels(np.array(points)), colour)

    def wheels(self, sign: int, places: Sequence[float], radius: float) -> None:
        """Wheels on one side, with hub caps."""
        for along in places:
            across = sign * self.half[0] * 1.01
            for share, colour in ((1.0, TYRE), (0.55, (150, 150, 150)), (0.2, TRIM)):
                circle = self.canvas.wheel(along, across, radius * share, radius)
                self.canvas.fill(circle, colour)

    def lamps(self, corners: np.ndarray, up: tuple[float, float], rear: bool) -> None:
        """A pair of lamps on an end face."""
        colour = RED_LAMP if rear else WHITE_LAMP
        self.on_edge(corners, (0.03, 0.21), up, colour)
        self.on_edge(corners, (0.79, 0.97), up, colour)


def _pick(rng: np.random.Generator, palette: np.ndarray) -> Colour:
    colour = palette[rng.integers(len(palette))] + rng.normal(0, 9, 3)
    return tuple(np.clip(colour, 15, 245))


def _times(colour: Colour, factor: float) -> Colour:
    return tuple(min(255.0, channel * factor) for channel in colour)


def draw_car(canvas: Canvas, pose: Pose, rng: np.random.Generator) -> None:
    """A hatchback, a saloon, an estate or a van, 3.7-4.9 m long."""
    paint = _pick(rng, CAR_PAINT)
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
    bumper = _times(paint, 0.6)
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
            sign, quad((pillar, pillar + 0.09), (belt, top)), _times(paint, 0.7)
        )
        solid.on_side(
            sign, quad((pillar, pillar + 0.03), (0.3, belt)), _times(paint, 0.65)
        )
        solid.on_side(sign, quad((-long + 0.5, long - 0.5), (0.2, 0.32)), TRIM)
        solid.wheels(sign, (-long + 0.8, long - 0.85), 0.32)

    solid.draw({0: under, 1: rear, 7: front, 8: nose_plate}, side)


def draw_truck(canvas: Canvas, pose: Pose, rng: np.random.Generator) -> None:
    """A cab and a taller box, tarpaulin or open load."""
    cab, cargo = _pick(rng, CAR_PAINT), _pick(rng, CARGO_PAINT)
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
        [cargo, _times(cargo, 0.9), cargo, cargo],
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
        [cab, cab, _times(GLASS, 0.9), cab, _times(cab, 0.75), cab],
    )

    def load_rear(corners: np.ndarray) -> None:
        load.on_edge(corners, (0.49, 0.51), (0.0, 1.0), TRIM)
        for edge in ((0.0, 0.04), (0.96, 1.0)):
            load.on_edge(corners, edge, (0.0, 1.0), _times(cargo, 0.7))
        load.on_edge(corners, (0.0, 1.0), (0.0, 0.04), TRIM)

    def load_side(sign: int) -> None:
        top = load.profile[1, 1]
        step = 1.1 if tipper else 1.7
        for along in np.arange(-long + step, long - 2.2, step):
            load.on_side(
                sign, quad((along, along + 0.06), (1.0, top)), _times(cargo, 0.78)
            )
        load.on_side(sign, quad((-long, long - 2.1), (0.95, 1.08)), _times(cargo, 0.6))
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
        head.on_side(
            sign, quad((long - 1.45, long - 1.4), (0.5, 2.3)), _times(cab, 0.6)
        )
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


def draw_bus(canvas: Canvas, pose: Pose, rng: np.random.Generator) -> None:
    """A city bus: one long box of glass with doors and a destination board."""
    paint = _pick(rng, BUS_PAINT)
    skirt = _times(paint, 0.7) if rng.random() < 0.5 else _pick(rng, BUS_PAINT)
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
        solid.on_edge(corners, (0.2, 0.8), (0.14, 0.4), _times(skirt, 0.7))
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
                sign, quad((along, along + 0.1), (1.3, 2.65)), _times(paint, 0.75)
            )
        if sign > 0:
            for along in (-1.2, long - 1.7):
                solid.on_side(
                    sign, quad((along, along + 1.15), (0.42, 2.6)), _times(GLASS, 1.25)
                )
                solid.on_side(
                    sign, quad((along + 0.55, along + 0.62), (0.42, 2.6)), TRIM
                )
        solid.wheels(sign, (-long + 2.6, long - 2.4), 0.48)

    solid.draw({0: rear, 4: windscreen, 5: front}, side)


def draw_train(canvas: Canvas, pose: Pose, rng: np.random.Generator) -> None:
    """A tram of three sections with a pantograph and a coloured waistband."""
    paint, band = _pick(rng, TRAM_PAINT), _pick(rng, TRAM_PAINT)
    if np.abs(np.subtract(paint, band)).sum() < 120:
        band = _times(paint, 0.45)
    section = TRAIN_LENGTH / 3
    ends = [-TRAIN_LENGTH / 2 + section * part for part in range(4)]
    tall = 3.5
    parts = []
    for part in range(3):
        back, front = ends[part] + 0.22 * (part > 0), ends[part + 1] - 0.22 * (part < 2)
        parts.append((np.hypot(*_centre(pose, (back + front) / 2)), back, front, part))
    for _, back, front, part in sorted(parts, reverse=True):
        # Rounded noses at both ends of the tram.
        back_cut = 0.75 if part == 0 else 0.0
        front_cut = 0.75 if part == 2 else 0.0
        profile = [
            (back, 0.25),
            (back, 1.3),
            (back + back_cut, tall - 0.35),
            (back + back_cut + 0.2, tall),
            (front - front_cut - 0.2, tall),
            (front - front_cut, tall - 0.35),
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

        def glass(corners: np.ndarray, solid: Solid = solid) -> None:
            solid.on_edge(corners, (0.06, 0.94), (0.05, 0.8), GLASS)
            solid.on_edge(corners, (0.3, 0.7), (0.84, 0.97), (60, 200, 245))

        def nose(corners: np.ndarray, solid: Solid = solid, rear: bool = False) -> None:
            low, high = (0.45, 0.8) if not rear else (0.2, 0.55)
            solid.lamps(corners, (low, high), rear)
            solid.on_edge(
                corners, (0.42, 0.58), (low, high), RED_LAMP if rear else WHITE_LAMP
            )
            edge = (0.0, 0.22) if not rear else (0.78, 1.0)
            solid.on_edge(corners, (0.0, 1.0), edge, TRIM)

        def side(
            sign: int,
            solid: Solid = solid,
            back: float = back,
            front: float = front,
            cuts: tuple[float, float] = (back_cut, front_cut),
        ) -> None:
            solid.on_side(sign, quad((back, front), (0.25, 0.5)), TRIM)
            solid.on_side(sign, quad((back, front), (0.5, 1.25)), band)
            start, stop = back + cuts[0] + 0.25, front - cuts[1] - 0.25
            for along in np.arange(start, stop - 0.9, 1.3):
                solid.on_side(sign, quad((along, along + 1.1), (1.6, 2.75)), GLASS)
            middle = (back + front) / 2
            solid.on_side(
                sign,
                quad((middle - 0.65, middle + 0.65), (0.5, 2.8)),
                _times(GLASS, 1.3),
            )
            solid.on_side(sign, quad((middle - 0.04, middle + 0.04), (0.5, 2.8)), TRIM)
            solid.on_side(sign, quad((start, stop), (3.0, 3.15)), band)

        details = {}
        if part == 0:
            details = {1: glass, 0: lambda c, nose=nose: nose(c, rear=True)}
        if part == 2:
            details = {5: glass, 6: nose}
        solid.draw(details, side)
        if part == 1:
            up = tall + 0.95
            canvas.limb(
                (back + 1, 0, tall), (back + 2, 0, tall + 0.5), (0.1, 0.1), TRIM
            )
            canvas.limb(
                (back + 2, 0, tall + 0.5), (back + 1.1, 0, up), (0.1, 0.1), TRIM
            )
            canvas.limb((back + 1.1, -0.7, up), (back + 1.1, 0.7, up), (0.1, 0.1), TRIM)


def _centre(pose: Pose, along: float) -> np.ndarray:
    return pose.world(np.array([[along, 0, 0]]))[0][[0, 2]]
