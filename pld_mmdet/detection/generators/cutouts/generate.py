"""Cut-outs on real grounds: detection and segmentation in four domains.

Scenes of 320 x 240 with two to six things of nine kinds, made out of Debian packages
(433 MB are fetched, 125 MB kept). The domains: photo, cartoon, night, clipart. ROOT has
<domain>/<split>/*.jpg, and annotations/<domain>_<split>.json with boxes and RLE masks
of what shows. Stamps and grounds are shared by the splits of a domain; scenes are not.
"""

import argparse
import io
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image
from pycocotools import mask as rle

from pld_mmdet.cli import ToolParser
from pld_mmdet.detection.data.files import write_bytes, write_json
from pld_mmdet.detection.data.pool import run_jobs
from pld_mmdet.detection.generators.cutouts.domains import DOMAINS, shifted
from pld_mmdet.detection.generators.cutouts.parts import Parts, add_options
from pld_mmdet.detection.generators.cutouts.scene import HEIGHT, WIDTH, draw_scene
from pld_mmdet.detection.generators.cutouts.stamps import KINDS, read_stock, stock_file

# Raise it whenever the same seed gives other scenes.
VERSION = 1
RECORD = "cutouts.json"
SPLITS = ("train", "val", "test")
SCENES = 1500  # of photo's train
QUALITY = 95


def counts(scenes: int = SCENES) -> dict[tuple[str, str], int]:
    """Scenes of each domain and split.

    Args:
        scenes: Of photo's train; val has a tenth of it, all other parts two fifths.
    """
    small, other = max(1, scenes // 10), max(1, scenes * 2 // 5)
    return {
        (domain, split): (
            small if split == "val"
            else scenes if (domain, split) == ("photo", "train")
            else other
        )
        for domain in DOMAINS
        for split in SPLITS
    }  # fmt: skip


def scene_file(domain: str, split: str, index: int) -> str:
    """Place of a scene below the root."""
    return f"{domain}/{split}/{index:05d}.jpg"


def jpeg(image: np.ndarray) -> bytes:
    """A picture ([H, W, 3] uint8 RGB) as a JPEG, colours at full size."""
    content = io.BytesIO()
    Image.fromarray(image).save(content, "JPEG", quality=QUALITY, subsampling=0)
    return content.getvalue()


def write_scene(
    stock: Path, root: Path, domain: str, split: str, seed: int, index: int
) -> list[dict]:
    """Draw one scene, and write it if it is not there.

    Args:
        stock: File of stamps and grounds.
        root: Data root.
        domain: Of ``DOMAINS``.
        split: ``train``, ``val`` or ``test``.
        seed: Seed of the data set.
        index: Number of the scene; with what stands before it, it decides everything.

    Returns:
        Its annotations in COCO's words, without ``id``.
    """
    place = list(DOMAINS).index(domain), SPLITS.index(split)
    dice = np.random.default_rng([seed, *place, index])
    image, things = draw_scene(read_stock(stock), DOMAINS[domain], dice)
    path = root / scene_file(domain, split, index)
    if not path.is_file():
        write_bytes(path, jpeg(shifted(image, domain, dice)))
    rows = []
    for thing in things:
        code = rle.encode(np.asfortranarray(thing.mask, np.uint8))
        code["counts"] = code["counts"].decode("ascii")
        area = int(thing.mask.sum())
        rows.append(
            {
                "image_id": index + 1,
                "category_id": thing.kind + 1,
                "bbox": list(thing.box),
                "area": area,
                "iscrowd": 0,
                "segmentation": code,
                "stamp": thing.stamp,
                "visible": round(min(1.0, area / thing.whole), 3),
            }
        )
    return rows


def write_split(
    stock: Path,
    root: Path,
    domain: str,
    split: str,
    scenes: int,
    seed: int,
    workers: int,
) -> dict:
    """Draw a split's scenes and write its annotations; what exists already is kept.

    Returns:
        The content of the COCO file.
    """
    job = partial(write_scene, stock, root, domain, split, seed)
    found = run_jobs(job, range(scenes), workers, f"{domain} {split}: drawing")
    annotations = [
        {"id": number, **row}
        for number, row in enumerate((row for rows in found for row in rows), start=1)
    ]
    images = [
        {
            "id": index + 1,
            "file_name": Path(scene_file(domain, split, index)).name,
            "width": WIDTH,
            "height": HEIGHT,
        }
        for index in range(scenes)
    ]
    kinds = [{"id": n, "name": kind} for n, kind in enumerate(KINDS, start=1)]
    info = {"description": f"cutouts {domain} {split}", "version": str(VERSION)}
    content = dict(info=info, images=images, annotations=annotations, categories=kinds)
    write_json(root / f"annotations/{domain}_{split}.json", content)
    return content


def generate(
    stock: Path,
    root: Path | str,
    wanted: dict[tuple[str, str], int],
    seed: int = 0,
    workers: int = 1,
    overwrite: bool = False,
) -> None:
    """Draw the parts that are not there; goes on where it was killed.

    Args:
        stock: File of stamps and grounds.
        root: Data root; made if it does not exist.
        wanted: (domain, split) -> scenes.
        seed: Seed of the data set.
        workers: Processes; their number changes no byte.
        overwrite: Replace parts that were made with other parameters.

    Raises:
        UserError: The root holds something else, or other parameters were used.
    """
    root = Path(root)
    parts = Parts(root, RECORD, DOMAINS, overwrite)
    for (domain, split), scenes in wanted.items():
        labels = root / f"annotations/{domain}_{split}.json"
        files = [root / scene_file(domain, split, n) for n in range(scenes)]
        new = {"pictures": scenes, "seed": seed, "version": VERSION}
        if parts.begin(f"{domain}/{split}", new, [labels, *files]):
            labels.unlink(missing_ok=True)
            found = write_split(stock, root, domain, split, scenes, seed, workers)
            print(f"{domain}/{split}: {scenes} scenes, {_summary(found)}")


def _summary(content: dict) -> str:
    kinds = np.array([row["category_id"] for row in content["annotations"]], int)
    numbers = np.bincount(kinds, minlength=len(KINDS) + 1)[1:]
    each = ", ".join(f"{k} {n}" for k, n in zip(KINDS, numbers, strict=True))
    return f"{len(kinds)} things ({each})"


def arguments(parser: ToolParser) -> None:
    """Command line of ``tools/prepare.py cutouts``."""
    text = "of photo's train, default 1500; val has a tenth, other parts two fifths"
    add_options(parser, "cutouts", "scenes", SCENES, text)


def prepare(args: argparse.Namespace) -> None:
    """Fetch the packages if they are wanted, then draw.

    Raises:
        UserError: See :func:`stock_file` and :func:`generate`.
    """
    wanted = {k: n for k, n in counts(args.scenes).items() if k[0] in args.domains}
    Parts(args.root, RECORD, DOMAINS)  # refused before anything is fetched
    stock = stock_file(args.given)
    generate(stock, args.root, wanted, args.seed, args.workers, args.overwrite)
