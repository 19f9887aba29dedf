"""Is an image file whole? Asked before training, not in the middle of an epoch."""

import struct
import zlib
from pathlib import Path

import cv2
import numpy as np

_PNG = b"\x89PNG\r\n\x1a\n"
_PNG_END = b"IEND\xaeB`\x82"
_JPEG = b"\xff\xd8"
_JPEG_END = b"\xff\xd9"


def image_fault(
    path: str | Path, fast: bool = False
) -> tuple[str | None, tuple[int, int] | None]:
    """Look for a fault in an image file.

    Args:
        path: The file.
        fast: Look at its last bytes only, which finds truncated PNG and JPEG files;
            otherwise check the sums of a PNG and decode the image.

    Returns:
        What is wrong (``missing``, or a few words) or None; and width and height in
        pixels where the image was decoded.
    """
    path = Path(path)
    try:
        content = _tail(path) if fast else path.read_bytes()
    except FileNotFoundError:
        return "missing", None
    except OSError as error:
        return f"unreadable ({error.strerror})", None
    if not content:
        return "empty file", None
    suffix = path.suffix.lower()
    if suffix == ".png" and not content.endswith(_PNG_END):
        return "truncated", None
    # Some cameras append bytes to a JPEG, so its end mark may come earlier.
    if suffix in (".jpg", ".jpeg") and _JPEG_END not in content[-4096:]:
        return "truncated", None
    if fast:
        return None, None
    # Older versions of cv2 decode a damaged PNG to a half grey picture without a word.
    if content.startswith(_PNG) and not _sums_agree(content):
        return "damaged", None
    image = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
    if image is None:
        return "not decodable", None
    return None, (image.shape[1], image.shape[0])


def _tail(path: Path) -> bytes:
    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(max(0, size - 4096))
        return file.read()


def _sums_agree(content: bytes) -> bool:
    """Whether the chunks of a PNG are complete and their check sums right."""
    at = len(_PNG)
    while at + 12 <= len(content):
        (length,) = struct.unpack_from(">I", content, at)
        end = at + 8 + length
        if end + 4 > len(content):
            return False
        (wanted,) = struct.unpack_from(">I", content, end)
        if zlib.crc32(content[at + 4 : end]) != wanted:
            return False
        if content[at + 4 : at + 8] == b"IEND":
            return True
        at = end + 4
    return False
