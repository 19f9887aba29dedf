"""The photometric strong view shared by LPLD, IRG and PS-TTL.

Geometry is untouched: boxes of the weak view are boxes of the strong view. The
recipe is Unbiased Teacher's (colour jitter, grayscale, blur, three random erasings);
parameters from LPLD's released loader.
"""

import cv2
import numpy as np
from mmcv.transforms import BaseTransform

from pld_mmdet.registry import TRANSFORMS

# ITU-R 601 luma, in the order of the channels as they are *read*.
_LUMA = {
    "bgr": np.array([0.114, 0.587, 0.299], np.float32),
    "rgb": np.array([0.299, 0.587, 0.114], np.float32),
}
_TO_HSV = {"bgr": cv2.COLOR_BGR2HSV, "rgb": cv2.COLOR_RGB2HSV}
_FROM_HSV = {"bgr": cv2.COLOR_HSV2BGR, "rgb": cv2.COLOR_HSV2RGB}


class _ReadsChannels(BaseTransform):
    """Base of the transforms whose result depends on which channel is which.

    Args:
        prob: Probability of applying the transform.
        channel_order: ``'bgr'`` is right for images loaded by mmcv. The released code
            of LPLD hands BGR bytes to a library that reads RGB; ``'rgb'`` repeats it.
    """

    def __init__(self, prob: float, channel_order: str) -> None:
        if channel_order not in _LUMA:
            raise ValueError(f"channel_order is 'bgr' or 'rgb', got {channel_order!r}")
        self.prob = prob
        self.channel_order = channel_order

    def _gray(self, image: np.ndarray) -> np.ndarray:
        return image.astype(np.float32) @ _LUMA[self.channel_order]  # H x W


def _as_bytes(image: np.ndarray) -> np.ndarray:
    """The image as uint8; others (CenterNet's floats) are rounded and cut to 0..255.

    Raises:
        ValueError: The values are of another range: 16 bits, 0..1, or normalised. What
            resizing adds beyond 0..255 is no reason.
    """
    if image.dtype == np.uint8:
        return image
    low, high = image.min(initial=0), image.max(initial=0)
    small = max(-low, high) <= 4 and (image != image.round()).any()
    if low < -64 or high > 320 or small:
        raise ValueError(
            f"The strong view reads images of 0 to 255, got {image.dtype} from "
            f"{low:.4g} to {high:.4g}: load 8 bits (color_type='color') and "
            "leave scaling to the data preprocessor"
        )
    return _blend(image, 0.0, 1.0)


def _blend(image: np.ndarray, other: np.ndarray | float, factor: float) -> np.ndarray:
    """``factor * image + (1 - factor) * other`` in uint8."""
    mixed = factor * image.astype(np.float32) + (1.0 - factor) * other
    return mixed.clip(0, 255).round().astype(np.uint8)


@TRANSFORMS.register_module()
class RandomColorJitter(_ReadsChannels):
    """Brightness, contrast, saturation and hue, in random order.

    Args:
        brightness: Factor drawn from [1 - b, 1 + b]; likewise the next two.
        contrast: Blend with the mean luma.
        saturation: Blend with the gray image.
        hue: Shift drawn from [-h, h], in turns of the colour circle.
        prob: Probability of applying all of it.
        channel_order: See :class:`_ReadsChannels`.
    """

    def __init__(
        self,
        brightness: float = 0.4,
        contrast: float = 0.4,
        saturation: float = 0.4,
        hue: float = 0.1,
        prob: float = 0.8,
        channel_order: str = "bgr",
    ) -> None:
        super().__init__(prob, channel_order)
        self.strengths = (brightness, contrast, saturation)
        self.hue = hue

    def transform(self, results: dict) -> dict:
        """Change ``results['img']`` (H x W x 3, 0 to 255) to uint8."""
        if np.random.rand() >= self.prob:
            return results
        image = _as_bytes(results["img"])
        for operation in np.random.permutation(4):
            if operation == 3:
                image = self._shift_hue(image, np.random.uniform(-self.hue, self.hue))
                continue
            strength = self.strengths[operation]
            factor = np.random.uniform(max(0.0, 1.0 - strength), 1.0 + strength)
            if operation == 0:
                other = 0.0
            elif operation == 1:
                other = float(self._gray(image).mean())
            else:
                other = self._gray(image)[..., None]
            image = _blend(image, other, factor)
        results["img"] = image
        return results

    def _shift_hue(self, image: np.ndarray, turns: float) -> np.ndarray:
        hsv = cv2.cvtColor(image, _TO_HSV[self.channel_order])  # hue in 0..179
        hsv[..., 0] = (hsv[..., 0].astype(np.int16) + round(turns * 180)) % 180
        return cv2.cvtColor(hsv, _FROM_HSV[self.channel_order])


@TRANSFORMS.register_module()
class RandomGrayscale(_ReadsChannels):
    """Replace all channels by luma with probability ``prob``."""

    def __init__(self, prob: float = 0.2, channel_order: str = "bgr") -> None:
        super().__init__(prob, channel_order)

    def transform(self, results: dict) -> dict:
        """Change ``results['img']`` (H x W x 3, uint8)."""
        if np.random.rand() < self.prob:
            gray = self._gray(_as_bytes(results["img"])).round().astype(np.uint8)
            results["img"] = np.repeat(gray[..., None], 3, axis=2)
        return results


@TRANSFORMS.register_module()
class RandomGaussianBlur(BaseTransform):
    """Blur with a sigma (pixels) drawn from ``sigma`` with probability ``prob``."""

    def __init__(self, sigma: tuple[float, float] = (0.1, 2.0), prob: float = 0.5):
        self.sigma = sigma
        self.prob = prob

    def transform(self, results: dict) -> dict:
        """Change ``results['img']`` (H x W x 3, uint8)."""
        if np.random.rand() < self.prob:
            sigma = np.random.uniform(*self.sigma)
            results["img"] = cv2.GaussianBlur(results["img"], (0, 0), sigma)
        return results


@TRANSFORMS.register_module()
class RandomEraseNoise(BaseTransform):
    """Overwrite one random rectangle with noise.

    Args:
        area: Range of the rectangle's share of the image.
        ratio: Range of height / width, drawn on a log scale.
        prob: Probability of erasing.

    A rectangle that does not fit is drawn again, ten times at most. The noise is
    uniform bytes: the release multiplies normal noise by 255 and lets the cast to bytes
    wrap around, which comes to the same.
    """

    def __init__(
        self,
        area: tuple[float, float] = (0.05, 0.2),
        ratio: tuple[float, float] = (0.3, 3.3),
        prob: float = 0.7,
    ) -> None:
        self.area = area
        self.log_ratio = tuple(np.log(ratio))
        self.prob = prob

    def transform(self, results: dict) -> dict:
        """Change ``results['img']`` (H x W x 3, uint8)."""
        if np.random.rand() >= self.prob:
            return results
        height, width = results["img"].shape[:2]
        for _ in range(10):
            area = height * width * np.random.uniform(*self.area)
            ratio = np.exp(np.random.uniform(*self.log_ratio))
            h, w = round(np.sqrt(area * ratio)), round(np.sqrt(area / ratio))
            if h < height and w < width:
                top = np.random.randint(0, height - h + 1)
                left = np.random.randint(0, width - w + 1)
                noise = np.random.randint(0, 256, (h, w, 3), dtype=np.uint8)
                # copied: the weak view may share the memory
                image = _as_bytes(results["img"]).copy()
                image[top : top + h, left : left + w] = noise
                results["img"] = image
                break
        return results
