"""The picture under construction: colour, depth and owner of every pixel.

Things are drawn from far to near (painter's order). Everything a thing draws between
``begin`` and ``finish`` belongs to it: ``finish`` gives it its texture and light,
writes its depth and its number into the owner map, and remembers how large it would be
if nothing stood before it.
"""

from dataclasses import dataclass, field

import cv2
import numpy as np

from pld_mmdet.detection.generators.foggy_streets.camera import Camera, Pose

# cv2 takes fixed-point coordinates: 4 binary digits after the point.
SHIFT = 4
# A face whose depth varies less than this (metres) gets one depth for all its pixels.
FLAT = 0.6

Colour = tuple[float, float, float]


def multiply(image: np.ndarray, gain: np.ndarray) -> None:
    """Multiply an HxWx3 uint8 image in place with an HxW gain between 0 and 1.99."""
    # Fixed point with 7 binary digits: five times as fast as floating point.
    fixed = (gain * 128).astype(np.uint8)
    image[:] = cv2.multiply(image, cv2.merge([fixed] * 3), scale=1 / 128)


@dataclass
class Light:
    """Sun and sky of one picture.

    Args:
        sun: Unit vector to the sun: x (right), y (up), z (ahead).
        ambient: Brightness of a face turned away from the sun, 0-1.
    """

    sun: np.ndarray
    ambient: float

    def shade(self, normal: np.ndarray) -> float:
        """Brightness factor of a face with this unit normal."""
        return self.ambient + (1 - self.ambient) * max(0.0, float(normal @ self.sun))


@dataclass
class Canvas:
    """Image, depth and owner maps of one scene.

    Args:
        camera: The camera; its size is the size of the maps.
        light: Sun and sky.
        image: HxWx3 uint8, BGR.
        depth: HxW float32, metres.
        label: HxW uint8, Cityscapes label id of the background and street furniture.
        grain: HxW float32 around 1, the texture every surface is multiplied with.
    """

    camera: Camera
    light: Light
    image: np.ndarray
    depth: np.ndarray
    label: np.ndarray
    grain: np.ndarray
    owner: np.ndarray = field(init=False)
    outlines: dict[int, np.ndarray] = field(init=False, default_factory=dict)
    whole_area: dict[int, int] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        shape = self.depth.shape
        self.owner = np.zeros(shape, np.uint16)
        self._mask = np.zeros(shape, np.uint8)
        self._pose = Pose(0.0, 10.0)
        self._boxes: list[np.ndarray] = []

    def begin(self, pose: Pose) -> None:
        """Start a thing that stands at ``pose``."""
        self._pose = pose
        self._boxes = []

    def pixels(self, points: np.ndarray) -> np.ndarray:
        """Local points (Nx3 metres) of the current thing to Nx2 pixels."""
        return self.camera.project(self._pose.world(points))

    def metres(self) -> float:
        """Pixels per metre at the current thing."""
        return self.camera.focal / self._pose.z

    def fill(
        self,
        pixels: np.ndarray,
        colour: Colour | None,
        depth: float | None = None,
        solid: bool = True,
    ) -> None:
        """Fill a polygon.

        Args:
            pixels: Nx2 polygon in pixels.
            colour: BGR, or None to leave the picture (spokes let one see through).
            depth: Depth in metres, None: the depth of the thing, written by finish.
            solid: Whether the polygon belongs to the outline of the thing.
        """
        fixed = np.round(pixels * (1 << SHIFT)).astype(np.int32)[None]
        if colour is not None:
            cv2.fillPoly(self.image, fixed, colour, cv2.LINE_8, SHIFT)
        if solid:
            cv2.fillPoly(self._mask, fixed, 1, cv2.LINE_8, SHIFT)
            self._boxes.append(np.r_[pixels.min(0), pixels.max(0)])
        if depth is not None:
            cv2.fillPoly(self.depth, fixed, depth, cv2.LINE_8, SHIFT)

    def face(self, points: np.ndarray, colour: Colour, shade: float = 1.0) -> None:
        """Fill a planar face given in local metres, with its true depth per pixel."""
        world = self._pose.world(points)
        pixels = self.camera.project(world)
        z = np.maximum(world[:, 2], 0.8)
        tone = tuple(min(255.0, channel * shade) for channel in colour)
        if z.max() - z.min() < FLAT:
            self.fill(pixels, tone, float(z.mean()))
            return
        self.fill(pixels, tone)
        rows, columns = self._window(np.r_[pixels.min(0), pixels.max(0)])
        if rows.stop <= rows.start or columns.stop <= columns.start:
            return
        # The inverse depth of a plane is affine in the image.
        system = np.c_[pixels, np.ones(len(pixels))]
        plane = np.linalg.lstsq(system, 1 / z, rcond=None)[0]
        inverse = (
            plane[0] * np.arange(columns.start, columns.stop)[None]
            + plane[1] * np.arange(rows.start, rows.stop)[:, None]
            + plane[2]
        )
        inside = np.zeros(inverse.shape, np.uint8)
        fixed = np.round((pixels - (columns.start, rows.start)) * (1 << SHIFT))
        cv2.fillPoly(inside, fixed.astype(np.int32)[None], 1, cv2.LINE_8, SHIFT)
        near_far = np.clip(1 / np.clip(inverse, 1 / z.max(), 1 / z.min()), 0.5, 1000)
        np.copyto(
            self.depth[rows, columns], near_far.astype(np.float32), where=inside > 0
        )

    def limb(
        self,
        start: tuple[float, float, float],
        end: tuple[float, float, float],
        widths: tuple[float, float],
        colour: Colour,
        solid: bool = True,
    ) -> None:
        """A tapered capsule between two local points, widths in metres."""
        a, b = self.pixels(np.array([start, end]))
        direction = b - a
        length = float(np.hypot(*direction))
        axis = direction / length if length > 1e-6 else np.array([0.0, 1.0])
        side = np.array([-axis[1], axis[0]])
        scale = self.metres() / 2
        # Below about a pixel of the reduced picture a limb would vanish altogether.
        first, last = (max(width * scale, 0.7) for width in widths)
        outline = np.array(
            [
                a + side * first,
                a + (side - axis) * first * 0.7,
                a - (side + axis) * first * 0.7,
                a - side * first,
                b - side * last,
                b + (axis - side) * last * 0.7,
                b + (axis + side) * last * 0.7,
                b + side * last,
            ]
        )
        self.fill(outline, colour, None, solid)

    def disc(
        self,
        centre: tuple[float, float, float],
        radii: tuple[float, float],
        colour: Colour,
        solid: bool = True,
        turn: float = 0.0,
    ) -> None:
        """An ellipse that faces the camera, radii (horizontal, vertical) in metres."""
        middle = self.pixels(np.array([centre]))[0]
        angle = np.linspace(0, 2 * np.pi, 14, endpoint=False)
        x, y = radii[0] * np.cos(angle), radii[1] * np.sin(angle)
        sin, cos = np.sin(turn), np.cos(turn)
        spread = np.stack([x * cos - y * sin, x * sin + y * cos], 1) * self.metres()
        self.fill(middle + spread, colour, None, solid)

    def wheel(
        self,
        along: float,
        across: float,
        radius: float,
        up: float | None = None,
    ) -> np.ndarray:
        """The circle of a wheel in the vertical plane of the thing, Nx2 pixels."""
        angle = np.linspace(0, 2 * np.pi, 18, endpoint=False)
        circle = np.zeros((len(angle), 3))
        circle[:, 0] = along + radius * np.cos(angle)
        circle[:, 1] = across
        circle[:, 2] = (radius if up is None else up) + radius * np.sin(angle)
        return self.pixels(circle)

    def stroke(self, pixels: np.ndarray, colour: Colour, metres: float) -> None:
        """Outline of a closed polygon, line width in metres (at least one pixel)."""
        thickness = max(1, round(metres * self.metres()))
        fixed = np.round(pixels * (1 << SHIFT)).astype(np.int32)[None]
        cv2.polylines(self.image, fixed, True, colour, thickness, cv2.LINE_8, SHIFT)
        cv2.polylines(self._mask, fixed, True, 1, thickness, cv2.LINE_8, SHIFT)
        self._boxes.append(np.r_[pixels.min(0) - thickness, pixels.max(0) + thickness])

    def finish(self, number: int, label: int | None = None, flat: bool = True) -> None:
        """End the thing: texture, light, depth, ownership.

        Args:
            number: Number in the owner map, 0 for street furniture (no instance).
            label: Cityscapes label id written to the label map for furniture.
            flat: Write the depth of the pose (False: the faces have written theirs).
        """
        if not self._boxes:
            return
        boxes = np.array(self._boxes)
        rows, columns = self._window(np.r_[boxes[:, :2].min(0), boxes[:, 2:].max(0)])
        if rows.stop <= rows.start or columns.stop <= columns.start:
            self._mask[:] = 0
            return
        window = self._mask[rows, columns]
        inside = window > 0
        # Darker towards the ground, as the sky is the large lamp of a street.
        fall = np.linspace(1.06, 0.86, window.shape[0], dtype=np.float32)[:, None]
        multiply(
            self.image[rows, columns],
            np.where(inside, self.grain[rows, columns] * fall, np.float32(1)),
        )
        if flat:
            self.depth[rows, columns][inside] = self._pose.z
        self.owner[rows, columns][inside] = number
        if label is not None:
            self.label[rows, columns][inside] = label
        if number:
            self.whole_area[number] = int(np.count_nonzero(inside))
            contours, _ = cv2.findContours(
                window,
                cv2.RETR_EXTERNAL,
                cv2.CHAIN_APPROX_SIMPLE,
                offset=(columns.start, rows.start),
            )
            if contours:
                self.outlines[number] = max(contours, key=cv2.contourArea)
        window[:] = 0

    def _window(self, box: np.ndarray) -> tuple[slice, slice]:
        height, width = self.depth.shape
        left, top = np.floor(box[:2]).astype(int) - 1
        right, bottom = np.ceil(box[2:]).astype(int) + 2
        return (
            slice(int(np.clip(top, 0, height)), int(np.clip(bottom, 0, height))),
            slice(int(np.clip(left, 0, width)), int(np.clip(right, 0, width))),
        )
