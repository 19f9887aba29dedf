"""Files that are whole or absent, whenever the process is killed."""

import json
import os
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from pld_mmdet.engine.state.files import refuse_no_file
from pld_mmdet.errors import UserError

TEMPORARY = ".part"


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file under a temporary name, then rename it.

    Raises:
        UserError: The disk is full or the folder cannot be written.
    """
    refuse_no_file(path)
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


def write_json(path: Path, content: Any, indent: int | None = None) -> None:
    """Write json atomically; NaN and infinity, which json does not have, never.

    Raises:
        UserError: A number of the content is not finite.
    """
    try:
        text = json.dumps(content, indent=indent, allow_nan=False)
    except ValueError as error:
        raise UserError(
            f"{path} would hold a number that is NaN or infinite; it was not written.",
            "Correct the source that the numbers come from.",
        ) from error
    write_bytes(path, text.encode())
