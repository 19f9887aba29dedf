"""How a scene looks in a domain: photo, cartoon, night, clip art."""

import cv2
import numpy as np

# Domain -> style of its stamps; a cartoon and a night are photos that were changed.
DOMAINS = {"photo": "photo", "cartoon": "photo", "night": "photo", "clipart": "clipart"}
LEVELS = 6


def shifted(image: np.ndarray, domain: str, dice: np.random.Generator) -> np.ndarray:
    """A scene as its domain shows it.

    Args:
        image: [H, W, 3] uint8 RGB.
        domain: Of :data:`DOMAINS`.
        dice: Decides what is random about it.

    Returns:
        As ``image``; photo and clip art are not changed.
    """
    if domain == "cartoon":
        return cartoon(image)
    return night(image, dice) if domain == "night" else image


def cartoon(image: np.ndarray) -> np.ndarray:
    """Flat colours in six levels, more saturated, with black edges."""
    smooth = image
    for _ in range(2):
        smooth = cv2.bilateralFilter(smooth, 7, 50, 7)
    steps = LEVELS - 1
    flat = np.rint(np.rint(smooth / 255 * steps) * (255 / steps))
    grey = flat.mean(axis=2, keepdims=True)
    vivid = np.clip(grey + 1.5 * (flat - grey), 0, 255).astype(np.uint8)
    tone = cv2.medianBlur(cv2.cvtColor(smooth, cv2.COLOR_RGB2GRAY), 5)
    lines = cv2.adaptiveThreshold(
        tone, 255, cv2.ADAPTIVE_THRESH_MEAN_C, cv2.THRESH_BINARY, 9, 4
    )
    vivid[lines == 0] = 0
    return vivid


def night(image: np.ndarray, dice: np.random.Generator) -> np.ndarray:
    """Dark (gamma 1.9 to 2.6, gain 0.25 to 0.45), blue, with lamps and shot noise."""
    gamma, gain = dice.uniform(1.9, 2.6), dice.uniform(0.25, 0.45)
    curve = ((np.arange(256) / 255) ** gamma * gain).astype(np.float32)
    light = curve[image] * np.float32([0.8, 0.9, 1.25])
    height, width = image.shape[:2]
    rows, columns = np.ogrid[:height, :width]
    for _ in range(dice.integers(0, 4)):
        x, y, radius = (
            dice.uniform(0, width),
            dice.uniform(0, height),
            dice.uniform(6, 22),
        )
        far = ((columns - x) ** 2 + (rows - y) ** 2) / radius**2
        glow = (np.exp(-far) + 0.25 * np.exp(-far / 9)).astype(np.float32)
        light += dice.uniform(0.3, 0.8) * glow[..., None] * np.float32([1, 0.85, 0.55])
    photons = np.float32(dice.uniform(150, 400))
    # a normal of the same variance: Poisson draws take ten times as long
    light += dice.standard_normal(light.shape, np.float32) * np.sqrt(light / photons)
    return np.clip(np.rint(light * 255), 0, 255).astype(np.uint8)
