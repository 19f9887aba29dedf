"""StreetCrops: objects cut out of generated street scenes, clear or in fog.

``python tools/prepare.py street_crops`` makes the files. Beside the picture a file
holds how much light reaches the camera from each pixel, so any density of fog can be
laid on. A folder of images (``<class>/<name>.png``) can take the crops' place.
"""

import hashlib
import io
import json
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from pld_mmdet.errors import UserError, one_of
from pld_mmdet.registry import DATASETS
from pld_mmdet.shared.data.class_images import part_files, read_square
from pld_mmdet.shared.data.pixels import PixelDataset

PARTS = ("train", "val", "test")
CLASSES = (
    "person", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle"
)  # fmt: skip
BACKGROUND = len(CLASSES)  # label of crops that show none of them
SIZE = 32
RECORD = "street_crops.json"
# One row a crop. ``thinness`` is the transmission at beta = 0.005, in 255ths.
FIELDS = {
    "images": (np.uint8, (SIZE, SIZE, 3)),
    "thinness": (np.uint8, (SIZE, SIZE)),
    "airlight": (np.uint8, (3,)),
    "labels": (np.uint8, ()),
    "boxes": (np.int16, (4,)),
    "scenes": (np.int32, ()),
    "cities": (np.uint8, ()),
}
_THIN = 0.005
_MAKE = "Make it with: python tools/prepare.py street_crops --root {} --force"


@DATASETS.register_module()
class StreetCrops(PixelDataset):
    """Crops of 32 x 32 pixels: person, rider, car, truck, bus, train, two-wheelers.

    A sample is ``dict(inputs=3 x 32 x 32 float RGB in [0, 1], targets=label, index=
    number in the part)``. Parts come from different scenes and cities. The classes are
    as frequent as on the streets (a third are persons, 3 % trains): report the
    class-balanced accuracy beside the plain one.

    ``scenes``, ``cities`` [N] say where a crop was cut out, ``boxes`` [N, 4] the
    thing's box in the scene in pixels (left, top, right, bottom), ``distances`` [N] how
    many metres away it is (median over the crop).

    Args:
        part: ``train``, ``val`` or ``test``.
        data_root: Where ``tools/prepare.py street_crops`` wrote; or a folder of images,
            ``<class>/<name>.png`` or ``<part>/<class>/<name>.png``, whose middle
            squares are taken and resized.
        fog: Attenuation beta in 1/m [0: clear]; Foggy Cityscapes has 0.005, 0.01, 0.02.
        classes: Keep only these (names), renumbered in this order [all].
        labelled: Keep this many crops, drawn by ``label_seed`` [all]. Negative: all but
            these (the unlabelled rest).
        balanced: Draw the same number of each class instead of as they come.
        label_seed: Of the draw; not the run's unless a config says so.
        background: Also the crops without a thing, as one more class.

    Raises:
        UserError: Unknown part or class, no such files or broken ones, more labels than
            there are, or fog on photographs.
    """

    def __init__(
        self,
        part: str,
        data_root: str = "data/street_crops",
        fog: float = 0.0,
        classes: Sequence[str] | None = None,
        labelled: int | None = None,
        balanced: bool = False,
        label_seed: int = 0,
        background: bool = False,
    ) -> None:
        one_of("StreetCrops", part=(part, PARTS))
        root = Path(data_root)
        if (root / RECORD).is_file():
            found = read_part(root, part)
            names = (*CLASSES, "background") if background else CLASSES
        elif root.is_dir():
            found, names = _from_folder(root, part, fog)
        else:
            raise UserError(f"There is no folder {root}.", _MAKE.format(root))
        keep, targets, names = _chosen_classes(found["labels"], names, classes, root)
        if labelled is not None:
            order = _drawn(targets, labelled, balanced, label_seed, len(names))
            keep, targets = keep[order], targets[order]
        found = {name: values[keep] for name, values in found.items()}
        self.pixels = torch.from_numpy(_foggy(found, fog))
        self.targets = torch.from_numpy(targets.astype(np.int64))
        self.scenes = torch.from_numpy(found["scenes"].astype(np.int64))
        self.cities = torch.from_numpy(found["cities"].astype(np.int64))
        self.boxes = torch.from_numpy(found["boxes"].astype(np.int64))
        self.distances = torch.from_numpy(_distances(found["thinness"]))
        self.metainfo = {"classes": tuple(names)}


def checksum(content: bytes) -> str:
    """SHA-256 of a file's content, in hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()


def read_record(root: Path) -> dict:
    """What ``tools/prepare.py street_crops`` wrote down about its files.

    Raises:
        UserError: The record cannot be read.
    """
    path = root / RECORD
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(
            f"{path} cannot be read: {error}.", _MAKE.format(root)
        ) from error


def read_part(root: Path, part: str) -> dict[str, np.ndarray]:
    """The arrays of one part, checked against the record; nothing is unpickled.

    Args:
        root: Folder of the files.
        part: ``train``, ``val`` or ``test``.

    Returns:
        ``FIELDS``, with images as N x 3 x 32 x 32.

    Raises:
        UserError: A missing, changed or foreign file.
    """
    path = root / f"{part}.npz"
    recorded = read_record(root).get("parts", {}).get(part)
    if recorded is None or not path.is_file():
        raise UserError(f"There is no {path}.", _MAKE.format(root))
    content = path.read_bytes()
    if checksum(content) != recorded.get("sha256"):
        raise UserError(
            f"{path} is not the file that {RECORD} describes (its checksum differs).",
            _MAKE.format(root),
        )
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as file:
            found = {name: file[name] for name in FIELDS}
    except (ValueError, KeyError, OSError, zipfile.BadZipFile) as error:
        raise UserError(
            f"{path} holds no street crops: {error}.", _MAKE.format(root)
        ) from error
    found["images"] = np.ascontiguousarray(found["images"].transpose(0, 3, 1, 2))
    return found


def _from_folder(root: Path, part: str, fog: float) -> tuple[dict, tuple[str, ...]]:
    """A folder of images in the crops' form: each image is a scene of its own."""
    if fog:
        raise UserError(
            f"{root} holds images without depth: no fog can be laid on them.",
            "Leave `fog` at 0, or use the generated crops.",
        )
    files = part_files(root, part)
    images = [read_square(path, SIZE) for paths in files.values() for path in paths]
    counts = [len(paths) for paths in files.values()]
    found = {
        name: np.zeros((len(images), *shape), kind)
        for name, (kind, shape) in FIELDS.items()
    }
    found["images"] = np.stack(images)
    found["thinness"] += 255
    found["labels"] = np.repeat(np.arange(len(counts)), counts)
    found["scenes"] = np.arange(len(images))
    return found, tuple(files)


def _chosen_classes(
    labels: np.ndarray,
    names: Sequence[str],
    wanted: Sequence[str] | None,
    root: Path,
) -> tuple[np.ndarray, np.ndarray, Sequence[str]]:
    """Places of the crops of the wanted classes, their new labels, the names."""
    wanted = names if wanted is None else wanted
    unknown = [name for name in wanted if name not in names]
    if unknown:
        raise UserError(
            f"{root} has no class {unknown[0]!r}.", f"Choose from {', '.join(names)}."
        )
    number = np.full(max(int(labels.max(initial=0)) + 1, len(names)), -1)
    number[[names.index(name) for name in wanted]] = np.arange(len(wanted))
    keep = np.flatnonzero(number[labels] >= 0)
    return keep, number[labels[keep]], wanted


def _drawn(
    targets: np.ndarray, labelled: int, balanced: bool, seed: int, classes: int
) -> np.ndarray:
    """Places of the labelled crops in the order of the part, or of all others."""
    order = np.random.default_rng((seed, len(targets))).permutation(len(targets))
    count = abs(labelled)
    if balanced:
        each, rest = divmod(count, classes)
        fewest = int(np.bincount(targets, minlength=classes).min())
        if rest or each > fewest:
            raise UserError(
                f"{count} labels cannot be dealt to {classes} classes in equal parts: "
                f"the rarest has {fewest} crops.",
                f"Choose a multiple of {classes} up to {classes * fewest}.",
            )
        mixed = targets[order]
        chosen = np.concatenate(
            [order[mixed == label][:each] for label in range(classes)]
        )
    elif count > len(targets):
        raise UserError(
            f"There are {len(targets)} crops, not {count}.", "Lower `labelled`."
        )
    else:
        chosen = order[:count]
    if labelled < 0:
        chosen = np.setdiff1d(np.arange(len(targets)), chosen)
    return np.sort(chosen)


def _foggy(found: dict[str, np.ndarray], beta: float) -> np.ndarray:
    """The images N x 3 x S x S uint8 behind fog: I t + A (1 - t), t of ``beta``.

    Sakaridis et al. 2018, Eq. 1-2. The fog is laid on the resized crop, not on the
    scene before it was cut: at the edges of things that is not quite the same.
    """
    if not beta:
        return found["images"]
    share = (found["thinness"].astype(np.float32) / 255) ** (beta / _THIN)
    share, airlight = share[:, None], found["airlight"][:, :, None, None]
    foggy = found["images"] * share + airlight * (1 - share)
    return np.rint(foggy).astype(np.uint8)


def _distances(thinness: np.ndarray) -> np.ndarray:
    """Median distance over each crop in metres; to within a metre at 1/255."""
    middle = np.median(thinness.reshape(len(thinness), -1), axis=1)
    return (-np.log(np.maximum(middle, 1) / 255) / _THIN).astype(np.float32)
