"""A few files in the layouts of published data sets."""

from pathlib import Path

import cv2
import numpy as np

RNG = np.random.default_rng


def picture(path: Path, seed: int, shape=(40, 48), channels: int = 3) -> None:
    """Smooth colours, so that crops and JPEG leave something of them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    coarse = RNG(seed).integers(0, 256, (4, 5, channels)).astype(np.uint8)
    cv2.imwrite(str(path), cv2.resize(coarse, shape[::-1]))


def cifar(path: Path, cfg, classes: int = 100, images: int = 8) -> None:
    """The binary version, so many images a file."""
    label_bytes = {10: 1, 100: 2}[classes]
    names = ["train.bin", "test.bin"]
    if classes == 10:
        names = [*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin"]
    path.mkdir(parents=True)
    for number, name in enumerate(names):
        table = RNG(number).integers(0, 256, (images, label_bytes + 3072), np.uint8)
        table[:, :label_bytes] = np.arange(images)[:, None] % classes
        table.tofile(path / name)


def class_folder(path: Path, cfg, classes: int = 3, images: int = 4) -> None:
    """``<class>/<name>.JPEG``."""
    for number in range(classes * images):
        at = path / f"n{number % classes:08d}" / f"{number}.JPEG"
        picture(at, number, shape=(36 + number % 3, 40))


def lines(path: Path, cfg, text: list) -> None:
    """A text file of these lines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in text))


KINDS = dict(
    cifar10=lambda path, cfg, **more: cifar(path, cfg, 10, **more),
    cifar100=cifar,
    class_folder=class_folder,
    lines=lines,
)
