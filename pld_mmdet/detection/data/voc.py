"""PASCAL VOC's xml files as one COCO json."""

import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from pathlib import Path

from pld_mmdet.detection.data.fewshot import VOC
from pld_mmdet.errors import UserError


def voc_to_coco(
    root: str | Path, parts: Sequence[tuple[str, str]], classes: Sequence[str] = VOC
) -> dict:
    """Read image lists and annotations of ``VOCdevkit``.

    Corners are 1-based in the files: xmin and ymin lose 1, xmax and ymax stay, as
    detectron2 loads them. Difficult objects are kept and marked ``difficult``: training
    uses them, the metric ignores them.

    Args:
        root: The folder with ``VOC2007`` and ``VOC2012``.
        parts: (year, list), for example ``[("2007", "trainval")]``.
        classes: Category names, in the order of the ids 1, 2, ...

    Returns:
        COCO json content; ``file_name`` is relative to ``root``.

    Raises:
        UserError: A file is missing or names another class.
    """
    root, number = Path(root), {name: i + 1 for i, name in enumerate(classes)}
    images, annotations = [], []
    for year, part in parts:
        folder = root / f"VOC{year}"
        listed = folder / "ImageSets" / "Main" / f"{part}.txt"
        if not listed.is_file():
            raise UserError(
                f"There is no {listed}.",
                "Unpack VOCtrainval and VOCtest so that the folder holds VOC2007 and "
                "VOC2012.",
            )
        for stem in listed.read_text().split():
            xml = ElementTree.parse(folder / "Annotations" / f"{stem}.xml").getroot()
            image_id = len(images) + 1
            images.append(
                {
                    "id": image_id,
                    "file_name": f"VOC{year}/JPEGImages/{stem}.jpg",
                    "width": int(xml.find("size/width").text),
                    "height": int(xml.find("size/height").text),
                }
            )
            for thing in xml.iter("object"):
                name = thing.find("name").text.strip()
                if name not in number:
                    raise UserError(
                        f"{folder}/Annotations/{stem}.xml: unknown class {name!r}.",
                        f"Known are {', '.join(classes)}.",
                    )
                x1, y1, x2, y2 = (
                    float(thing.find(f"bndbox/{key}").text)
                    for key in ("xmin", "ymin", "xmax", "ymax")
                )
                box = [x1 - 1, y1 - 1, x2 - x1 + 1, y2 - y1 + 1]
                annotations.append(
                    {
                        "id": len(annotations) + 1,
                        "image_id": image_id,
                        "category_id": number[name],
                        "bbox": box,
                        "area": box[2] * box[3],
                        "iscrowd": 0,
                        "difficult": int(thing.findtext("difficult", "0")),
                    }
                )
    categories = [{"id": i, "name": name} for name, i in number.items()]
    return {"images": images, "annotations": annotations, "categories": categories}
