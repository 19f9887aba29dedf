"""AP at one IoU threshold after the three conventions that papers use.

======== ======================== ============== =================================
name     precision is read at     a match needs  second choice of a taken object
======== ======================== ============== =================================
COCO     101 recalls, envelope    IoU >= 0.5     yes (best object still free)
VOC 2007 11 recalls, envelope     IoU >  0.5     no (a double detection is wrong)
VOC area every recall, envelope   IoU >  0.5     no
======== ======================== ============== =================================

Everywhere the mean goes over the classes that *occur* in the ground truth; the
released SFOD evaluators divide by all listed classes, which lets absent ones count
as zero. Everything is a fraction in [0, 1].
"""

import contextlib
import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pld_mmdet.errors import UserError

BACKENDS = ("faster_coco_eval", "pycocotools")
# COCO's AP is the mean over these.
COCO_IOUS = tuple(round(0.5 + 0.05 * step, 2) for step in range(10))


@dataclass
class GroundTruth:
    """Objects of a whole data set as flat arrays.

    Args:
        image: Image index of each object, ``[G]`` int.
        boxes: ``[G, 4]`` as x1, y1, x2, y2 in pixels.
        labels: Class index, ``[G]`` int.
        ignore: Crowd or difficult, ``[G]`` bool: whatever is matched to such an object
            counts neither way.
        area: Pixels, ``[G]``; decides small, medium, large.
    """

    image: np.ndarray
    boxes: np.ndarray
    labels: np.ndarray
    ignore: np.ndarray
    area: np.ndarray

    def counts(self, num_classes: int) -> np.ndarray:
        """Objects per class that have to be found, ``[C]``."""
        return np.bincount(self.labels[~self.ignore], minlength=num_classes)


@dataclass
class Detections:
    """Detections of a whole data set as flat arrays.

    Args:
        image: Image index of each detection, ``[D]`` int.
        boxes: ``[D, 4]`` as x1, y1, x2, y2 in pixels.
        scores: ``[D]``.
        labels: Class index, ``[D]`` int.
    """

    image: np.ndarray
    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray


def paired_iou(a: np.ndarray, b: np.ndarray, legacy: bool = False) -> np.ndarray:
    """IoU of row i of ``a`` with row i of ``b``.

    Args:
        a: ``[N, 4]`` x1, y1, x2, y2.
        b: ``[N, 4]``.
        legacy: Sides are ``x2 - x1 + 1``, as in the VOC devkit.

    Returns:
        ``[N]``; 0 where both boxes are empty.
    """
    one = float(legacy)
    low = np.maximum(a[:, :2], b[:, :2])
    sides = np.clip(np.minimum(a[:, 2:], b[:, 2:]) - low + one, 0, None)
    overlap = sides.prod(1)
    union = (a[:, 2:] - a[:, :2] + one).prod(1) + (b[:, 2:] - b[:, :2] + one).prod(1)
    union = union - overlap
    return np.divide(overlap, union, out=np.zeros_like(overlap), where=union > 0)


def best_objects(
    dets: Detections, gts: GroundTruth, legacy: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """For each detection the object of its image and class with the largest IoU.

    All (detection, object) pairs of the data set are laid out in one array: there is
    no loop over images or boxes.

    Args:
        dets: ``D`` detections.
        gts: ``G`` objects.
        legacy: See :func:`paired_iou`.

    Returns:
        Index of the object ``[D]`` (-1: none there) and the IoU ``[D]``.
    """
    best = np.full(len(dets.image), -1)
    best_iou = np.zeros(len(dets.image))
    if not len(dets.image) or not len(gts.image):
        return best, best_iou
    classes = 1 + max(dets.labels.max(), gts.labels.max())
    cell = gts.image * classes + gts.labels
    order = np.argsort(cell, kind="stable")
    wanted = dets.image * classes + dets.labels
    first = np.searchsorted(cell[order], wanted, "left")
    count = np.searchsorted(cell[order], wanted, "right") - first
    start = np.cumsum(count) - count
    det = np.repeat(np.arange(len(wanted)), count)
    obj = order[np.arange(len(det)) - start[det] + first[det]]
    iou = paired_iou(dets.boxes[det], gts.boxes[obj], legacy)
    some = count > 0
    if some.any():
        best_iou[some] = np.maximum.reduceat(iou, start[some])
        winners = np.flatnonzero(iou == best_iou[det])
        rows, at = np.unique(det[winners], return_index=True)
        best[rows] = obj[winners[at]]
    return best, best_iou


def eleven_point_ap(tp: np.ndarray, fp: np.ndarray, total: int) -> float:
    """VOC 2007 AP: mean of the best precision at recall >= 0, 0.1, ..., 1.

    Recalls are compared as integers: with floats, 3 of 5 objects is *below* the
    threshold ``6 * 0.1`` and a tenth of the AP is lost by rounding.

    Args:
        tp: Cumulated true positives in order of falling score, ``[D]`` int.
        fp: Cumulated false positives, ``[D]`` int.
        total: Objects to find.
    """
    precision = tp / np.maximum(tp + fp, 1)
    reached = 10 * tp[None, :] >= np.arange(11)[:, None] * total
    return float(np.where(reached, precision, 0.0).max(1, initial=0.0).mean())


def area_ap(tp: np.ndarray, fp: np.ndarray, total: int) -> float:
    """VOC 2010+ AP: area under the precision envelope. Arguments as above."""
    precision = tp / np.maximum(tp + fp, 1)
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    return float((np.diff(tp, prepend=0) * envelope).sum() / total)


def voc_ap(
    dets: Detections,
    gts: GroundTruth,
    num_classes: int,
    iou_thr: float = 0.5,
    legacy: bool = False,
) -> tuple[np.ndarray, np.ndarray]:
    """11-point and area AP per class after the VOC devkit.

    Each detection, best score first, takes the object it overlaps most. It is right
    when IoU is strictly above ``iou_thr`` and nobody took the object before, it is
    left out when the object is crowd or difficult, and wrong otherwise.

    Args:
        dets: Detections.
        gts: Ground truth.
        num_classes: C.
        iou_thr: Exactly this IoU is not a match.
        legacy: +1 pixel convention.

    Returns:
        Two arrays ``[C]``: AP 11-point and AP area; NaN for classes without objects.
    """
    best, iou = best_objects(dets, gts, legacy)
    hit = (best >= 0) & (iou > iou_thr)
    ignored = np.zeros(len(best), bool)
    ignored[hit] = gts.ignore[best[hit]]
    # Images stand in data set order, so equal scores resolve alike on every machine.
    order = np.lexsort((dets.image, -dets.scores))
    order = order[~ignored[order]]
    claims = order[hit[order]]
    _, at = np.unique(best[claims], return_index=True)
    right = np.zeros(len(best), bool)
    right[claims[at]] = True
    totals = gts.counts(num_classes)
    points, area = np.full((2, num_classes), np.nan)
    for label in np.flatnonzero(totals):
        good = right[order[dets.labels[order] == label]]
        tp, fp = np.cumsum(good), np.cumsum(~good)
        points[label] = eleven_point_ap(tp, fp, totals[label])
        area[label] = area_ap(tp, fp, totals[label])
    return points, area


def pick_backend(backend: str = "auto") -> str:
    """Name of the COCO evaluator: faster-coco-eval if there, else pycocotools."""
    if backend not in ("auto", *BACKENDS):
        raise UserError(
            f"AP50Metric: backend {backend!r} is unknown.",
            f"Use one of: auto, {', '.join(BACKENDS)}.",
        )
    for name in BACKENDS if backend == "auto" else (backend,):
        with contextlib.suppress(ImportError):
            __import__(name)
            return name
    raise UserError(
        f"No COCO evaluator is installed (looked for {backend}).",
        "Run: pip install faster-coco-eval",
    )


def coco_ap(
    dets: Detections,
    gts: GroundTruth,
    num_images: int,
    num_classes: int,
    area_bounds: tuple[float, float] = (32**2, 96**2),
    iou_thr: float | Sequence[float] = 0.5,
    backend: str = "auto",
    max_dets: int = 100,
) -> np.ndarray:
    """COCO AP at one IoU or the mean over several, per object size and class.

    Args:
        dets: Detections.
        gts: Ground truth.
        num_images: Images evaluated, those without objects included.
        num_classes: C.
        area_bounds: Pixels between small and medium, medium and large.
        iou_thr: Exactly this IoU is a match; several: the mean of their APs
            (:data:`COCO_IOUS` gives COCO's AP).
        backend: 'auto', 'faster_coco_eval' or 'pycocotools'.
        max_dets: Best detections of a class in an image that count.

    Returns:
        ``[4, C]`` for all, small, medium, large; NaN where no object is to be found.
    """
    totals = np.stack(
        [
            np.bincount(gts.labels[~gts.ignore & inside], minlength=num_classes)
            for inside in _inside(gts.area, area_bounds)
        ]
    )
    result = np.where(totals > 0, 0.0, np.nan)
    if not len(dets.image) or not totals.any():
        return result
    name = pick_backend(backend)
    if name == "faster_coco_eval":
        from faster_coco_eval import COCO
        from faster_coco_eval import COCOeval_faster as COCOeval
    else:
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval
    images = [{"id": i + 1} for i in range(num_images)]
    categories = [{"id": i + 1, "name": str(i)} for i in range(num_classes)]
    det_sides = dets.boxes[:, 2:] - dets.boxes[:, :2]
    gt_api = _index(
        COCO,
        images,
        categories,
        gts,
        area=gts.area.tolist(),
        iscrowd=gts.ignore.astype(int).tolist(),
    )
    det_api = _index(
        COCO,
        images,
        categories,
        dets,
        area=det_sides.prod(1).tolist(),
        iscrowd=[0] * len(dets.image),
        score=dets.scores.tolist(),
    )
    # Both evaluators print their progress; the table of AP50Metric says it better.
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation = COCOeval(gt_api, det_api, iouType="bbox")
        params = evaluation.params
        params.iouThrs = np.array(iou_thr, float).reshape(-1)
        params.maxDets = [max_dets]
        small, large = area_bounds
        params.areaRng = [[0, 1e10], [0, small], [small, large], [large, 1e10]]
        params.areaRngLbl = ["all", "small", "medium", "large"]
        evaluation.evaluate()
        evaluation.accumulate()
    precision = evaluation.eval["precision"][..., 0]  # IoUs x 101 recalls x C x 4
    return np.where(totals > 0, np.maximum(precision, 0).mean((0, 1)).T, np.nan)


def _inside(area: np.ndarray, bounds: tuple[float, float]) -> list[np.ndarray]:
    # COCO's ranges are closed on both sides: an object on a bound is in two of them.
    small, large = bounds
    return [
        np.ones(len(area), bool),
        area <= small,
        (area >= small) & (area <= large),
        area >= large,
    ]


def _index(api: type, images: list, categories: list, boxes, **columns) -> object:
    """A COCO api object from flat arrays, without a file in between."""
    xywh = boxes.boxes.astype(float).copy()
    xywh[:, 2:] -= xywh[:, :2]
    columns |= {
        "image_id": (boxes.image + 1).tolist(),
        "category_id": (boxes.labels + 1).tolist(),
        "bbox": xywh.tolist(),
    }
    rows = zip(*columns.values(), strict=True)
    with contextlib.redirect_stdout(io.StringIO()):
        coco = api()
        coco.dataset = {
            "images": images,
            "categories": categories,
            "annotations": [
                dict(zip(columns, row, strict=True), id=i + 1)
                for i, row in enumerate(rows)
            ],
        }
        coco.createIndex()
    return coco
