"""A distilled set as files: images by class, their labels, a checksum.

All methods of this family write their product here and read it here::

    FOLDER/images/<class>/<number>.png   8 bits, grey or RGB; number: place in the set
    FOLDER/labels.npz                    targets, classes, and what else a method keeps
    FOLDER/distilled.json                classes, value range, checksums; written last
"""

import hashlib
import io
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pld_mmdet.engine.state.files import write_atomic, write_json
from pld_mmdet.errors import UserError
from pld_mmdet.reading import read_json

RECORD, LABELS = "distilled.json", "labels.npz"
_SCHEMA = {
    "names": [str],
    "count": int,
    "low": float,
    "high": float,
    "images": str,
    "labels": str,
}
_AGAIN = "Make the set again, or copy the whole folder again."


def eight_bits(images: Tensor, low: float = 0.0, high: float = 1.0) -> Tensor:
    """What is left of images after they were files: 256 values from low to high."""
    steps = ((images - low) / (high - low) * 255).round().clamp(0, 255)
    return steps / 255 * (high - low) + low


def write_distilled(
    folder: str | Path,
    images: Tensor,
    targets: Tensor,
    classes: Tensor | None = None,
    names: Sequence[str] | None = None,
    low: float = 0.0,
    high: float = 1.0,
    about: dict | None = None,
    **arrays: Tensor,
) -> Path:
    """Write a distilled set; the record comes last, so a folder with one is whole.

    Args:
        folder: Where; made if missing.
        images: m x C x H x W, C = 1 or 3. Clipped to low..high and rounded to 8 bits.
        targets: [m, d]: soft labels (logits) or vectors to regress.
        classes: [m] class numbers [None: one class, ``image``].
        names: Of the classes [their numbers].
        low: Pixel value that becomes 0.
        high: Pixel value that becomes 255, above low.
        about: Further entries of the record: method, budget.
        arrays: Further entries of the labels' file (stored views).

    Returns:
        The folder.

    Raises:
        UserError: Shapes that do not fit.
    """
    import cv2  # heavy: a config without images does not wait for it

    count = len(images)
    if classes is None:
        classes, names = torch.zeros(count, dtype=torch.long), ("image",)
    last = int(classes.max()) if len(classes) else -1
    names = [str(i) for i in range(last + 1)] if names is None else list(names)
    right = images.dim() == 4 and images.shape[1] in (1, 3) and low < high
    right = right and last < len(names)
    if not right or len(targets) != count or len(classes) != count:
        raise UserError(
            f"write_distilled: images {tuple(images.shape)}, targets "
            f"{tuple(targets.shape)}, {len(classes)} classes up to {last} with "
            f"{len(names)} names, values {low} to {high}.",
            "Give m images of 1 or 3 channels, m targets, m classes that have names, "
            "and low < high.",
        )
    folder = Path(folder)
    (folder / RECORD).unlink(missing_ok=True)
    for earlier in (folder / "images").glob("*/*.png"):
        earlier.unlink()
    digest = hashlib.sha256()
    pixels = (images.detach().cpu().float() - low) / (high - low) * 255
    pixels = pixels.round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).numpy()
    for number, (image, label) in enumerate(zip(pixels, classes.tolist(), strict=True)):
        done, png = cv2.imencode(".png", np.ascontiguousarray(image[..., ::-1]))
        if not done:
            raise ValueError(f"an image of shape {image.shape} is no PNG")
        content = png.tobytes()
        digest.update(content)
        path = folder / "images" / names[label] / f"{number:06d}.png"
        write_atomic(path, lambda file, content=content: file.write(content))
    buffer = io.BytesIO()
    tensors = {"targets": targets, "classes": classes, **arrays}
    np.savez(buffer, **{k: v.detach().cpu().numpy() for k, v in tensors.items()})
    content = buffer.getvalue()
    write_atomic(folder / LABELS, lambda file: file.write(content))
    record = {
        **(about or {}),
        "names": names,
        "count": count,
        "low": float(low),
        "high": float(high),
        "images": digest.hexdigest(),
        "labels": hashlib.sha256(content).hexdigest(),
    }
    write_json(folder / RECORD, record)
    return folder


def read_distilled(folder: str | Path) -> dict:
    """A distilled set, checked against its checksums; nothing is unpickled.

    Args:
        folder: What :func:`write_distilled` wrote.

    Returns:
        ``images`` m x C x H x W float32, ``targets`` [m, d], ``classes`` [m], the
        further arrays, all tensors; ``names`` of the classes; ``about``, the record.

    Raises:
        UserError: A missing, changed or foreign file.
    """
    folder = Path(folder)
    record = read_json(folder / RECORD, _SCHEMA, "record of a distilled set")
    content = _content(folder / LABELS)
    if hashlib.sha256(content).hexdigest() != record["labels"]:
        raise _changed(folder / LABELS)
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as file:
            found = {name: torch.from_numpy(file[name]) for name in file.files}
    except (ValueError, OSError, zipfile.BadZipFile) as error:
        raise UserError(f"{folder / LABELS} is broken: {error}.", _AGAIN) from error
    images = _read_images(folder, record, found["classes"].tolist())
    low, high = record["low"], record["high"]
    images = images.float() / 255 * (high - low) + low
    return {**found, "images": images, "names": record["names"], "about": record}


def _read_images(folder: Path, record: dict, classes: list[int]) -> Tensor:
    """m x C x H x W uint8."""
    import cv2

    digest, images = hashlib.sha256(), []
    for number, label in enumerate(classes):
        path = folder / "images" / record["names"][label] / f"{number:06d}.png"
        content = _content(path)
        digest.update(content)
        pixels = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
        if pixels is None:
            raise UserError(f"The image {path} cannot be read.", _AGAIN)
        pixels = pixels[..., None] if pixels.ndim == 2 else pixels[..., ::-1]
        images.append(np.ascontiguousarray(pixels.transpose(2, 0, 1)))
    if digest.hexdigest() != record["images"]:
        raise _changed(folder / "images")
    return torch.from_numpy(np.stack(images)) if images else torch.zeros(0, 1, 1, 1)


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}).", _AGAIN) from error


def _changed(path: Path) -> UserError:
    return UserError(
        f"{path} is not what {RECORD} describes (its checksum differs).", _AGAIN
    )
