"""Write FoggyStreets to disk in the layout of Cityscapes, resumable and parallel."""

import argparse
import json
import shutil
from functools import partial
from pathlib import Path

import cv2
import numpy as np

from pld_mmdet.detection.data.cityscapes import clear_name, convert, foggy_name, summary
from pld_mmdet.detection.data.files import TEMPORARY, write_json, write_png
from pld_mmdet.detection.data.pool import default_workers, run_jobs
from pld_mmdet.detection.generators.foggy_streets.fog import BETAS, add_fog
from pld_mmdet.detection.generators.foggy_streets.render import render
from pld_mmdet.errors import UserError
from pld_mmdet.values import COUNT, PROCESSES, SEED

# Raise it whenever the same seed gives other pictures.
VERSION = 2
RECORD = "foggy_streets.json"
# Invented, and disjoint, so that no street of one split is in another.
CITIES = {
    "train": ("ahlmoor", "birkenau", "dornstedt", "eichwald", "finkenrode", "graufeld"),
    "val": ("halmstein", "ilsenbach", "jungholz"),
    "test": ("kaltenried", "lindenort", "mooshagen"),
}
SMALLEST = (96, 48)
_FOLDERS = ("leftImg8bit", "leftImg8bit_foggy", "gtFine")


def frame_name(split: str, index: int) -> tuple[str, str]:
    """City and file stem of an image; they do not depend on how many there are."""
    cities = CITIES[split]
    city = cities[index % len(cities)]
    return city, f"{city}_{index // len(cities):06d}_000019"


def frame_files(split: str, index: int) -> list[str]:
    """All files of an image below the root, in the order in which they are written."""
    city, stem = frame_name(split, index)
    return [
        clear_name(split, city, stem),
        *(foggy_name(split, city, stem, beta) for beta in BETAS),
        f"gtFine/{split}/{city}/{stem}_gtFine_instanceIds.png",
        f"gtFine/{split}/{city}/{stem}_gtFine_polygons.json",
    ]


def write_frame(
    root: Path, split: str, seed: int, size: tuple[int, int], index: int
) -> None:
    """Draw one image and write its files.

    Args:
        root: Data root.
        split: ``train``, ``val`` or ``test``.
        seed: Seed of the data set.
        size: Width and height in pixels.
        index: Number of the image in its split; with seed and split it decides what
            is drawn, whoever draws it.
    """
    # Several processes share the cores; cv2's own threads would only disturb.
    cv2.setNumThreads(1)
    entropy = [seed, list(CITIES).index(split), index]
    frame = render(np.random.SeedSequence(entropy), height=size[1], width=size[0])
    clear, *foggy, mask, outlines = (root / name for name in frame_files(split, index))
    write_png(clear, frame.image)
    for path, beta in zip(foggy, BETAS, strict=True):
        share = frame.transmission(beta)
        write_png(path, add_fog(frame.image, share, frame.airlight))
    write_png(mask, frame.instance_ids)
    write_json(outlines, frame.polygons)


def generate(
    root: Path | str,
    counts: dict[str, int],
    size: tuple[int, int] = (384, 192),
    seed: int = 0,
    workers: int = 1,
    force: bool = False,
) -> None:
    """Generate the splits; what exists already is kept.

    Args:
        root: Data root; made if it does not exist.
        counts: Images per split; 0 leaves a split out.
        size: Width and height in pixels.
        seed: Seed of the data set.
        workers: Processes.
        force: Delete the splits that were made with other parameters.

    Raises:
        UserError: The root holds something else, or the parameters have changed.
    """
    root = Path(root)
    if size[0] < SMALLEST[0] or size[1] < SMALLEST[1]:
        raise UserError(
            f"--size {size[0]}x{size[1]} is too small to show anything.",
            f"Use at least {SMALLEST[0]}x{SMALLEST[1]}; the default is 384x192.",
        )
    recorded = _read_record(root)
    for split, images in counts.items():
        if images < 1:
            continue
        wanted = {
            "images": images, "size": list(size), "seed": seed, "version": VERSION
        }  # fmt: skip
        _clear_way(root, split, recorded.get(split), wanted, force)
        recorded[split] = wanted
        write_json(root / RECORD, recorded, indent=2)
        missing = [
            index
            for index in range(images)
            if not all((root / name).is_file() for name in frame_files(split, index))
        ]
        if not missing:
            print(f"{split}: all {images} images are there")
            continue
        job = partial(write_frame, root, split, seed, size)
        run_jobs(job, missing, workers, f"{split}: drawing")


def _read_record(root: Path) -> dict[str, dict]:
    path = root / RECORD
    if not path.is_file():
        if any((root / folder).exists() for folder in _FOLDERS):
            raise UserError(
                f"{root} holds a data set that this command has not made "
                f"(no {RECORD} in it).",
                "Choose another folder with --root.",
            )
        return {}
    try:
        return json.loads(path.read_text())
    except json.JSONDecodeError as error:
        raise UserError(
            f"{path} cannot be read: {error}.",
            f"Delete the folder {root} and generate it again.",
        ) from error


def _clear_way(
    root: Path, split: str, recorded: dict | None, wanted: dict, force: bool
) -> None:
    """Remove half-written files, and the old split where ``force`` allows it."""
    folders = [root / folder / split for folder in _FOLDERS]
    if recorded is not None and _grown(recorded, wanted):
        # An image does not depend on how many there are; labels are written anew.
        for path in root.glob(f"annotations/{split}*.json"):
            path.unlink()
    elif recorded is not None and recorded != wanted:
        changed = ", ".join(
            f"{key} {recorded.get(key)} -> {value}"
            for key, value in wanted.items()
            if recorded.get(key) != value
        )
        if not force:
            raise UserError(
                f"{root} holds a {split} split with other parameters ({changed}).",
                "Add --force to delete it and draw it anew, or choose another --root.",
            )
        for folder in folders:
            shutil.rmtree(folder, ignore_errors=True)
        for path in root.glob(f"annotations/{split}*.json"):
            path.unlink()
    for folder in folders:
        for path in folder.glob(f"*/*{TEMPORARY}"):
            path.unlink()


def _grown(recorded: dict, wanted: dict) -> bool:
    """Whether more images of the same kind are wanted."""
    more = wanted["images"] > recorded.get("images", wanted["images"])
    return more and recorded | {"images": wanted["images"]} == wanted


def arguments(parser: argparse.ArgumentParser) -> None:
    """Command line of ``tools/prepare.py foggy_streets``."""
    parser.add_argument("--root", type=Path, default=Path("data/foggy_streets"))
    for split, images in (("train", 800), ("val", 200), ("test", 600)):
        parser.add_argument(
            f"--{split}", type=COUNT, default=images, help=f"images, default {images}"
        )
    parser.add_argument(
        "--size", type=parse_size, default=(384, 192), help="WIDTHxHEIGHT, e.g. 384x192"
    )
    parser.add_argument("--seed", type=SEED, default=0)
    parser.add_argument("--workers", type=PROCESSES, default=default_workers())
    parser.add_argument(
        "--force", action="store_true", help="delete splits with other parameters"
    )


def parse_size(text: str) -> tuple[int, int]:
    """``384x192`` to (384, 192)."""
    width, cross, height = text.lower().partition("x")
    if not (cross and width.isdigit() and height.isdigit()):
        raise argparse.ArgumentTypeError(f"{text!r} is not WIDTHxHEIGHT, e.g. 384x192")
    return int(width), int(height)


def prepare(args: argparse.Namespace) -> None:
    """Generate, then convert every split in clear weather and in each fog."""
    counts = {split: getattr(args, split) for split in CITIES}
    generate(args.root, counts, args.size, args.seed, args.workers, args.force)
    for split, images in counts.items():
        if images < 1:
            continue
        found = convert(args.root, split, (None, *BETAS), args.workers)
        print(summary(split, found))
