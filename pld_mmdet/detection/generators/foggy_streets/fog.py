"""The optical model of Foggy Cityscapes.

Sakaridis et al., Semantic Foggy Scene Understanding with Synthetic Data, IJCV 2018,
Eq. 1-2 (Koschmieder's law): I = J t + A (1 - t), t = exp(-beta d).
"""

import numpy as np

BETAS = (0.005, 0.01, 0.02)


def transmission(depth: np.ndarray, beta: float) -> np.ndarray:
    """Share of light that arrives through ``depth`` metres of homogeneous fog.

    Args:
        depth: Any shape, metres.
        beta: Attenuation in 1/m; 0.02 leaves about 150 m of visibility.

    Returns:
        Array like ``depth``, in 0-1.
    """
    return np.exp(-beta * depth)


def add_fog(
    image: np.ndarray, share: np.ndarray, airlight: float | np.ndarray
) -> np.ndarray:
    """Mix an image with airlight; linear in the 0-255 values, as the released set is.

    Args:
        image: HxWx3, 0-255.
        share: HxW transmission, 0-1.
        airlight: One number or one per channel, 0-255.

    Returns:
        HxWx3 uint8, rounded to the nearest integer (halves to even).
    """
    share = share[..., None]
    airlight = np.asarray(airlight, np.float32)
    foggy = image.astype(np.float32) * share + airlight * (1 - share)
    return np.clip(np.rint(foggy), 0, 255).astype(np.uint8)
