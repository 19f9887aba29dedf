"""The strong view: photometric only, and what each part does."""

import numpy as np
import pytest

from pld_mmdet.detection.data.views import (
    RandomColorJitter,
    RandomEraseNoise,
    RandomGaussianBlur,
    RandomGrayscale,
)


@pytest.fixture
def image():
    return np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    "transform",
    [
        RandomColorJitter(prob=1.0),
        RandomGrayscale(prob=1.0),
        RandomGaussianBlur(prob=1.0),
        RandomEraseNoise(prob=1.0),
    ],
    ids=lambda t: type(t).__name__,
)
def test_changes_pixels_only_and_leaves_the_input_alone(transform, image):
    np.random.seed(0)
    before = image.copy()
    results = transform(dict(img=image, img_shape=(40, 60)))
    assert results["img"].shape == image.shape
    assert results["img"].dtype == np.uint8
    assert (results["img"] != before).any()
    assert np.array_equal(image, before)
    transform.prob = 0.0
    assert np.array_equal(transform(dict(img=image))["img"], before)


def test_gray_weights_follow_the_order_of_channels():
    blue = np.zeros((1, 1, 3), np.uint8)
    blue[..., 0] = 200  # first channel
    as_bgr = RandomGrayscale(1.0, "bgr")(dict(img=blue))["img"]
    as_rgb = RandomGrayscale(1.0, "rgb")(dict(img=blue))["img"]
    assert as_bgr.ravel().tolist() == [23, 23, 23]  # 0.114 * 200
    assert as_rgb.ravel().tolist() == [60, 60, 60]  # 0.299 * 200
    with pytest.raises(ValueError, match="channel_order"):
        RandomGrayscale(1.0, "gbr")


def test_jitter_of_zero_strength_is_the_identity(image):
    jitter = RandomColorJitter(0.0, 0.0, 0.0, 0.0, prob=1.0)
    # hue goes through 8-bit HSV: off by rounding only
    assert np.abs(jitter(dict(img=image))["img"].astype(int) - image).max() <= 6


def test_jitter_of_floats_is_that_of_bytes(image):
    for seed in range(12):  # all four operations come first
        changed = []
        for kind in (np.uint8, np.float32):
            np.random.seed(seed)
            given = dict(img=image.astype(kind))
            changed.append(RandomColorJitter(prob=1.0).transform(given)["img"])
        assert changed[1].dtype == np.uint8
        assert np.array_equal(*changed)


@pytest.mark.parametrize(
    "transform",
    [
        RandomColorJitter(prob=1.0),
        RandomGrayscale(prob=1.0),
        RandomEraseNoise(area=(0.1, 0.11), prob=1.0),
    ],
    ids=lambda t: type(t).__name__,
)
def test_images_of_another_range_get_a_sentence(transform, image):
    share, normal = image / 255, (image - 120.0) / 60
    for given in (share, normal, image - 123.7, image.astype(np.uint16) * 257):
        with pytest.raises(ValueError, match=f"0 to 255, got {given.dtype} from"):
            transform(dict(img=given))
    over = np.where(image > 200, 255 + 30.5, image).astype(np.float32)  # bicubic
    black = np.zeros_like(over)
    for given in (over, black):
        assert transform(dict(img=given))["img"].dtype == np.uint8


def test_brightness_factor_range():
    np.random.seed(0)
    flat = np.full((2, 2, 3), 100, np.uint8)
    jitter = RandomColorJitter(0.4, 0.0, 0.0, 0.0, prob=1.0)
    values = [jitter(dict(img=flat))["img"][0, 0, 0] for _ in range(200)]
    assert 60 <= min(values) < 70
    assert 130 < max(values) <= 140


def test_erased_area_lies_in_its_range():
    np.random.seed(0)
    flat = np.full((100, 200, 3), 127, np.uint8)
    erase = RandomEraseNoise(area=(0.05, 0.2), ratio=(0.3, 3.3), prob=1.0)
    for _ in range(50):
        changed = (erase(dict(img=flat))["img"] != 127).any(-1)
        rows, columns = np.nonzero(changed)
        box = (np.ptp(rows) + 1) * (np.ptp(columns) + 1)
        assert 0.04 <= box / changed.size <= 0.21
