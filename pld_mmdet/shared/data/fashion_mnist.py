"""Fashion-MNIST: 70,000 pictures of clothes, 28 x 28, in a folder for each class.

31 MB from Debian. ROOT/train (55,000), ROOT/val (the last 500 of each class of the
published training part) and ROOT/test (the published 10,000), as <class>/<number>.png.
"""

import argparse
import gzip
import io
import json
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

from pld_mmdet.engine.state.files import write_atomic
from pld_mmdet.errors import UserError
from pld_mmdet.shared.data.package_files import add_root, members_of, own_root
from pld_mmdet.shared.packages import packages
from pld_mmdet.shared.unpacking import unpack
from pld_mmdet.waiting import counted

CLASSES = (
    "t_shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker",
    "bag", "ankle_boot",
)  # fmt: skip
VAL = 500  # a class
RECORD = "fashion_mnist.json"
_AGAIN = "give the same command again"
_LARGEST = 100_000_000  # bytes of an unpacked file


def read_idx(path: Path) -> np.ndarray:
    """An ``idx.gz`` file of bytes: a magic number, the shape, the values.

    Args:
        path: The file.

    Returns:
        uint8, [N] or [N, H, W].

    Raises:
        UserError: It is broken, too large, or holds no bytes.
    """
    try:
        with gzip.open(path) as file:
            content = file.read(_LARGEST + 1)
        dimensions = content[3]
        head = 4 + 4 * dimensions
        shape = np.frombuffer(content[4:head], ">u4").astype(int)
        if content[:3] != b"\0\0\x08" or len(shape) != dimensions:
            raise ValueError("no idx file of bytes")
        return np.frombuffer(content[head:], np.uint8).reshape(shape)
    except (OSError, EOFError, ValueError, IndexError, zlib.error) as error:
        raise UserError(
            f"{path} cannot be read ({error}).", "Delete it and call the command again."
        ) from error


def split_places(labels: np.ndarray, val: int = VAL) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of the pictures for train, and for val: the last ``val`` of each class.

    Args:
        labels: [N].
        val: A class.
    """
    last = [np.flatnonzero(labels == label)[-val:] for label in np.unique(labels)]
    chosen = np.sort(np.concatenate(last))
    return np.setdiff1d(np.arange(len(labels)), chosen), chosen


def write_part(
    root: Path, part: str, images: np.ndarray, labels: np.ndarray, places: np.ndarray
) -> None:
    """Write pictures by class; a file that is there stays.

    Args:
        root: Data root.
        part: ``train``, ``val`` or ``test``.
        images: [N, H, W] uint8.
        labels: [N].
        places: Which of them; a picture's number is its name.
    """
    for number in counted(places, len(places), f"pictures of {part}"):
        path = root / part / CLASSES[labels[number]] / f"{number:05d}.png"
        if not path.is_file():
            content = io.BytesIO()
            Image.fromarray(images[number]).save(content, "PNG")
            write_atomic(
                path, lambda file, c=content: file.write(c.getvalue()), again=_AGAIN
            )


def arguments(parser: argparse.ArgumentParser) -> None:
    """Command line of ``tools/prepare.py fashion_mnist``."""
    add_root(parser, "data/fashion_mnist")


def prepare(args: argparse.Namespace) -> None:
    """Unpack, and write one folder a class.

    Raises:
        UserError: The root holds another data set, or see ``unpack``.
    """
    root: Path = args.root
    own_root(root, RECORD, ("train",), args.overwrite)
    package, members = members_of("fashion_mnist")
    folder = unpack(packages()[package], list(members.values()), given=args.given)
    record = json.dumps({"package": package, "version": packages()[package].version})
    write_atomic(root / RECORD, lambda file: file.write(record.encode()), again=_AGAIN)
    arrays = {}
    for part in ("train", "t10k"):
        for what, rank in (("images", 3), ("labels", 1)):
            member = members[f"{part}-{what}-idx{rank}-ubyte.gz"]
            arrays[part, what] = read_idx(folder / member.path)
    train, val = split_places(arrays["train", "labels"])
    everything = np.arange(len(arrays["t10k", "labels"]))
    for name, part, places in (
        ("train", "train", train), ("val", "train", val), ("test", "t10k", everything)
    ):  # fmt: skip
        images, labels = arrays[part, "images"], arrays[part, "labels"]
        write_part(root, name, images, labels, places)
        print(f"{name}: {len(places)} pictures of {len(CLASSES)} classes")
