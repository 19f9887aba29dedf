"""Strong views: colour operations on tensors (batches) and on arrays (samples)."""

import math

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from pld_mmdet.registry import TRANSFORMS

# Rows: Y, I, Q of R, G, B (NTSC). Of the CPU, also where a network that is built on the
# meta device is the first to import this.
_YIQ = torch.tensor(
    [[0.299, 0.587, 0.114], [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]],
    device="cpu",
)


def color_jitter(images: Tensor, strength: float) -> Tensor:
    """Brightness, contrast, saturation and hue, one draw for the batch.

    Args:
        images: N x 3 x H x W, BGR, 0-255.
        strength: Factors are uniform in 1 +- strength, the hue turns by up to that
            share of a full turn.

    Returns:
        Of the same shape, 0-255.
    """
    bright, contrast, saturate, turn = (torch.rand(4) * 2 - 1).mul(strength).tolist()
    images = (images * (1 + bright)).clamp(0, 255)
    mean = images.mean((1, 2, 3), keepdim=True)
    images = (mean + (images - mean) * (1 + contrast)).clamp(0, 255)
    c, s = math.cos(2 * math.pi * turn), math.sin(2 * math.pi * turn)
    rotate = (1 + saturate) * torch.tensor([[c, -s], [s, c]])
    middle = torch.block_diag(torch.ones(1, 1), rotate)
    to_yiq = _YIQ.flip(1)  # the images are BGR
    matrix = (torch.linalg.inv(to_yiq) @ middle @ to_yiq).to(images)
    return torch.einsum("ij,njhw->nihw", matrix, images).clamp(0, 255)


def blur(images: Tensor, sigma: float) -> Tensor:
    """Gaussian blur of N x C x H x W with reflected borders, ``sigma`` in pixels."""
    reach = min(max(1, math.ceil(3 * sigma)), min(images.shape[-2:]) - 1)
    places = torch.arange(-reach, reach + 1, device=images.device)
    kernel = (-(places**2) / (2 * sigma**2)).exp()
    kernel = (kernel / kernel.sum()).to(images)
    channels = images.shape[1]
    across = kernel.expand(channels, 1, 1, -1)
    images = F.pad(images, (reach, reach, reach, reach), mode="reflect")
    images = F.conv2d(images, across, groups=channels)
    return F.conv2d(images, across.transpose(2, 3), groups=channels)


def _jitter(image: np.ndarray, strength: float = 0.2, turn: float = 0.2) -> np.ndarray:
    """Brightness, contrast and saturation within ``strength``, hue within ``turn``."""
    bright, contrast, saturate = np.random.uniform(1 - strength, 1 + strength, 3)
    image = image.astype(np.float32) * bright
    image = image.mean() + (image - image.mean()) * contrast
    image = image.clip(0, 255).astype(np.uint8)
    hsv = cv2.cvtColor(image, cv2.COLOR_BGR2HSV).astype(np.float32)
    turned = np.random.uniform(-180 * turn, 180 * turn)  # OpenCV: 180 is a turn
    hsv[..., 0] = (hsv[..., 0] + turned) % 180
    hsv[..., 1] = (hsv[..., 1] * saturate).clip(0, 255)
    return cv2.cvtColor(hsv.astype(np.uint8), cv2.COLOR_HSV2BGR)


def _blur(image: np.ndarray, kernel: tuple[int, int]) -> np.ndarray:
    size = 2 * np.random.randint(kernel[0] // 2, kernel[1] // 2 + 1) + 1
    return cv2.GaussianBlur(image, (size, size), 0)


def _contrast(image: np.ndarray, mild: bool = False) -> np.ndarray:
    if mild:
        changed = image.mean() + (image - image.mean()) * np.random.uniform(0.8, 1.2)
    else:  # about black: most images become much brighter
        changed = image * np.random.uniform(1.0, 4.0)
    return changed.clip(0, 255).astype(np.uint8)


def _brightness(image: np.ndarray, mild: bool = False) -> np.ndarray:
    limit = 0.2 if mild else 0.5
    changed = image + 255 * np.random.uniform(-limit, limit)
    return changed.clip(0, 255).astype(np.uint8)


def _posterise(image: np.ndarray) -> np.ndarray:
    return image & 0xF0


def _equalise(image: np.ndarray) -> np.ndarray:
    return cv2.merge([cv2.equalizeHist(channel) for channel in cv2.split(image)])


def _solarise(image: np.ndarray) -> np.ndarray:
    return np.where(image < 128, image, 255 - image)


def _grey(image: np.ndarray) -> np.ndarray:
    return cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2BGR)


def strong_view(
    image: np.ndarray,
    operations: int,
    probability: float,
    kernel: tuple[int, int],
    mild: bool = False,
) -> np.ndarray:
    """HIAST's strong view: some of eight colour operations, without replacement.

    As released (augmentations.py of bupt-ai-cz/HIAST): colour jitter within 20 %, blur,
    contrast times 1 to 4 about black, brightness within 50 % of white, four bits,
    equalised, solarised at 128, grey.

    Args:
        image: H x W x 3 uint8, BGR.
        operations: How many are chosen.
        probability: Of each chosen one to be applied.
        kernel: Smallest and largest odd kernel of the blur.
        mild: Contrast within 20 % about the image's mean and brightness within 20 %.

    Returns:
        A new image of the same shape and type.
    """
    every = (
        _jitter, _blur, _contrast, _brightness, _posterise, _equalise, _solarise, _grey
    )  # fmt: skip
    image = image.copy()
    for number in np.random.permutation(len(every))[:operations]:
        if np.random.uniform() < probability:
            apply = every[number]
            if apply is _blur:
                image = apply(image, kernel)
            elif apply in (_contrast, _brightness):
                image = apply(image, mild)
            else:
                image = apply(image)
    return image


def photo_view(
    image: np.ndarray,
    jitter: float = 0.8,
    grey: float = 0.2,
    blurred: float = 0.5,
    bright: float = 0.0,
) -> np.ndarray:
    """The strong view of ST++, UniMatch and their followers; geometry stays.

    Colour jitter (brightness, contrast and saturation within 50 %, hue within a quarter
    of a turn), grey, a Gaussian blur of sigma 0.1 to 2 pixels, and a shift of all
    values by up to 10, each with its own probability.

    Args:
        image: H x W x 3 uint8, BGR.
        jitter: Probability of the colour jitter [0.8, UniMatch's code].
        grey: Of a grey image [0.2, ibid.].
        blurred: Of the blur [0.5, ibid.].
        bright: Of the shift [0; 0.5 in AGMM's code].

    Returns:
        A new image of the same shape and type.
    """
    image = image.copy()
    if np.random.uniform() < jitter:
        image = _jitter(image, 0.5, 0.25)
    if np.random.uniform() < grey:
        image = _grey(image)
    if np.random.uniform() < blurred:
        image = cv2.GaussianBlur(image, (0, 0), np.random.uniform(0.1, 2.0))
    if np.random.uniform() < bright:
        shifted = image.astype(np.float32) + np.random.uniform(-10, 10)
        image = shifted.round().clip(0, 255).astype(np.uint8)
    return image


@TRANSFORMS.register_module()
class PhotoView:
    """Replace the image by its :func:`photo_view`.

    Args:
        probabilities: Arguments of :func:`photo_view`.
    """

    def __init__(self, **probabilities: float) -> None:
        self.probabilities = probabilities

    def __call__(self, results: dict) -> dict:
        """Change ``img``."""
        results["img"] = photo_view(results["img"], **self.probabilities)
        return results
