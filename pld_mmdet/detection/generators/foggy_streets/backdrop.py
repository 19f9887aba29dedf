"""What stands still behind the traffic: sky, facades, road, sidewalks.

A street canyon: two facade planes beside the road, one across its far end, a flat
ground. A facade plane is vertical, so the depth of its pixels depends on the column
alone, and the ground's on the row alone; the picture is then a few outer products.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from pld_mmdet.detection.generators.foggy_streets.camera import EYE_HEIGHT, Camera
from pld_mmdet.detection.generators.foggy_streets.canvas import Light

# Cityscapes label ids.
ROAD, SIDEWALK, BUILDING, SKY = 7, 8, 11, 23
SKY_DEPTH = 1000.0
LANE = 3.4


@dataclass(frozen=True)
class Street:
    """The lateral layout of a street, x in metres (negative is left).

    Args:
        road: Left and right edge of the road, parking strips included.
        wall: Left and right facade plane.
        end: Depth of the facade across the end of the street.
        lanes: x of the lane centres, left to right.
        parking: Width of the parking strips (0: none), left and right.
        crossing: Depth at which a zebra crossing begins, None without one.
    """

    road: tuple[float, float]
    wall: tuple[float, float]
    end: float
    lanes: tuple[float, ...]
    parking: tuple[float, float]
    crossing: float | None


def sample_street(rng: np.random.Generator) -> Street:
    """Draw the layout of a street."""
    left = 1 + int(rng.random() < 0.5)
    right = int(rng.random() < 0.45)
    parking = tuple(2.3 if rng.random() < 0.6 else 0.0 for _ in range(2))
    road = (
        -LANE * (left + 0.5) - parking[0],
        LANE * (right + 0.5) + parking[1],
    )
    sidewalk = rng.uniform(2.4, 5.0, 2)
    crossing = float(rng.uniform(9, 30)) if rng.random() < 0.35 else None
    return Street(
        road=road,
        wall=(road[0] - sidewalk[0], road[1] + sidewalk[1]),
        end=float(rng.uniform(75, 190)),
        lanes=tuple(LANE * lane for lane in range(-left, right + 1)),
        parking=parking,
        crossing=crossing,
    )


def blotches(
    rng: np.random.Generator, shape: tuple[int, int], cells: int
) -> np.ndarray:
    """Smooth noise of unit variance, HxW float32, ``cells`` blobs across the width."""
    rows = max(2, round(cells * shape[0] / shape[1]))
    coarse = rng.standard_normal((rows, cells), dtype=np.float32)
    return cv2.resize(coarse, shape[::-1], interpolation=cv2.INTER_CUBIC)


def paint_backdrop(
    rng: np.random.Generator, camera: Camera, street: Street, light: Light
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Draw sky, facades and ground.

    Returns:
        Image (HxWx3 uint8 BGR), depth (HxW float32 metres, sky 1000), label (HxW uint8)
        and grain (HxW float32 around 1) of the canvas.
    """
    shape = (camera.height, camera.width)
    fine = cv2.resize(
        rng.standard_normal((shape[0] // 2, shape[1] // 2), dtype=np.float32),
        shape[::-1],
        interpolation=cv2.INTER_LINEAR,
    )
    grain = 1 + 0.055 * fine + 0.03 * blotches(rng, shape, 24)
    rays_x = np.arange(shape[1], dtype=np.float32) + 0.5 - camera.vanish
    rays_x /= camera.focal
    rays_y = np.arange(shape[0], dtype=np.float32) + 0.5 - camera.horizon
    rays_y /= camera.focal

    image = np.empty((*shape, 3), np.float32)
    depth = np.full(shape, SKY_DEPTH, np.float32)
    label = np.full(shape, SKY, np.uint8)
    first = int(np.searchsorted(rays_y, 0.004))
    image[:first] = _sky(rng, (first, shape[1]))

    wall_depth = _wall_depth(street, rays_x)
    # Below this row there is ground in every column.
    last = int(np.searchsorted(rays_y, camera.eye / wall_depth.min())) + 1
    colours, inside = _facades(rng, street, light, rays_x, rays_y[:last], wall_depth)
    colours *= grain[:last, :, None]
    np.copyto(image[:last], colours, where=inside[..., None])
    np.copyto(depth[:last], wall_depth[None], where=inside)
    label[:last][inside] = BUILDING

    ground_depth = (camera.eye / rays_y[first:])[:, None]
    ground = ground_depth < wall_depth[None]
    colours, on_road = _ground(rng, street, rays_x, ground_depth)
    colours *= grain[first:, :, None]
    np.copyto(image[first:], colours, where=ground[..., None])
    np.copyto(depth[first:], ground_depth, where=ground)
    label[first:][ground] = np.where(on_road, ROAD, SIDEWALK)[ground]
    return np.clip(image, 0, 255).astype(np.uint8), depth, label, grain


def _wall_depth(street: Street, rays_x: np.ndarray) -> np.ndarray:
    """Depth of the facade in each column: left, right or end plane, metres."""
    with np.errstate(divide="ignore"):
        side = np.where(rays_x < 0, street.wall[0] / rays_x, street.wall[1] / rays_x)
    return np.minimum(side, street.end).astype(np.float32)


def _sky(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    high = (
        np.array([235, 190, 140]) if rng.random() < 0.5 else np.array([215, 210, 205])
    )
    low = np.array([238, 228, 215])
    ramp = np.linspace(0, 1, shape[0])[:, None]
    sky = (high + (low - high) * ramp)[:, None].astype(np.float32)
    return sky + 9 * blotches(rng, shape, 9)[..., None]


def _facades(
    rng: np.random.Generator,
    street: Street,
    light: Light,
    rays_x: np.ndarray,
    rays_y: np.ndarray,
    depth: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Colours (HxWx3 float32) and mask (HxW) of the facades, depth given per column."""
    plane = np.where(depth < street.end, np.where(rays_x < 0, 0, 1), 2)
    along = np.where(plane == 2, rays_x * street.end + 500, depth)

    # One row of houses: where each begins (metres along the plane), and its looks.
    count = 160
    starts = np.cumsum(rng.uniform(7, 20, count)) - 20
    house = np.searchsorted(starts, along) + plane * 5
    house %= count
    palette = np.array(
        [
            [150, 170, 190],
            [120, 140, 175],
            [165, 175, 180],
            [95, 110, 150],
            [140, 150, 150],
            [110, 125, 130],
            [170, 190, 205],
            [85, 95, 120],
        ],
        np.float32,
    )
    walls = palette[rng.integers(0, len(palette), count)] * rng.uniform(
        0.7, 1.15, (count, 1)
    )
    heights = rng.uniform(7, 22, count)
    heights[rng.random(count) < 0.1] = 2.2  # a gap with a garden wall
    pitch = rng.uniform(1.7, 3.2, count)[house]
    storey = rng.uniform(2.8, 3.6, count)[house]

    up = EYE_HEIGHT - rays_y[:, None] * depth[None]
    inside = (up >= 0) & (up < heights[house][None])
    normals = np.array([[1, 0, 0], [-1, 0, 0], [0, 0, -1]], np.float32)
    shade = np.array([light.shade(normal) for normal in normals])[plane]
    base = (walls[house] * shade[:, None]).astype(np.float32)
    colours = np.broadcast_to(base[None], (*up.shape, 3)).copy()

    across = np.modf(np.abs(along) / pitch)[0]
    in_column = (across > 0.25) & (across < 0.75)
    level = up / storey[None]
    floor = np.floor(level)
    in_row = (level - floor > 0.3) & (level - floor < 0.8)
    frame = (np.abs(across - 0.5) < 0.32)[None] & (np.abs(level - floor - 0.55) < 0.34)
    np.copyto(colours, base[None] * 1.18, where=(frame & inside)[..., None])
    window = in_row & in_column[None] & inside & (up < heights[house][None] - 0.8)
    cells = rng.uniform(0.25, 0.95, (64, 64)).astype(np.float32)
    tone = cells[
        np.clip(floor, 0, 63).astype(np.int32),
        (np.abs(along) / pitch).astype(np.int32)[None] % 64,
    ]
    glass = np.array([120, 105, 90], np.float32) * tone[..., None]
    np.copyto(colours, glass, where=window[..., None])
    # Shops: a dark ground floor with a coloured fascia on some houses.
    shop = (rng.random(count) < 0.5)[house]
    fascia = rng.uniform(40, 200, (count, 3)).astype(np.float32)[house]
    band = (up > 2.7) & (up < 3.3) & shop[None]
    np.copyto(colours, fascia[None], where=band[..., None])
    pane = (up > 0.4) & (up <= 2.7) & shop[None] & (across > 0.12)[None]
    np.copyto(colours, glass * 0.8 + 8, where=(pane & inside)[..., None])
    return colours, inside


def _ground(
    rng: np.random.Generator, street: Street, rays_x: np.ndarray, depth: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Colours (RxWx3 float32) of the ground rows and the mask of the road (RxW)."""
    x = rays_x[None] * depth
    on_road = (x > street.road[0]) & (x < street.road[1])
    asphalt = rng.uniform(78, 112)
    tone = np.where(on_road, np.float32(asphalt), np.float32(rng.uniform(125, 160)))
    tone = tone + np.float32(3) * blotches(rng, tone.shape, 60)
    # Paving slabs of one metre, their joints narrower than a pixel when far away.
    joints = (np.abs(np.modf(x)[0]) < 0.06) | (np.modf(depth)[0] < 0.06)
    tone[joints & ~on_road & (depth < 25)] *= 0.86
    for edge in street.road:
        tone[np.abs(x - edge) < 0.14] = 168
    paint = np.zeros(on_road.shape, bool)
    dashes = np.modf(depth / 7.5)[0] < 0.45
    for left, right in zip(street.lanes[:-1], street.lanes[1:], strict=True):
        paint |= (np.abs(x - (left + right) / 2) < 0.08) & dashes
    for edge, strip in zip(street.road, street.parking, strict=True):
        if strip:
            inner = edge - np.sign(edge) * strip
            paint |= np.abs(x - inner) < 0.05
    if street.crossing is not None:
        zone = (depth > street.crossing) & (depth < street.crossing + 3.2)
        paint |= zone & (np.modf(np.abs(x) + 50)[0] < 0.5) & on_road
    tone[paint & (depth < 90)] = 205
    tint = np.array([1.0, 0.99, 0.97], np.float32)
    return tone[..., None] * tint, on_road
