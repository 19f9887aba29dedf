"""Arrays in .npy files that somebody else made."""

from pathlib import Path

import numpy as np

from pld_mmdet.errors import UserError


def read_array(path: str | Path, mapped: bool = False) -> np.ndarray:
    """The numbers of a .npy file; nothing in it is unpickled.

    Args:
        path: The file.
        mapped: Leave it on the disk, and read what is asked for.

    Raises:
        UserError: It is missing, no plain file, cut short or no array of numbers.
    """
    path, found = Path(path), None
    reason = "no plain file" if path.exists() else "missing"  # a pipe would block
    if path.is_file():
        try:
            mode = "r" if mapped else None
            found = np.load(path, mmap_mode=mode, allow_pickle=False)
            reason = "no array of numbers"
        except (OSError, ValueError, EOFError) as error:
            reason = str(error).splitlines()[0] if str(error) else "no array"
    if not isinstance(found, np.ndarray) or found.dtype.kind not in "buif":
        raise UserError(
            f"The array {path} cannot be read: {reason}.",
            "Write it again with numpy.save.",
        )
    return found
