"""Images for the benchmark: the embedded data when they are there, else made up."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
from mmengine.config import Config
from mmengine.dataset import Compose, pseudo_collate

ROOT = Path(__file__).resolve().parents[2]
FOGGY_STREETS = ROOT / "data" / "foggy_streets"
PATTERN = "leftImg8bit_foggy/train/*/*_foggy_beta_0.02.png"


@contextmanager
def image_files(count: int) -> Iterator[tuple[list[str], str]]:
    """Paths of ``count`` images of 384 x 192 pixels and one word on their origin.

    Args:
        count: The first ones of FoggyStreets' foggy training images; if there are
            fewer, so many are drawn into a temporary folder.
    """
    found = sorted(str(p) for p in FOGGY_STREETS.glob(PATTERN))
    if len(found) >= count:
        yield found[:count], "FoggyStreets"
        return
    with tempfile.TemporaryDirectory() as folder:
        generator = np.random.default_rng(0)
        paths = [str(Path(folder) / f"{n:04d}.png") for n in range(count)]
        for path in paths:
            cv2.imwrite(path, _random_scene(generator))
        yield paths, "generated at random"


def _random_scene(generator: np.random.Generator) -> np.ndarray:
    """A smooth background with some rectangles and noise, 192 x 384 x 3 bytes."""
    coarse = generator.integers(60, 200, (6, 12, 3)).astype(np.uint8)
    image = cv2.resize(coarse, (384, 192), interpolation=cv2.INTER_CUBIC)
    for _ in range(12):
        x, y = generator.integers(0, 340), generator.integers(0, 150)
        w, h = generator.integers(8, 80), generator.integers(8, 60)
        colour = generator.integers(0, 256, 3).tolist()
        cv2.rectangle(image, (x, y), (x + w, y + h), colour, -1)
    noise = generator.normal(0, 4, image.shape)
    return (image + noise).clip(0, 255).astype(np.uint8)


def training_batch(cfg: Config, paths: list[str]) -> dict:
    """A collated weak and strong batch, made by the config's own pipeline.

    Args:
        cfg: With ``train_pipeline`` (its resize decides the size).
        paths: One image each.
    """
    pipeline = Compose(cfg.train_pipeline)
    np.random.seed(0)  # the strong view is random
    return pseudo_collate(
        [pipeline(dict(img_path=p, img_id=n)) for n, p in enumerate(paths)]
    )
