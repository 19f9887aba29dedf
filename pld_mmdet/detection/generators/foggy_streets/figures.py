"""People, bicycles and motorcycles: joints in 3-D, limbs as capsules.

A figure's joints are (along, across, up) in metres, so one skeleton serves every
heading; a limb is a capsule on the picture between two projected joints.
"""

import numpy as np

from pld_mmdet.detection.generators.foggy_streets.camera import Pose
from pld_mmdet.detection.generators.foggy_streets.canvas import Canvas, Colour

SKIN = np.array(
    [[140, 175, 225], [110, 150, 205], [70, 105, 160], [45, 65, 100]], float
)
HAIR = np.array([[25, 25, 30], [40, 60, 90], [90, 150, 190], [120, 120, 125]], float)
TOPS = np.array(
    [
        [45, 42, 40],
        [80, 60, 45],
        [40, 40, 150],
        [150, 90, 50],
        [70, 120, 70],
        [200, 200, 205],
        [60, 150, 210],
        [130, 120, 120],
        [110, 60, 110],
        [70, 80, 90],
    ],
    float,
)
TROUSERS = np.array([[40, 38, 36], [110, 70, 45], [70, 72, 75], [90, 120, 140]], float)
RUBBER: Colour = (30, 30, 32)
STEEL: Colour = (150, 150, 150)


def _pick(rng: np.random.Generator, palette: np.ndarray) -> Colour:
    colour = palette[rng.integers(len(palette))] * rng.uniform(0.8, 1.2)
    return tuple(np.clip(colour + rng.normal(0, 6, 3), 8, 245))


def _darker(colour: Colour, factor: float = 0.72) -> Colour:
    return tuple(channel * factor for channel in colour)


def _head(
    canvas: Canvas,
    at: tuple[float, float, float],
    rng: np.random.Generator,
    skin: Colour,
    helmet: Colour | None = None,
) -> None:
    hair = _pick(rng, HAIR)
    along, across, up = at
    canvas.disc(at, (0.105, 0.14), skin)
    if helmet is not None:
        canvas.disc((along, across, up + 0.035), (0.145, 0.13), helmet)
    else:
        canvas.disc((along - 0.02, across, up + 0.06), (0.115, 0.09), hair)


def _facing(pose: Pose) -> float:
    """1 when the figure shows its chest or back, 0 when it shows its side."""
    return abs(float(np.cos(pose.yaw)))


def draw_person(canvas: Canvas, pose: Pose, rng: np.random.Generator) -> None:
    """A pedestrian, standing or walking, 1.15-1.9 m tall."""
    tall = float(np.clip(rng.normal(1.72, 0.09), 1.5, 1.95))
    if rng.random() < 0.08:
        tall = rng.uniform(1.1, 1.4)
    k = tall / 1.75
    skin = _pick(rng, SKIN)
    top, legs = _pick(rng, TOPS), _pick(rng, TROUSERS)
    shoes = _darker(_pick(rng, TROUSERS), 0.5)
    stride = rng.uniform(0.0, 0.34) if rng.random() < 0.8 else 0.03
    swing = rng.choice([-1, 1]) * stride
    coat = rng.random() < 0.25
    hip, shoulder = 0.88 * k, 1.42 * k
    face = _facing(pose)
    chest = (0.27 + 0.15 * face) * k
    for sign, shade in ((-1, 0.75), (1, 1.0)):
        foot = (sign * swing, sign * 0.11 * k, 0.05)
        knee = (sign * swing * 0.55 + 0.05 * k, sign * 0.1 * k, 0.47 * k)
        start = (0.0, sign * 0.09 * k, hip)
        tone = _darker(legs, shade)
        canvas.limb(start, knee, (0.19 * k, 0.15 * k), tone)
        canvas.limb(knee, foot, (0.15 * k, 0.11 * k), tone)
        toe = (foot[0] + 0.15 * k, foot[1], 0.04)
        canvas.limb((foot[0] - 0.04, foot[1], 0.05), toe, (0.11 * k, 0.08 * k), shoes)
    sides = (-1, 1) if np.sin(pose.yaw) >= 0 else (1, -1)
    _arm(canvas, sides[0], swing, k, face, _darker(top), rng)
    low = 0.5 * k if coat else hip - 0.05 * k
    canvas.limb(
        (0, 0, shoulder), (0, 0, low), (chest, chest * (1.0 if coat else 0.82)), top
    )
    if rng.random() < 0.3:
        back = -0.16 * k
        hidden = np.cos(pose.yaw) < -0.5
        if not hidden:
            canvas.limb(
                (back, 0, shoulder - 0.05),
                (back, 0, hip + 0.12),
                (0.26 * k, 0.3 * k),
                _pick(rng, TOPS),
            )
    _arm(canvas, sides[1], swing, k, face, _darker(top, 0.85), rng)
    canvas.limb(
        (0, 0, shoulder), (0.01, 0, 1.52 * k), (0.13 * k, 0.11 * k), _pick(rng, SKIN)
    )
    _head(canvas, (0.02, 0.0, tall - 0.15 * k), rng, skin)
    if rng.random() < 0.12:
        canvas.limb(
            (0.05, sides[1] * 0.3 * k, 0.75 * k),
            (0.05, sides[1] * 0.3 * k, 0.45 * k),
            (0.2, 0.26),
            _pick(rng, TOPS),
        )


def _arm(
    canvas: Canvas,
    sign: int,
    swing: float,
    k: float,
    face: float,
    colour: Colour,
    rng: np.random.Generator,
) -> None:
    out = sign * (0.13 + 0.09 * face) * k
    hand = (-sign * swing * 0.8 + 0.06, out * 1.25, 0.85 * k)
    elbow = (-sign * swing * 0.3, out * 1.15, 1.12 * k)
    canvas.limb((0, out, 1.4 * k), elbow, (0.12 * k, 0.11 * k), colour)
    canvas.limb(elbow, hand, (0.11 * k, 0.08 * k), colour)


def draw_bicycle(canvas: Canvas, pose: Pose, rng: np.random.Generator) -> None:
    """A bicycle: two spoked wheels, a diamond frame, saddle and handlebar."""
    frame = tuple(rng.uniform(20, 210, 3))
    for along in (-0.52, 0.52):
        rim = canvas.wheel(along, 0.0, 0.34)
        # The outline counts the wheel as a disc, as human annotators do.
        canvas.fill(rim, None)
        canvas.stroke(rim, RUBBER, 0.055)
        for angle in (0.4, 1.45, 2.5):
            reach = np.array([np.cos(angle), np.sin(angle)]) * 0.3
            canvas.limb(
                (along - reach[0], 0, 0.34 - reach[1]),
                (along + reach[0], 0, 0.34 + reach[1]),
                (0.012, 0.012),
                STEEL,
            )
    bottom, seat, steer = (-0.1, 0, 0.3), (-0.22, 0, 0.85), (0.38, 0, 0.85)
    rear, front = (-0.52, 0, 0.34), (0.52, 0, 0.34)
    for start, end in (
        (rear, bottom),
        (rear, seat),
        (bottom, seat),
        (bottom, steer),
        (seat, steer),
        (steer, front),
    ):
        canvas.limb(start, end, (0.055, 0.055), frame)
    canvas.limb((0.38, 0, 0.85), (0.36, 0, 1.0), (0.05, 0.05), STEEL)
    canvas.limb((0.4, -0.3, 1.02), (0.4, 0.3, 1.02), (0.05, 0.05), RUBBER)
    canvas.limb((-0.34, 0, 0.95), (-0.12, 0, 0.94), (0.12, 0.07), RUBBER)
    canvas.limb((-0.22, 0, 0.95), (-0.2, 0, 0.85), (0.06, 0.06), STEEL)
    canvas.limb((-0.1, -0.1, 0.2), (-0.1, 0.1, 0.4), (0.06, 0.06), RUBBER)
    if rng.random() < 0.25:
        basket = tuple(rng.uniform(40, 140, 3))
        canvas.limb((0.58, 0, 0.95), (0.56, 0, 0.72), (0.3, 0.24), basket)


def draw_motorcycle(canvas: Canvas, pose: Pose, rng: np.random.Generator) -> None:
    """A motorcycle or scooter: fat wheels, engine, tank, saddle, headlamp."""
    paint = tuple(rng.uniform(15, 225, 3)) if rng.random() < 0.75 else (40, 40, 42)
    scooter = rng.random() < 0.3
    radius = 0.25 if scooter else 0.32
    base = 0.62 if scooter else 0.72
    towards = np.cos(pose.yaw) < 0
    order = (-base, base) if towards else (base, -base)
    for along in order:
        for across in (-0.06, 0.06):
            canvas.fill(canvas.wheel(along, across, radius), RUBBER)
        canvas.fill(canvas.wheel(along, 0.0, radius * 0.55), (125, 125, 125))
        canvas.stroke(canvas.wheel(along, 0.0, radius * 0.9), RUBBER, 0.13)
    canvas.limb((-0.1, 0, 0.45), (0.22, 0, 0.5), (0.42, 0.36), (75, 75, 78))
    canvas.limb((-0.75, 0.13, 0.35), (0.1, 0.13, 0.38), (0.11, 0.09), (160, 160, 160))
    canvas.limb((base, 0, radius), (0.48, 0, 0.95), (0.12, 0.1), STEEL)
    canvas.limb(
        (0.62, 0, radius + 0.32), (base + 0.1, 0, radius + 0.3), (0.14, 0.1), paint
    )
    canvas.limb((-0.8, 0, 0.72), (-0.2, 0, 0.72), (0.16, 0.28), paint)
    canvas.limb((-0.72, 0, 0.83), (-0.1, 0, 0.8), (0.13, 0.13), RUBBER)
    if scooter:
        canvas.limb((0.15, 0, 0.32), (-0.3, 0, 0.35), (0.2, 0.3), paint)
        canvas.limb((0.42, 0, 0.3), (0.5, 0, 0.92), (0.3, 0.26), paint)
    else:
        canvas.limb((-0.08, 0, 0.8), (0.34, 0, 0.88), (0.24, 0.3), paint)
    canvas.limb((0.46, -0.36, 1.02), (0.46, 0.36, 1.02), (0.06, 0.06), RUBBER)
    for sign in (-1, 1):
        canvas.limb(
            (0.46, sign * 0.3, 1.05), (0.44, sign * 0.38, 1.2), (0.03, 0.1), RUBBER
        )
    if towards or _facing(pose) < 0.8:
        canvas.disc((0.6, 0, 0.9), (0.13, 0.13), paint)
        canvas.disc((0.62, 0, 0.9), (0.09, 0.09), (225, 235, 240))
    if not towards:
        canvas.disc((-0.85, 0, 0.72), (0.08, 0.06), (40, 30, 200))
        canvas.limb((-0.9, 0, 0.6), (-0.88, 0, 0.5), (0.17, 0.17), (200, 205, 205))


def draw_rider(
    canvas: Canvas, pose: Pose, rng: np.random.Generator, motorcycle: bool
) -> None:
    """Somebody on a bicycle or motorcycle that stands at the same pose."""
    skin = _pick(rng, SKIN)
    top, legs = _pick(rng, TOPS), _pick(rng, TROUSERS)
    face = _facing(pose)
    seat = (-0.3, 0.0, 0.86) if motorcycle else (-0.22, 0.0, 0.95)
    neck = (0.02, 0.0, 1.38) if motorcycle else (0.12, 0.0, 1.45)
    hand_up, hand_out = (1.04, 0.33) if motorcycle else (1.04, 0.26)
    grip = 0.44 if motorcycle else 0.4
    phase = rng.uniform(0, 2 * np.pi)
    sides = (-1, 1) if np.sin(pose.yaw) >= 0 else (1, -1)
    chest = 0.27 + 0.17 * face
    for index, sign in enumerate(sides):
        if motorcycle:
            foot = (0.05, sign * 0.2, 0.3)
            knee = (0.22, sign * 0.24, 0.72)
        else:
            turn = phase + np.pi * index
            foot = (-0.1 + 0.17 * np.cos(turn), sign * 0.13, 0.3 + 0.17 * np.sin(turn))
            knee = (0.18 + 0.05 * np.cos(turn), sign * 0.14, 0.66 + 0.1 * np.sin(turn))
        tone = _darker(legs, 0.75 if index == 0 else 1.0)
        canvas.limb((seat[0], sign * 0.1, seat[2]), knee, (0.2, 0.16), tone)
        canvas.limb(knee, foot, (0.15, 0.11), tone)
        canvas.limb(
            foot, (foot[0] + 0.16, foot[1], foot[2] - 0.02), (0.11, 0.08), (30, 30, 32)
        )
        shoulder = (neck[0], sign * (0.08 + 0.1 * face), neck[2] - 0.03)
        elbow = (0.22, sign * (0.2 + 0.1 * face), 1.15)
        sleeve = _darker(top, 0.7 if index == 0 else 0.88)
        if index == 1:
            canvas.limb(seat, neck, (chest * 0.9, chest), top)
        canvas.limb(shoulder, elbow, (0.12, 0.11), sleeve)
        canvas.limb(elbow, (grip, sign * hand_out, hand_up), (0.1, 0.08), sleeve)
    if not motorcycle and rng.random() < 0.25 and np.cos(pose.yaw) > -0.5:
        canvas.limb(
            (neck[0] - 0.2, 0, neck[2] - 0.08),
            (seat[0] - 0.1, 0, 1.12),
            (0.25, 0.28),
            _pick(rng, TOPS),
        )
    covered = motorcycle or rng.random() < 0.5
    helmet = tuple(rng.uniform(20, 230, 3)) if covered else None
    head = (neck[0] + 0.1, 0.0, neck[2] + 0.2)
    canvas.limb(neck, head, (0.13, 0.11), skin)
    _head(canvas, head, rng, skin, helmet)
