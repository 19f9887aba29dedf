"""PASCAL VOC 2007 and 2012: 20 classes; trains on both years, tests on 2007's test."""

import argparse
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from pathlib import Path

from pld_mmdet.detection.data.fewshot import VOC
from pld_mmdet.detection.data.labelled import (
    Box,
    LabelledImage,
    coco_content,
    image_of,
    listed_stems,
    report_split,
    sized_image,
    write_split,
)
from pld_mmdet.errors import UserError
from pld_mmdet.reading import read_bytes

EXPECTED_COUNTS = {"train": 16551, "test": 4952}
_HOW = (
    "Unpack VOCtrainval and VOCtest of 2007, and VOCtrainval of 2012, so that the "
    "folder holds VOC2007 and VOC2012 (http://host.robots.ox.ac.uk/pascal/VOC)."
)


def read_xml(path: Path) -> tuple[int, int, list[Box]]:
    """Read one annotation file of VOC's format.

    Corners are 1-based in the files: xmin and ymin lose 1, xmax and ymax stay, as
    detectron2 loads them. ``pose``, ``truncated`` and ``difficult`` may be absent.

    Args:
        path: The xml file.

    Returns:
        Width and height in pixels, and the objects.

    Raises:
        UserError: The file is missing or not of this format.
    """
    try:
        xml = ElementTree.fromstring(read_bytes(path))
        width, height = (int(xml.findtext(f"size/{k}")) for k in ("width", "height"))
        boxes = []
        for thing in xml.iter("object"):
            x1, y1, x2, y2 = (
                float(thing.findtext(f"bndbox/{key}"))
                for key in ("xmin", "ymin", "xmax", "ymax")
            )
            boxes.append(
                Box(
                    thing.findtext("name").strip(),
                    (x1 - 1, y1 - 1, x2, y2),
                    difficult=(thing.findtext("difficult") or "0").strip() == "1",
                )
            )
    except FileNotFoundError as error:
        raise UserError(
            f"There is no annotation file {path}.", "Unpack the data again."
        ) from error
    except OSError as error:
        raise UserError(
            f"{path} cannot be read ({error.strerror or error}).",
            "Unpack the data again.",
        ) from error
    except (ElementTree.ParseError, TypeError, ValueError, AttributeError) as error:
        raise UserError(
            f"{path} is no annotation of VOC's format ({error}).",
            "Unpack the data again, or correct the file.",
        ) from error
    if width <= 0 or height <= 0:
        raise UserError(
            f"{path} states the size {width}x{height}.", "Correct the file's <size>."
        )
    return width, height, boxes


def read_folder(
    root: Path, folder: str, stems: Sequence[str], how: str
) -> list[LabelledImage]:
    """Images and boxes of a folder with ``Annotations`` and ``JPEGImages``.

    Args:
        root: Data root.
        folder: Below it; "" for the root itself.
        stems: Names without suffix.
        how: How to get the data, for messages.
    """
    prefix = f"{folder}/" if folder else ""
    found = []
    for stem in stems:
        xml = root / f"{prefix}Annotations/{stem}.xml"
        name = image_of(root, f"{prefix}JPEGImages", stem, how)
        *stated, boxes = read_xml(xml)
        found.append(sized_image(root, name, boxes, str(xml), tuple(stated)))
    return found


def voc_to_coco(
    root: str | Path, parts: Sequence[tuple[str, str]], classes: Sequence[str] = VOC
) -> dict:
    """Read image lists and annotations of ``VOCdevkit``.

    Difficult objects are kept and marked ``difficult``: training uses them, the metric
    ignores them.

    Args:
        root: The folder with ``VOC2007`` and ``VOC2012``.
        parts: (year, list), for example ``[("2007", "trainval")]``.
        classes: Category names, in the order of the ids 1, 2, ...

    Returns:
        COCO json content; ``file_name`` is relative to ``root``.

    Raises:
        UserError: A file is missing or names another class.
    """
    root, images = Path(root), []
    for year, part in parts:
        folder = f"VOC{year}"
        stems = listed_stems(root / folder / f"ImageSets/Main/{part}.txt", _HOW)
        images += read_folder(root, folder, stems, _HOW)
    return coco_content(images, classes)


def convert_lists(
    root: Path, splits: Sequence[str], expected: dict[str, int], how: str
) -> None:
    """Convert a data set in VOC's layout with the 20 classes of VOC, and report.

    Args:
        root: With ``Annotations``, ``JPEGImages`` and ``ImageSets/Main/<split>.txt``.
        splits: Names of the lists.
        expected: Images of the full splits.
        how: How to get the data.
    """
    for split in splits:
        stems = listed_stems(root / f"ImageSets/Main/{split}.txt", how)
        content = coco_content(read_folder(root, "", stems, how), VOC)
        report_split(split, write_split(root, split, content), expected.get(split))


def arguments(parser: argparse.ArgumentParser) -> None:
    """Command line of ``tools/prepare.py voc``."""
    root = Path("data/VOCdevkit")
    parser.add_argument(
        "--root", type=Path, default=root, help="holds VOC2007, VOC2012"
    )


def prepare(args: argparse.Namespace) -> None:
    """Write ``annotations/train.json`` (07+12 trainval) and ``test.json`` (2007)."""
    parts = {
        "train": [("2007", "trainval"), ("2012", "trainval")],
        "test": [("2007", "test")],
    }
    for name, lists in parts.items():
        content = voc_to_coco(args.root, lists)
        counts = write_split(args.root, name, content)
        report_split(name, counts, EXPECTED_COUNTS[name])
