"""Crops of one thing each: 96 x 96 pixels, nine kinds, photo and shifted domains.

ROOT/<domain>/<split>/<kind>/*.jpg, made out of the packages of cutouts. A stamp of test
is never seen in train or val. For transfer between kinds: two roots with other --kinds.
"""

import argparse
from functools import partial
from pathlib import Path

import numpy as np

from pld_mmdet.cli import ToolParser
from pld_mmdet.detection.data.files import write_bytes
from pld_mmdet.detection.data.pool import run_jobs
from pld_mmdet.detection.generators.cutouts.domains import DOMAINS, shifted
from pld_mmdet.detection.generators.cutouts.generate import SPLITS, jpeg
from pld_mmdet.detection.generators.cutouts.parts import Parts, add_options
from pld_mmdet.detection.generators.cutouts.scene import cut_ground, lay, turned
from pld_mmdet.detection.generators.cutouts.stamps import (
    KINDS,
    Stamp,
    Stock,
    read_stock,
    stock_file,
)

# Raise it whenever the same seed gives other crops.
VERSION = 1
RECORD = "crops.json"
SIDE = 96
SIZES = (48.0, 92.0)  # pixels of a stamp's longer side
TURN = 25.0  # degrees
SHIFT = 8.0  # pixels off the middle
CROPS = 400  # a kind, of photo's train
_ORDER_SEED = 20261207  # which stamps are in which split; fixed for good


def counts(crops: int = CROPS) -> dict[tuple[str, str], int]:
    """Crops a kind of each domain and split.

    Args:
        crops: Of photo's train; val has a quarter of it, all other parts a half.
    """
    quarter, half = max(1, crops // 4), max(1, crops // 2)
    found = {(d, s): quarter if s == "val" else half for d in DOMAINS for s in SPLITS}
    return found | {("photo", "train"): crops}


def stamps_of(stock: Stock, style: str, kind: int, split: str) -> list[Stamp]:
    """The stamps of a kind that a split may show.

    A quarter (one at least) is kept for test, an eighth (one at least) for val. Which
    ones depends on nothing but their number.

    Args:
        stock: Stamps and grounds.
        style: ``photo`` or ``clipart``.
        kind: Number of the kind.
        split: ``train``, ``val`` or ``test``.
    """
    stamps = stock.stamps[style][kind]
    order = np.random.default_rng([_ORDER_SEED, kind]).permutation(len(stamps))
    test, val = max(1, round(len(stamps) / 4)), max(1, round(len(stamps) / 8))
    cuts = {"test": (0, test), "val": (test, test + val), "train": (test + val, None)}
    return [stamps[i] for i in sorted(order[slice(*cuts[split])])]


def draw_crop(
    stock: Stock, domain: str, split: str, kind: int, dice: np.random.Generator
) -> np.ndarray:
    """One thing on a ground; [96, 96, 3] uint8 RGB.

    Args:
        stock: Stamps and grounds.
        domain: Of ``DOMAINS``.
        split: Whose stamps.
        kind: Number of the kind.
        dice: Decides everything else.
    """
    stamps = stamps_of(stock, DOMAINS[domain], kind, split)
    image = cut_ground(stock, (SIDE, SIDE), dice).astype(np.float32)
    sprite = turned(
        stamps[dice.integers(len(stamps))], dice.uniform(*SIZES), dice, TURN
    )
    left, top = (
        round((SIDE - side) / 2 + dice.uniform(-SHIFT, SHIFT))
        for side in sprite.shape[1::-1]
    )
    lay(image, sprite, left, top)
    pixels = np.clip(np.rint(image), 0, 255).astype(np.uint8)
    return shifted(pixels, domain, dice)


def crop_file(domain: str, split: str, kind: int, index: int) -> str:
    """Place of a crop below the root."""
    return f"{domain}/{split}/{KINDS[kind]}/{index:05d}.jpg"


def write_crop(
    stock: Path, root: Path, domain: str, split: str, seed: int, job: tuple[int, int]
) -> None:
    """Draw one crop and write its file, if it is not there.

    Args:
        stock: File of stamps and grounds.
        root: Data root.
        domain: Of ``DOMAINS``.
        split: ``train``, ``val`` or ``test``.
        seed: Seed of the data set.
        job: Number of the kind, and of the crop in its kind.
    """
    path = root / crop_file(domain, split, *job)
    if not path.is_file():
        place = list(DOMAINS).index(domain), SPLITS.index(split)
        dice = np.random.default_rng([seed, *place, *job])
        write_bytes(
            path, jpeg(draw_crop(read_stock(stock), domain, split, job[0], dice))
        )


def generate(
    stock: Path,
    root: Path,
    wanted: dict[tuple[str, str], int],
    kinds: list[str],
    seed: int = 0,
    workers: int = 1,
    overwrite: bool = False,
) -> None:
    """Draw the parts that are not there; goes on where it was killed.

    Args:
        stock: File of stamps and grounds.
        root: Data root.
        wanted: (domain, split) -> crops a kind.
        kinds: Names of the kinds.
        seed: Seed of the data set.
        workers: Processes; their number changes no byte.
        overwrite: Replace parts that were made with other parameters.

    Raises:
        UserError: The root holds something else, or other parameters were used.
    """
    parts = Parts(root, RECORD, DOMAINS, overwrite)
    numbers = sorted(KINDS.index(kind) for kind in set(kinds))
    for (domain, split), crops in wanted.items():
        jobs = [(kind, index) for kind in numbers for index in range(crops)]
        files = [root / crop_file(domain, split, *job) for job in jobs]
        new = {
            "pictures": len(jobs), "seed": seed, "version": VERSION,
            "kinds": [KINDS[n] for n in numbers],
        }  # fmt: skip
        if parts.begin(f"{domain}/{split}", new, files):
            job = partial(write_crop, stock, root, domain, split, seed)
            run_jobs(job, jobs, workers, f"{domain}/{split}: drawing")


def arguments(parser: ToolParser) -> None:
    """Command line of ``tools/prepare.py crops``."""
    text = "a kind in photo's train, default 400; val has a quarter, others a half"
    add_options(parser, "crops", "crops", CROPS, text)
    kinds = list(KINDS)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=kinds)


def prepare(args: argparse.Namespace) -> None:
    """Fetch the packages if they are wanted, then draw.

    Raises:
        UserError: See :func:`stock_file` and :func:`generate`.
    """
    wanted = {k: n for k, n in counts(args.crops).items() if k[0] in args.domains}
    Parts(args.root, RECORD, DOMAINS)  # refused before anything is fetched
    generate(
        stock_file(args.given), args.root, wanted, args.kinds, args.seed, args.workers,
        args.overwrite,
    )  # fmt: skip
