"""How samples look: panels, uint8 [H, W, 3], from N x ... arrays."""

from collections.abc import Sequence

import numpy as np

# Okabe-Ito
COLOURS = np.array(
    [
        (0, 114, 178),
        (230, 159, 0),
        (0, 158, 115),
        (213, 94, 0),
        (204, 121, 167),
        (86, 180, 233),
        (240, 228, 66),
        (0, 0, 0),
    ],
    dtype=np.uint8,
)


def points(samples: np.ndarray, reach: float = 1.2, side: int = 220) -> np.ndarray:
    """Points of the plane [N, 2] inside a square from -reach to reach, darker = more.

    Points outside are left out.
    """
    edges = np.linspace(-reach, reach, side + 1)
    x, y = samples.reshape(len(samples), -1).T[:2]
    count = np.histogram2d(-y, x, (edges, edges))[0]
    ink = 1 - 0.5 ** (2 * count)
    shade = 255 - ink[..., None] * (255 - COLOURS[0].astype(float))
    return shade.round().astype(np.uint8)


def tokens(samples: np.ndarray, count: int = 24, pixels: int = 9) -> np.ndarray:
    """Sequences [N, L] of token numbers: a line each, a colour a token."""
    lines = COLOURS[samples[:count].astype(int) % len(COLOURS)]
    return lines.repeat(pixels, 0).repeat(pixels, 1)


def images(
    samples: np.ndarray,
    which: Sequence[int] = range(16),
    columns: int = 4,
) -> np.ndarray:
    """Pictures [N, 1 or 3, H, W] in [0, 1] as a grid of those that are named."""
    chosen = np.clip(samples[[i for i in which if i < len(samples)]], 0, 1)
    if chosen.shape[1] == 1:
        chosen = chosen.repeat(3, 1)
    lines = -(-len(chosen) // columns)
    _, _, height, width = chosen.shape
    grid = np.ones((lines * (height + 1), columns * (width + 1), 3))
    for number, picture in enumerate(chosen.transpose(0, 2, 3, 1)):
        y, x = number // columns * (height + 1), number % columns * (width + 1)
        grid[y : y + height, x : x + width] = picture
    return (255 * grid).round().astype(np.uint8)
