"""Is an image file whole? Asked before training, and where one is read."""

import stat
import struct
import threading
import zlib
from pathlib import Path

import numpy as np

from pld_mmdet.errors import UserError

# Twice Pillow's warning, and the number at which Pillow itself refuses: half a gigabyte
# as three bytes a pixel.
MAX_PIXELS = 178_956_970

_PNG = b"\x89PNG\r\n\x1a\n"
_PNG_END = b"IEND\xaeB`\x82"
_JPEG = b"\xff\xd8\xff"
_JPEG_END = b"\xff\xd9"
_PILLOW = threading.Lock()
_DARK = 20  # brightest of 255 up to which deeper images are refused: 12 bits in 16


def image_fault(
    path: str | Path, fast: bool = False, max_pixels: int = MAX_PIXELS
) -> tuple[str | None, tuple[int, int] | None]:
    """Look for a fault in an image file; whatever is in it, this raises nothing.

    The header is read before anything is decoded, so that a small file that unfolds to
    gigabytes takes no memory.

    Args:
        path: The file.
        fast: Look at its last bytes only, which finds truncated PNG and JPEG files;
            otherwise check the sums of a PNG and decode the image.
        max_pixels: Width times height above which an image is not decoded.

    Returns:
        What is wrong (``missing``, or a few words) or None; and width and height in
        pixels where the image was decoded.
    """
    fault, image = _whole(path, fast, max_pixels)
    return fault, None if image is None else (image.shape[1], image.shape[0])


def read_image(
    path: str | Path, colours: bool = True, max_pixels: int = MAX_PIXELS
) -> np.ndarray:
    """An image file that is whole, as every data set outside detection reads it.

    A truncated or damaged file is refused where OpenCV would fill it with grey, and a
    pipe, an empty file or one that unfolds to gigabytes before anything is decoded.

    Args:
        path: The file.
        colours: Three channels of 8 bits; else as many and as deep as the file has.
        max_pixels: Width times height above which an image is refused.

    Returns:
        H x W x 3 uint8 RGB. Without ``colours`` H x W, or H x W x 3 or 4 (RGB, alpha).

    Raises:
        UserError: Names the file, what is wrong with it and what to do.
    """
    fault, image = _whole(path, False, max_pixels, colours)
    if image is None:
        raise UserError(
            f"The image {path} cannot be read: {fault}.",
            "Replace the file, or remove it and what names it.",
        )
    if image.ndim == 2:
        return image
    order = [2, 1, 0, *range(3, image.shape[2])]
    return np.ascontiguousarray(image[..., order])


def _whole(
    path: str | Path, fast: bool, max_pixels: int, colours: bool = True
) -> tuple[str | None, np.ndarray | None]:
    """What is wrong, or None; and the pixels as OpenCV has them where nothing is."""
    try:
        return _look(Path(path), fast, max_pixels, colours)
    except FileNotFoundError:
        return "missing", None
    except OSError as error:
        return f"unreadable ({error.strerror or error})", None
    except MemoryError:
        return "larger than the free memory", None
    except Exception:  # one bad file must not end a run; decoders raise all kinds
        return "not decodable", None


def _look(
    path: Path, fast: bool, max_pixels: int, colours: bool
) -> tuple[str | None, np.ndarray | None]:
    status = path.stat()
    if not stat.S_ISREG(status.st_mode) and not path.is_dir():  # a pipe would block
        return "no plain file", None
    size = status.st_size
    if size == 0:
        return "empty file", None
    start, tail = _ends(path)
    suffix = path.suffix.lower()
    png, jpeg = start == _PNG, start.startswith(_JPEG)
    if (png or suffix == ".png") and not tail.endswith(_PNG_END):
        return "truncated", None
    # Some cameras append bytes to a JPEG, so its end mark may come earlier.
    if (jpeg or suffix in (".jpg", ".jpeg")) and _JPEG_END not in tail:
        return "truncated", None
    if fast:
        return None, None
    import cv2  # heavy: configs without image files do not wait for it

    stated = image_size(path)
    if stated is None:
        return "not decodable", None
    if stated[0] * stated[1] > max_pixels:
        return f"too large, {stated[0]} x {stated[1]} px", None
    # Four channels of two bytes, not packed at all: no image that is allowed has more.
    if size > 8 * max_pixels + (1 << 24):
        return f"too large, {size >> 20} MB", None
    content = path.read_bytes()
    # Older versions of cv2 decode a damaged PNG to a half grey picture without a word.
    if content.startswith(_PNG) and not _sums_agree(content):
        return "damaged", None
    content = np.frombuffer(content, np.uint8)
    kind = cv2.IMREAD_COLOR if colours else cv2.IMREAD_UNCHANGED
    image = cv2.imdecode(content, kind)
    if image is None:
        return "not decodable", None
    if colours and image.max() < _DARK:
        deep = cv2.imdecode(content, cv2.IMREAD_UNCHANGED)
        if deep is not None and deep.dtype != np.uint8 and deep.max() > 0:
            return f"black in 8 bits: its {deep.dtype} values end at {deep.max()}", None
    return None, image


def image_size(path: str | Path) -> tuple[int, int] | None:
    """Width and height in pixels that the header of an image states.

    Nothing is decoded, and a photo that the camera turned (EXIF) is not turned.

    Returns:
        None if it is no image.

    Raises:
        OSError: The file cannot be opened.
    """
    from PIL import Image, UnidentifiedImageError

    with Path(path).open("rb") as file:
        start = file.read(8)
        file.seek(0)
        # Pillow's own limit is a global number, which would hide the size from us.
        with _PILLOW:
            limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
            try:
                with Image.open(file) as image:
                    return image.size
            except (UnidentifiedImageError, ValueError, SyntaxError, struct.error):
                pass
            finally:
                Image.MAX_IMAGE_PIXELS = limit
        if start[:4] in (b"II*\0", b"MM\0*"):
            return _tiff_size(file, "<" if start[:2] == b"II" else ">")
    return None


def _tiff_size(file, order: str) -> tuple[int, int] | None:
    """Size of a TIFF whose pixels Pillow does not know (three floats, for example)."""
    try:
        file.seek(4)
        (at,) = struct.unpack(f"{order}I", file.read(4))
        file.seek(at)
        (entries,) = struct.unpack(f"{order}H", file.read(2))
        found = {}
        for _ in range(entries):
            tag, kind, _, value = struct.unpack(f"{order}HHI4s", file.read(12))
            short = kind == 3
            found[tag] = struct.unpack(
                f"{order}{'H' if short else 'I'}", value[:2] if short else value
            )[0]
        return found[256], found[257]
    except (struct.error, KeyError):
        return None


def _ends(path: Path) -> tuple[bytes, bytes]:
    """The first eight bytes and the last 4096."""
    with path.open("rb") as file:
        start = file.read(8)
        size = file.seek(0, 2)
        file.seek(max(0, size - 4096))
        return start, file.read()


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
