"""From the owner map of a scene to Cityscapes labels.

A thing is annotated when enough of it is seen: 30 % of what would be seen with nothing
before it, and a box of at least 3x7 pixels in a picture of 192 rows (more in a larger
one). What is less visible keeps the label of the ground behind it, as if the annotator
had not noticed it. Members of a crowd or of a row of cars that are too small to tell
apart become one region with the label alone (``persongroup``, ``cargroup``).
"""

from typing import Any

import cv2
import numpy as np

from pld_mmdet.detection.data.cityscapes import LABEL_IDS
from pld_mmdet.detection.data.masks import boxes_of

BACKGROUND = {
    23: "sky", 11: "building", 7: "road", 8: "sidewalk", 21: "vegetation", 17: "pole",
    20: "traffic sign", 4: "static",
}  # fmt: skip
MIN_VISIBLE = 0.3
MIN_HEIGHT, MIN_WIDTH = 7, 3
REFERENCE_ROWS = 192
# A region smaller than a labelled box is no crowd, just a speck.
GROUP_MIN_MEMBERS = 2


def instance_map(
    owner: np.ndarray,
    background: np.ndarray,
    names: list[str],
    clusters: list[int],
    visible: list[float],
) -> tuple[np.ndarray, dict[int, str]]:
    """Apply the visibility rules.

    Args:
        owner: HxW, number of the thing seen at each pixel, 0 for none.
        background: HxW uint8, label id behind the things.
        names: Class of thing ``number`` at ``number - 1``.
        clusters: Cluster of each thing, -1 for none.
        visible: Visible share of each thing, 0-1.

    Returns:
        The instanceIds map (HxW uint16; labelId * 1000 + k for an instance, labelId
        alone elsewhere) and the written label per thing number: its class, or class +
        ``group``. Things that are missing in it are not annotated.
    """
    factor = owner.shape[0] / REFERENCE_ROWS
    values = background.astype(np.uint16)
    written: dict[int, str] = {}
    counts = dict.fromkeys(LABEL_IDS, 0)
    small: dict[tuple[int, str], list[int]] = {}
    seen, boxes, _ = boxes_of(owner)
    for number, (left, top, right, bottom) in zip(seen, boxes, strict=True):
        name = names[number - 1]
        tall, wide = bottom - top, right - left
        if (
            visible[number - 1] >= MIN_VISIBLE
            and tall >= MIN_HEIGHT * factor
            and wide >= MIN_WIDTH * factor
        ):
            window = (slice(top, bottom), slice(left, right))
            value = LABEL_IDS[name] * 1000 + counts[name]
            values[window][owner[window] == number] = value
            counts[name] += 1
            written[int(number)] = name
        elif clusters[number - 1] >= 0:
            small.setdefault((clusters[number - 1], name), []).append(int(number))
    for (_, name), members in small.items():
        if len(members) < GROUP_MIN_MEMBERS:
            continue
        region = np.isin(owner, members)
        rows, columns = np.nonzero(region)
        if np.ptp(rows) < MIN_HEIGHT * factor or np.ptp(columns) < MIN_WIDTH * factor:
            continue
        values[region] = LABEL_IDS[name]
        written.update(dict.fromkeys(members, f"{name}group"))
    return values, written


def polygons(
    background: np.ndarray,
    outlines: dict[int, np.ndarray],
    written: dict[int, str],
    scale: float,
) -> dict[str, Any]:
    """The content of a gtFine_polygons.json file.

    As in Cityscapes the polygons are layers: each covers those before it.

    Args:
        background: HxW uint8 label ids.
        outlines: Outline of each thing, Nx1x2 pixels of the drawn (larger) picture, in
            drawing order.
        written: Label per thing number, from :func:`instance_map`.
        scale: Drawn pixels per pixel of the label maps.
    """
    height, width = background.shape
    objects = []
    for value, name in BACKGROUND.items():
        region = (background == value).astype(np.uint8)
        found, _ = cv2.findContours(region, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
        for contour in found:
            if len(contour) >= 3 and cv2.contourArea(contour) >= 8:
                objects.append({"label": name, "polygon": _points(contour, 1.0)})
    for number, outline in outlines.items():
        if number in written and len(outline) >= 3:
            points = _points(outline, scale)
            if len(points) >= 3:
                objects.append({"label": written[number], "polygon": points})
    return {"imgHeight": height, "imgWidth": width, "objects": objects}


def _points(contour: np.ndarray, scale: float) -> list[list[int]]:
    smooth = cv2.approxPolyDP(contour, 0.8 * scale, True)[:, 0]
    return (smooth / scale).astype(int).tolist()
