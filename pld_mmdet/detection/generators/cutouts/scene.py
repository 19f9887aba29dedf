"""Lay stamps on a ground; what is hidden has no box and no mask."""

from dataclasses import dataclass

import numpy as np
from PIL import Image

from pld_mmdet.detection.data.masks import boxes_of
from pld_mmdet.detection.generators.cutouts.stamps import OPAQUE, Stamp, Stock

WIDTH, HEIGHT = 320, 240
THINGS = (2, 6)  # fewest and most
SIZES = (22.0, 120.0)  # pixels of the longer side before it is turned
TURN = 15.0  # degrees to either side
LIGHT = (0.8, 1.15)  # factor on a stamp's colours
VISIBLE = 0.25  # share of a thing that nothing may hide further
INSIDE = 0.6  # share of a thing that lies in the picture
FEWEST = 60  # pixels of a thing that show
_TRIES = 12


@dataclass(frozen=True)
class Thing:
    """What shows of a stamp in a scene.

    Args:
        stamp: Its name.
        kind: Number of its kind.
        box: Left, top, width, height in pixels.
        mask: [H, W] bool, the pixels that show.
        whole: Pixels it would have if nothing hid it.
    """

    stamp: str
    kind: int
    box: tuple[int, int, int, int]
    mask: np.ndarray
    whole: int


def draw_scene(
    stock: Stock, style: str, dice: np.random.Generator
) -> tuple[np.ndarray, list[Thing]]:
    """Draw a scene.

    Args:
        stock: Stamps and grounds.
        style: ``photo`` or ``clipart``.
        dice: Decides everything.

    Returns:
        [240, 320, 3] uint8 RGB, and its 2 to 6 things from the back to the front.
    """
    image = cut_ground(stock, (WIDTH, HEIGHT), dice).astype(np.float32)
    owner = np.zeros((HEIGHT, WIDTH), np.uint8)
    laid: list[tuple[Stamp, int]] = []
    wanted = int(dice.integers(THINGS[0], THINGS[1] + 1))
    for _ in range(_TRIES * wanted):
        stamp = any_stamp(stock, style, dice)
        sprite = turned(stamp, dice.uniform(*SIZES), dice)
        left, top = _place(sprite.shape, dice)
        if _fits(sprite, left, top, owner, [whole for _, whole in laid]):
            laid.append((stamp, int((sprite[..., 3] >= OPAQUE).sum())))
            lay(image, sprite, left, top, owner, len(laid))
        if len(laid) == wanted:
            break
    things = []
    numbers, boxes, _ = boxes_of(owner)
    for number, (x1, y1, x2, y2) in zip(numbers, boxes.tolist(), strict=True):
        stamp, whole = laid[number - 1]
        mask = owner == number
        things.append(
            Thing(stamp.name, stamp.kind, (x1, y1, x2 - x1, y2 - y1), mask, whole)
        )
    return np.clip(np.rint(image), 0, 255).astype(np.uint8), things


def any_stamp(stock: Stock, style: str, dice: np.random.Generator) -> Stamp:
    """A kind at random, then one of its stamps: kinds are equally frequent."""
    kinds = [stamps for stamps in stock.stamps[style] if stamps]
    stamps = kinds[dice.integers(len(kinds))]
    return stamps[dice.integers(len(stamps))]


def cut_ground(
    stock: Stock, size: tuple[int, int], dice: np.random.Generator
) -> np.ndarray:
    """A piece of a ground, width x height, mirrored or not; [H, W, 3] uint8."""
    ground = stock.grounds[dice.integers(len(stock.grounds))]
    height, width = ground.shape[:2]
    most = min(width / size[0], height / size[1])
    share = dice.uniform(most / 2, most)
    wide, tall = share * size[0], share * size[1]
    left, top = dice.uniform(0, width - wide), dice.uniform(0, height - tall)
    box = (left, top, left + wide, top + tall)
    piece = Image.fromarray(ground).resize(size, Image.Resampling.BILINEAR, box)
    pixels = np.asarray(piece)
    return pixels[:, ::-1] if dice.random() < 0.5 else pixels


def turned(
    stamp: Stamp, side: float, dice: np.random.Generator, turn: float = TURN
) -> np.ndarray:
    """A stamp scaled, turned, perhaps mirrored, brighter or darker.

    Args:
        stamp: The stamp.
        side: Pixels of its longer side.
        dice: Decides the rest.
        turn: Degrees by which it is turned at most.

    Returns:
        [H, W, 4] float32, colours multiplied by alpha, 0 to 255.
    """
    angle = np.deg2rad(dice.uniform(-turn, turn))
    mirrored, light = dice.random() < 0.5, dice.uniform(*LIGHT)
    level = next(
        (one for one in reversed(stamp.levels) if max(one.shape[:2]) >= side),
        stamp.levels[0],
    )
    height, width = level.shape[:2]
    scale = side / max(height, width)
    sin, cos = np.sin(angle), np.cos(angle)
    wide = int(np.ceil(scale * (abs(cos) * width + abs(sin) * height)))
    tall = int(np.ceil(scale * (abs(sin) * width + abs(cos) * height)))
    # from the middle of the sprite back to the middle of the stamp
    a, b, d, e = cos / scale, sin / scale, -sin / scale, cos / scale
    flip = -1 if mirrored else 1
    a, b = flip * a, flip * b
    c = width / 2 - a * wide / 2 - b * tall / 2
    f = height / 2 - d * wide / 2 - e * tall / 2
    image = Image.fromarray(level, "RGBa").transform(
        (wide, tall),
        Image.Transform.AFFINE,
        (a, b, c, d, e, f),
        Image.Resampling.BILINEAR,
    )
    sprite = np.array(image, np.float32)
    sprite[..., :3] = np.minimum(sprite[..., :3] * light, sprite[..., 3:])
    return sprite


def lay(
    image: np.ndarray,
    sprite: np.ndarray,
    left: int,
    top: int,
    owner: np.ndarray | None = None,
    number: int = 0,
) -> None:
    """Lay a sprite on an image in place, and note whose the pixels are now.

    Args:
        image: [H, W, 3] float32.
        sprite: [h, w, 4] float32, colours multiplied by alpha.
        left: Its place; parts outside are cut off.
        top: As ``left``.
        owner: [H, W] uint8.
        number: What ``owner`` becomes where the sprite is opaque.
    """
    place, part = _overlap(sprite.shape, image.shape, left, top)
    alpha = sprite[part][..., 3:]
    image[place] = image[place] * (1 - alpha / 255) + sprite[part][..., :3]
    if owner is not None:
        owner[place][alpha[..., 0] >= OPAQUE] = number


def _place(shape: tuple[int, ...], dice: np.random.Generator) -> tuple[int, int]:
    height, width = shape[:2]
    x = dice.uniform(-0.25 * width, WIDTH - 0.75 * width)
    y = dice.uniform(-0.25 * height, HEIGHT - 0.75 * height)
    return round(x), round(y)


def _overlap(
    shape: tuple[int, ...], canvas: tuple[int, ...], left: int, top: int
) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Where the sprite lies on the canvas, and which part of it."""
    y1, y2 = max(top, 0), min(top + shape[0], canvas[0])
    x1, x2 = max(left, 0), min(left + shape[1], canvas[1])
    place = slice(y1, y2), slice(x1, x2)
    return place, (slice(y1 - top, y2 - top), slice(x1 - left, x2 - left))


def _fits(
    sprite: np.ndarray, left: int, top: int, owner: np.ndarray, wholes: list[int]
) -> bool:
    """Whether enough of it lies inside, and enough of what it covers still shows."""
    solid = sprite[..., 3] >= OPAQUE
    place, part = _overlap(sprite.shape, owner.shape, left, top)
    shows = int(solid[part].sum())
    if shows < max(FEWEST, INSIDE * solid.sum()):
        return False
    covered = np.bincount(owner[place][solid[part]], minlength=len(wholes) + 1)
    before = np.bincount(owner.ravel(), minlength=len(wholes) + 1)
    rest = (before - covered)[1:]
    return all(
        left_over >= max(FEWEST, VISIBLE * whole)
        for left_over, whole, hidden in zip(rest, wholes, covered[1:], strict=True)
        if hidden
    )
