"""Files that are whole or absent, whenever the process is killed."""

import os
from pathlib import Path

import cv2
import numpy as np

from pld_mmdet.errors import UserError

TEMPORARY = ".part"


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file under a temporary name, then rename it.

    Raises:
        UserError: The disk is full or the folder cannot be written.
    """
    temporary = path.with_name(f"{path.name}.{os.getpid()}{TEMPORARY}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(content)
        os.replace(temporary, path)
    except OSError as error:
        raise UserError(
            f"Cannot write {path}: {error.strerror}.",
            "Free some space or choose another folder with --root, then call the same "
            "command again; finished files are kept.",
        ) from error
    finally:
        # Our own half file only; after the rename there is none.
        if temporary.parent.is_dir():
            temporary.unlink(missing_ok=True)


def write_png(path: Path, image: np.ndarray) -> None:
    """Write a PNG (uint8 BGR or one-channel uint8/uint16) atomically."""
    done, content = cv2.imencode(".png", image)
    if not done:
        raise ValueError(f"cv2 cannot encode {path.name}: {image.dtype} {image.shape}")
    write_bytes(path, content.tobytes())
