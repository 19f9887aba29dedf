"""One scene from its random numbers: picture, depth, labels."""

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from pld_mmdet.detection.generators.foggy_streets.backdrop import (
    blotches,
    paint_backdrop,
    sample_street,
)
from pld_mmdet.detection.generators.foggy_streets.canvas import Canvas, Light, multiply
from pld_mmdet.detection.generators.foggy_streets.figures import (
    draw_bicycle,
    draw_motorcycle,
    draw_person,
    draw_rider,
)
from pld_mmdet.detection.generators.foggy_streets.fog import transmission
from pld_mmdet.detection.generators.foggy_streets.furniture import (
    draw_bin,
    draw_pole,
    draw_tree,
)
from pld_mmdet.detection.generators.foggy_streets.labels import instance_map, polygons
from pld_mmdet.detection.generators.foggy_streets.scene import (
    FOOTPRINT,
    Thing,
    sample_camera,
    sample_things,
)
from pld_mmdet.detection.generators.foggy_streets.transit import draw_bus, draw_train
from pld_mmdet.detection.generators.foggy_streets.vehicles import draw_car, draw_truck

# Drawn at twice the size and reduced by area: cheap anti-aliasing.
OVERSAMPLING = 2
VEHICLES = {
    "car": draw_car, "truck": draw_truck, "bus": draw_bus, "train": draw_train,
}  # fmt: skip
FIGURES = {
    "person": draw_person, "bicycle": draw_bicycle, "motorcycle": draw_motorcycle,
}  # fmt: skip
FURNITURE = {"tree": draw_tree, "pole": draw_pole, "bin": draw_bin}


@dataclass
class Frame:
    """A finished scene.

    Args:
        image: HxWx3 uint8, BGR, clear weather.
        thinness: HxW float32, transmission at beta 0.005; its square is that of 0.01.
        airlight: Colour of the fog, BGR.
        instance_ids: HxW uint16, Cityscapes instanceIds.
        polygons: Content of the polygons file.
    """

    image: np.ndarray
    thinness: np.ndarray
    airlight: np.ndarray
    instance_ids: np.ndarray
    polygons: dict[str, Any]

    def transmission(self, beta: float) -> np.ndarray:
        """Transmission per pixel at another density of the fog."""
        return self.thinness ** (beta / 0.005)


def render(seed: np.random.SeedSequence, height: int, width: int) -> Frame:
    """Draw a scene.

    Args:
        seed: Everything random comes from it; it also fixes the scene across sizes, but
            for the texture.
        height: Rows of the result.
        width: Columns of the result.
    """
    scene_seed, texture_seed = seed.spawn(2)
    rng = np.random.default_rng(scene_seed)
    texture = np.random.default_rng(texture_seed)
    camera = sample_camera(rng, height * OVERSAMPLING, width * OVERSAMPLING)
    street = sample_street(rng)
    sun = np.array([rng.uniform(-0.8, 0.8), 0.75, rng.uniform(-0.7, 0.2)])
    light = Light(sun / np.linalg.norm(sun), ambient=float(rng.uniform(0.5, 0.75)))
    gain = rng.uniform(0.75, 1.15)
    airlight = rng.uniform(205, 235) + rng.uniform(-3, 3, 3)
    things = sample_things(rng, camera, street)

    canvas = Canvas(camera, light, *paint_backdrop(texture, camera, street, light))
    _shadows(canvas, things)
    names: list[str] = []
    clusters: list[int] = []
    for thing in things:
        _draw(canvas, thing, names, clusters)

    size = (width, height)
    image = cv2.resize(canvas.image, size, interpolation=cv2.INTER_AREA)
    noise = texture.standard_normal(image.shape, dtype=np.float32) * 2.5
    haze = 1 + 0.03 * blotches(texture, (height, width), 6)[..., None]
    image = np.clip(image * (gain * haze) + noise, 0, 255).astype(np.uint8)
    thinness = transmission(canvas.depth, np.float32(0.005))
    thinness = cv2.resize(thinness, size, interpolation=cv2.INTER_AREA)

    seen = np.bincount(canvas.owner.ravel(), minlength=len(names) + 1)
    visible = [
        seen[number] / max(1, canvas.whole_area.get(number, 0))
        for number in range(1, len(names) + 1)
    ]
    step = OVERSAMPLING
    background = canvas.label[::step, ::step]
    ids, written = instance_map(
        canvas.owner[::step, ::step], background, names, clusters, visible
    )
    outlines = polygons(background, canvas.outlines, written, step)
    return Frame(image, thinness, airlight.astype(np.float32), ids, outlines)


def _draw(canvas: Canvas, thing: Thing, names: list[str], clusters: list[int]) -> None:
    rng = np.random.default_rng(thing.seed)
    pose, kind = thing.pose, thing.kind

    def instance(name: str, flat: bool) -> None:
        names.append(name)
        clusters.append(thing.cluster)
        canvas.finish(len(names), flat=flat)

    canvas.begin(pose)
    if kind in VEHICLES:
        VEHICLES[kind](canvas, pose, rng)
        instance(kind, flat=False)
    elif kind in FURNITURE:
        canvas.finish(0, label=FURNITURE[kind](canvas, pose, rng))
    else:
        ridden = kind.startswith("ridden ")
        base = kind.removeprefix("ridden ")
        FIGURES[base](canvas, pose, rng)
        instance(base, flat=True)
        if ridden:
            canvas.begin(pose)
            draw_rider(canvas, pose, rng, motorcycle=base == "motorcycle")
            instance("rider", flat=True)


def _shadows(canvas: Canvas, things: list[Thing]) -> None:
    """Contact shadows of all things on the ground, softened."""
    mask = np.zeros(canvas.depth.shape, np.uint8)
    for thing in things:
        long, wide = (side / 2 + 0.12 for side in FOOTPRINT[thing.kind])
        corners = thing.pose.world(
            [[-long, -wide, 0], [-long, wide, 0], [long, wide, 0], [long, -wide, 0]]
        )
        corners[:, 0] -= canvas.light.sun[0] * 0.5
        fixed = np.round(canvas.camera.project(corners) * 16).astype(np.int32)[None]
        cv2.fillPoly(mask, fixed, 115, cv2.LINE_8, 4)
    size = max(3, round(canvas.camera.height / 64)) | 1
    mask = cv2.blur(mask, (size, size))
    first = int(canvas.camera.horizon)
    multiply(canvas.image[first:], 1 - mask[first:].astype(np.float32) / 255)
