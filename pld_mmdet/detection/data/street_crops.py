"""Cut StreetCrops out of generated scenes: 32 x 32 objects of eight classes, with fog.

The scenes are FoggyStreets' of the same seed, drawn anew and not kept: crop for crop
they belong to a street and a city that the detectors' data have too.
"""

import argparse
import io
import json
from functools import partial
from pathlib import Path

import cv2
import numpy as np

from pld_mmdet.detection.data.cityscapes import LABEL_IDS
from pld_mmdet.detection.data.files import write_bytes
from pld_mmdet.detection.data.masks import boxes_of
from pld_mmdet.detection.data.pool import default_workers, run_jobs
from pld_mmdet.detection.generators.foggy_streets.generate import CITIES
from pld_mmdet.detection.generators.foggy_streets.generate import VERSION as STREETS
from pld_mmdet.detection.generators.foggy_streets.render import render
from pld_mmdet.errors import UserError
from pld_mmdet.shared.data.street_crops import (
    BACKGROUND,
    CLASSES,
    FIELDS,
    RECORD,
    SIZE,
    checksum,
    read_record,
)
from pld_mmdet.values import (
    COUNT,
    POSITIVE_INT,
    PROCESSES,
    SEED,
    SHARE,
)

# Raise it whenever the same seed gives other crops.
VERSION = 1
SCENE = 192, 384  # rows and columns, as in the detectors' data
SMALLEST = 12  # pixels of a box's longer side; the smaller ones show nothing
MARGIN = 0.15  # of the longer side, around the box
SHARES = {"train": 0.6, "val": 0.15, "test": 0.25}
# A crop of nothing covers no thing by more than this share of its own area.
COVERED = 0.05
CROPS_PER_SCENE = 8.0  # a guess, for the number of scenes to begin with


def cut_scene(
    split: str, seed: int, jitter: float, background: float, index: int
) -> dict[str, np.ndarray]:
    """Draw one scene and cut out its things.

    Args:
        split: ``train``, ``val`` or ``test``.
        seed: Seed of the data set.
        jitter: How far a box may be off: its centre by up to this share of its sides,
            its size by up to this share.
        background: Share of crops that show no thing, 0 to below 1.
        index: Number of the scene in its split.

    Returns:
        The arrays of ``FIELDS``, one row a crop: things by class and place, each
        followed by its share of background.
    """
    entropy = [seed, list(CITIES).index(split), index]
    frame = render(np.random.SeedSequence(entropy), *SCENE)
    dice = np.random.default_rng([*entropy, 1])  # render spawns from the first three
    things = np.where(frame.instance_ids >= 1000, frame.instance_ids, 0)
    values, boxes, _ = boxes_of(things)
    covered = frame.instance_ids >= min(LABEL_IDS.values())
    numbers = {label: number for number, label in enumerate(LABEL_IDS.values())}
    rows: list[tuple] = []
    for value, box in zip(values, boxes, strict=True):
        if max(box[2] - box[0], box[3] - box[1]) < SMALLEST:
            continue
        shaken = _shaken(box, jitter, dice)
        rows.append((numbers[int(value) // 1000], box, shaken))
        # One number more decides on each crop of nothing, found or not.
        while dice.random() < background:
            empty = _empty_box(shaken, covered, dice)
            if empty is not None:
                rows.append((BACKGROUND, np.rint(empty).astype(int), empty))
    image = cv2.cvtColor(frame.image, cv2.COLOR_BGR2RGB)
    thinness = np.rint(frame.thinness * 255).astype(np.uint8)
    airlight = np.rint(frame.airlight[::-1]).astype(np.uint8)
    city = index % len(CITIES[split])
    columns = {
        "images": [_cut(image, shaken) for _, _, shaken in rows],
        "thinness": [_cut(thinness, shaken) for _, _, shaken in rows],
        "airlight": [airlight] * len(rows),
        "labels": [label for label, _, _ in rows],
        "boxes": [box for _, box, _ in rows],
        "scenes": [index] * len(rows),
        "cities": [city] * len(rows),
    }
    return {
        name: np.array(columns[name], kind).reshape(-1, *shape)
        for name, (kind, shape) in FIELDS.items()
    }


def _shaken(box: np.ndarray, jitter: float, dice: np.random.Generator) -> np.ndarray:
    """A box moved and scaled at random; float left, top, right, bottom."""
    left, top, right, bottom = map(float, box)
    dx, dy, size = dice.uniform(-jitter, jitter, 3)
    wide, tall = right - left, bottom - top
    x, y = (left + right) / 2 + dx * wide, (top + bottom) / 2 + dy * tall
    half_x, half_y = wide * (1 + size) / 2, tall * (1 + size) / 2
    return np.array([x - half_x, y - half_y, x + half_x, y + half_y])


def _empty_box(
    like: np.ndarray, covered: np.ndarray, dice: np.random.Generator
) -> np.ndarray | None:
    """A box of the same size where no thing is; None when ten tries find none."""
    height, width = covered.shape
    wide, tall = like[2] - like[0], like[3] - like[1]
    for _ in range(10):
        left = dice.uniform(0, max(width - wide, 1))
        top = dice.uniform(0, max(height - tall, 1))
        box = np.array([left, top, left + wide, top + tall])
        x1, y1, x2, y2 = np.rint(box).astype(int)
        if covered[y1 : max(y2, y1 + 1), x1 : max(x2, x1 + 1)].mean() <= COVERED:
            return box
    return None


def _cut(image: np.ndarray, box: np.ndarray) -> np.ndarray:
    """The square around a box, with its margin, at 32 x 32; borders are repeated."""
    left, top, right, bottom = box
    side = max(2, round(max(right - left, bottom - top) * (1 + 2 * MARGIN)))
    x, y = round((left + right - side) / 2), round((top + bottom - side) / 2)
    height, width = image.shape[:2]
    columns = np.clip(np.arange(x, x + side), 0, width - 1)
    rows = np.clip(np.arange(y, y + side), 0, height - 1)
    kind = cv2.INTER_AREA if side > SIZE else cv2.INTER_LINEAR
    return cv2.resize(image[np.ix_(rows, columns)], (SIZE, SIZE), interpolation=kind)


def make_part(
    split: str,
    crops: int,
    seed: int = 0,
    jitter: float = 0.12,
    background: float = 0.15,
    workers: int = 1,
) -> dict[str, np.ndarray]:
    """The first ``crops`` crops of a split, scene after scene.

    A smaller number gives the beginning of a larger one's, and the number of workers
    changes nothing.

    Args:
        split: ``train``, ``val`` or ``test``.
        crops: How many; the last scene may be cut short.
        seed: Seed of the data set.
        jitter: See :func:`cut_scene`.
        background: See :func:`cut_scene`.
        workers: Processes.
    """
    cut = partial(cut_scene, split, seed, jitter, background)
    scenes: list[dict[str, np.ndarray]] = []
    have = 0
    while have < crops:
        rate = max(have, 1) / max(len(scenes), 1) if scenes else CROPS_PER_SCENE
        more = max(1, int((crops - have) / rate * 1.02) + 1)
        numbers = range(len(scenes), len(scenes) + more)
        scenes += run_jobs(cut, numbers, workers, f"{split}: cutting scenes")
        have = sum(len(scene["labels"]) for scene in scenes)
    return {
        name: np.concatenate([scene[name] for scene in scenes])[:crops]
        for name in FIELDS
    }


def packed(arrays: dict[str, np.ndarray]) -> bytes:
    """The content of an .npz file; equal arrays give equal bytes."""
    content = io.BytesIO()
    np.savez_compressed(content, **arrays)
    return content.getvalue()


def arguments(parser: argparse.ArgumentParser) -> None:
    """Command line of ``tools/prepare.py street_crops``."""
    add = parser.add_argument
    add("--root", type=Path, default=Path("data/street_crops"))
    add(
        "--crops",
        type=POSITIVE_INT,
        default=10_000,
        help="crops in all: 60 %% train, 15 %% val, 25 %% test; default 10000",
    )
    for split in SHARES:
        add(f"--{split}", type=COUNT, help="crops of this part [its share of --crops]")
    add(
        "--jitter", type=SHARE, default=0.12, help="how far boxes are off, default 0.12"
    )
    add(
        "--background",
        type=SHARE,
        default=0.15,
        help="share of crops without a thing, default 0.15",
    )
    add("--seed", type=SEED, default=0)
    add("--workers", type=PROCESSES, default=default_workers())
    add("--force", action="store_true", help="replace crops with other parameters")


def prepare(args: argparse.Namespace) -> None:
    """Make the parts that are not there yet, and show what is in them.

    Raises:
        UserError: Senseless numbers, or files with other parameters without --force.
    """
    if not (0 <= args.jitter < 0.5 and 0 <= args.background <= 0.8):
        raise UserError(
            f"--jitter {args.jitter} or --background {args.background} makes no sense.",
            "Use a jitter of 0 to 0.49 and a share of background of 0 to 0.8.",
        )
    root: Path = args.root
    known = read_record(root) if (root / RECORD).is_file() else {}
    parts = dict(known.get("parts", {}))
    for split, share in SHARES.items():
        crops = getattr(args, split)
        crops = round(share * args.crops) if crops is None else crops
        if crops < 1:
            continue
        wanted = {
            "crops": crops, "seed": args.seed, "jitter": args.jitter,
            "background": args.background, "versions": [VERSION, STREETS],
        }  # fmt: skip
        old = parts.get(split)
        path = root / f"{split}.npz"
        if old is not None and path.is_file():
            same = {name: old.get(name) for name in wanted} == wanted
            if same and checksum(path.read_bytes()) == old["sha256"]:
                print(f"{split}: all {crops} crops are there")
                continue
            if not args.force:
                raise UserError(
                    f"{path} was made with other parameters, or changed since.",
                    "Add --force to replace it, or choose another --root.",
                )
        making = args.seed, args.jitter, args.background, args.workers
        arrays = make_part(split, crops, *making)
        content = packed(arrays)
        write_bytes(path, content)
        parts[split] = {**wanted, "sha256": checksum(content)}
        record = {"classes": [*CLASSES, "background"], "cities": CITIES, "parts": parts}
        write_bytes(root / RECORD, json.dumps(record, indent=2).encode())
        print(f"{split}: {_summary(arrays['labels'], arrays['scenes'])}")


def _summary(labels: np.ndarray, scenes: np.ndarray) -> str:
    names = [*CLASSES, "background"]
    counts = np.bincount(labels, minlength=len(names))
    each = ", ".join(
        f"{name} {count}" for name, count in zip(names, counts, strict=True)
    )
    return f"{len(labels)} crops of {len(np.unique(scenes))} scenes ({each})"
