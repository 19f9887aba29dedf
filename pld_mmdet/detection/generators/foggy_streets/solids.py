"""Side profiles extruded to solids: the body of every vehicle.

A profile is a polygon in (along, up) metres, front at positive ``along``. Extruded
across the width it gives faces that are drawn from far to near; windows, lamps and
wheels are polygons on the faces. So one model serves every heading.
"""

from collections.abc import Callable, Sequence

import numpy as np

from pld_mmdet.detection.generators.foggy_streets.camera import Pose
from pld_mmdet.detection.generators.foggy_streets.canvas import Canvas, Colour

GLASS: Colour = (78, 66, 54)
TYRE: Colour = (28, 28, 30)
TRIM: Colour = (45, 45, 48)
RED_LAMP: Colour = (40, 30, 205)
WHITE_LAMP: Colour = (235, 240, 240)


def pick_paint(rng: np.random.Generator, palette: np.ndarray) -> Colour:
    """One of the Nx3 BGR colours, a little varied."""
    colour = palette[rng.integers(len(palette))] + rng.normal(0, 9, 3)
    return tuple(np.clip(colour, 15, 245))


def tone(colour: Colour, factor: float) -> Colour:
    """A darker (or lighter) shade of a colour."""
    return tuple(min(255.0, channel * factor) for channel in colour)


def quad(along: Sequence[float], up: Sequence[float]) -> list[tuple[float, float]]:
    """Rectangle (along, up) from two intervals."""
    return [(along[0], up[0]), (along[1], up[0]), (along[1], up[1]), (along[0], up[1])]


class Solid:
    """An extruded profile on a canvas.

    Args:
        canvas: Where it is drawn; ``canvas.begin(pose)`` was called.
        pose: Position and heading, for light and visibility.
        profile: Nx2 (along, up), from the rear bottom up, forward over the roof and
            down at the front. The open bottom is not drawn.
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
