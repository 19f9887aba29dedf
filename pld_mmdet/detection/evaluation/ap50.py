"""One evaluator that prints every AP50 convention side by side."""

import difflib
import json
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from mmengine.evaluator import BaseMetric
from mmengine.fileio import get_text
from mmengine.logging import MMLogger, print_log

from pld_mmdet.detection.data.coco import check_coco, read_coco
from pld_mmdet.detection.evaluation.average_precision import (
    COCO_IOUS,
    Detections,
    GroundTruth,
    coco_ap,
    pick_backend,
    voc_ap,
)
from pld_mmdet.errors import UserError
from pld_mmdet.registry import METRICS

SIZES = ("small", "medium", "large")
CONVENTIONS = {
    "coco/AP50": "COCO, 101 points, IoU >= 0.5",
    "voc07/AP50": "VOC 2007, 11 points, IoU > 0.5",
    "voc_area/AP50": "VOC area, IoU > 0.5",
}
AVERAGE = {"coco/AP": "COCO, mean over IoU 0.50 to 0.95"}


@METRICS.register_module()
class AP50Metric(BaseMetric):
    """COCO, VOC 2007 11-point and VOC area AP at IoU 0.5, per class.

    The keys are ``coco/AP50``, ``voc07/AP50``, ``voc_area/AP50``, each also with
    ``/<class>``, and ``coco/AP50_small|medium|large``. All are fractions. A class (or a
    size) without any object in the ground truth has no key and no part in a mean. The
    images are those that were evaluated; the log says so when the annotation file
    has more.

    Args:
        ann_file: COCO json of the evaluated split. Its class names must be those of
            the data set, in the same order (other classes between them may stay
            unused): mmdet numbers labels by the order in the *file*.
        area_bounds: Pixels (of the annotation's ``area``, as in COCO) between small
            and medium and between medium and large.
        report: Key printed as the headline and returned first.
        paper_metric: Key the papers of this benchmark use; named in the table. All
            SFOD benchmarks use the VOC 2007 metric (see LPLD, IRG).
        average: Also COCO's AP, the mean over ten IoUs, as ``coco/AP`` and
            ``coco/AP/<class>``. Ten times the work.
        iou_thr: IoU of a match: COCO counts equality, VOC does not.
        score_thr: Detections below it are dropped first.
        legacy_coordinates: VOC's ``x2 - x1 + 1`` sides, for the VOC numbers only.
        prefix: Put before all keys. None leaves them as above.
        collect_device: 'cpu' or 'gpu', for runs on several processes.
        backend: 'auto', 'faster_coco_eval' or 'pycocotools'.

    Raises:
        UserError: On class names that differ (the first difference is named), an
            unknown image, or a label that the data set does not have.
    """

    def __init__(
        self,
        ann_file: str,
        area_bounds: tuple[float, float] = (32**2, 96**2),
        report: str = "coco/AP50",
        paper_metric: str = "voc07/AP50",
        average: bool = False,
        iou_thr: float = 0.5,
        score_thr: float = 0.0,
        legacy_coordinates: bool = False,
        prefix: str | None = None,
        collect_device: str = "cpu",
        backend: str = "auto",
    ) -> None:
        super().__init__(collect_device=collect_device, prefix=prefix)
        self.conventions = CONVENTIONS | (AVERAGE if average else {})
        for key in (report, paper_metric):
            if key not in self.conventions:
                raise UserError(
                    f"AP50Metric: {key!r} is not one of its numbers.",
                    f"Use one of: {', '.join(self.conventions)} "
                    "(coco/AP with average=True).",
                )
        if not 0 < area_bounds[0] < area_bounds[1]:
            raise UserError(
                f"AP50Metric: area_bounds {tuple(area_bounds)} do not grow.",
                "Give two areas in pixels, for example (32**2, 96**2).",
            )
        self.ann_file = ann_file
        self.area_bounds = tuple(area_bounds)
        self.report = report
        self.paper_metric = paper_metric
        self.iou_thr = iou_thr
        self.score_thr = score_thr
        self.legacy_coordinates = legacy_coordinates
        self.backend = pick_backend(backend)
        self._annotations: dict | None = None

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        """Keep the detections of one batch.

        Args:
            data_batch: Not used.
            data_samples: One dict per image with ``img_id`` and ``pred_instances``
                (``bboxes`` in pixels of the original image, ``scores``, ``labels``).
        """
        for sample in data_samples:
            found = sample["pred_instances"]
            boxes = _array(found["bboxes"]).reshape(-1, 4).astype(np.float64)
            scores = _array(found["scores"]).astype(np.float64)
            labels = _array(found["labels"]).astype(np.int64)
            self.results.append((sample["img_id"], boxes, scores, labels))

    def compute_metrics(self, results: list) -> dict[str, float]:
        """All numbers, and the table in the log.

        Args:
            results: What :meth:`process` kept, of all processes.
        """
        classes = list((self.dataset_meta or {}).get("classes", ()))
        if self._annotations is None:
            self._annotations = _load(self.ann_file)
        category_of = match_classes(classes, self._annotations, self.ann_file)
        ground_truth, detections, images = self._flatten(results, category_of, classes)
        coco = coco_ap(
            detections,
            ground_truth,
            images,
            len(classes),
            self.area_bounds,
            self.iou_thr,
            self.backend,
        )
        voc07, voc_area = voc_ap(
            detections,
            ground_truth,
            len(classes),
            self.iou_thr,
            self.legacy_coordinates,
        )
        columns = {"coco/AP50": coco[0], "voc07/AP50": voc07, "voc_area/AP50": voc_area}
        if "coco/AP" in self.conventions:
            columns["coco/AP"] = coco_ap(
                detections,
                ground_truth,
                images,
                len(classes),
                self.area_bounds,
                COCO_IOUS,
                self.backend,
            )[0]
        counts = ground_truth.counts(len(classes))
        metrics = self._name(columns, coco[1:], classes)
        print_log(
            self._table(columns, metrics, classes, counts),
            MMLogger.get_current_instance(),
        )
        return metrics

    def _flatten(
        self, results: list, category_of: dict[int, int], classes: list[str]
    ) -> tuple[GroundTruth, Detections, int]:
        # One entry per image in the file's order, so that neither the number of
        # processes nor a repeated image changes anything.
        known = [image["id"] for image in self._annotations["images"]]
        by_image = {image_id: rest for image_id, *rest in results}
        strange = by_image.keys() - set(known)
        if strange:
            raise UserError(
                f"{self.ann_file}: image id {min(strange, key=str)!r} was evaluated but"
                f" is not in this file ({len(strange)} of {len(by_image)} are not).",
                "Give the evaluator the annotation file of the data set it evaluates.",
            )
        order = [image_id for image_id in known if image_id in by_image]
        if len(order) < len(known):
            print_log(
                f"AP50Metric: {len(order)} of the {len(known)} images in"
                f" {self.ann_file} were evaluated; the numbers are of these.",
                MMLogger.get_current_instance(),
            )
        index = {image_id: i for i, image_id in enumerate(order)}
        kept = [by_image[image_id] for image_id in order]
        boxes, scores, labels = (
            np.concatenate([k[i] for k in kept]) if kept else np.zeros(shape)
            for i, shape in enumerate([(0, 4), 0, 0])
        )
        labels = labels.astype(np.int64)
        if len(labels) and not 0 <= labels.min() <= labels.max() < len(classes):
            wrong = labels.max() if labels.max() >= len(classes) else labels.min()
            raise UserError(
                f"The detector answers with class {wrong}, the data set"
                f" has {len(classes)} classes ({', '.join(classes)}).",
                "Set num_classes of the heads to the number of classes of the data.",
            )
        image = np.repeat(np.arange(len(kept)), [len(k[1]) for k in kept])
        finite = np.isfinite(scores) & np.isfinite(boxes).all(1)
        if not finite.all():
            print_log(
                f"AP50Metric: {(~finite).sum()} detections with a NaN or infinite score"
                " or box were left out. The network's weights may be broken.",
                MMLogger.get_current_instance(),
                level=30,
            )
        keep = finite & (scores >= self.score_thr)
        detections = Detections(image[keep], boxes[keep], scores[keep], labels[keep])
        return objects_of(self._annotations, index, category_of), detections, len(order)

    def _name(
        self, columns: dict[str, np.ndarray], sizes: np.ndarray, classes: list[str]
    ) -> dict[str, float]:
        keys = sorted(columns, key=lambda key: key != self.report)
        metrics = {key: _mean(columns[key]) for key in keys}
        for size, row in zip(SIZES, sizes, strict=True):
            metrics[f"coco/AP50_{size}"] = _mean(row)
        for key in keys:
            for name, value in zip(classes, columns[key], strict=True):
                metrics[f"{key}/{name}"] = float(value)
        # The three means stay, as NaN, when there is nothing to find at all.
        return {k: v for k, v in metrics.items() if k in columns or not math.isnan(v)}

    def _table(
        self,
        columns: dict[str, np.ndarray],
        metrics: dict[str, float],
        classes: list[str],
        counts: np.ndarray,
    ) -> str:
        width = max([len(name) for name in classes] + [4])
        head = f"{'class':<{width}}  objects    COCO   VOC07    area"
        head += "      AP" * ("coco/AP" in columns)
        lines = [f"AP50 in percent ({self.backend})", head, "-" * len(head)]
        rows = [
            (name, counts[i], *(column[i] for column in columns.values()))
            for i, name in enumerate(classes)
        ]
        for name, count, *values in rows:
            numbers = "  ".join(f"{_percent(v):>6}" for v in values)
            lines.append(f"{name:<{width}}  {count:>7}  {numbers}")
        lines.append("-" * len(head))
        numbers = "  ".join(f"{_percent(metrics[key]):>6}" for key in columns)
        lines.append(f"{'mean':<{width}}  {counts.sum():>7}  {numbers}")
        small, large = (f"{math.sqrt(bound):g}" for bound in self.area_bounds)
        by_size = ", ".join(
            f"{size} {_percent(metrics.get(f'coco/AP50_{size}', math.nan))}"
            for size in SIZES
        )
        lines.append(f"COCO by size: {by_size} (sides of {small} and {large} pixels)")
        lines.append(
            f"Headline: {self.report} = {_percent(metrics[self.report])}"
            f" ({self.conventions[self.report]}). Papers of this benchmark use"
            f" {self.paper_metric} = {_percent(metrics[self.paper_metric])}"
            f" ({self.conventions[self.paper_metric]}). Absent classes do not count."
        )
        return "\n".join(lines)


def match_classes(
    classes: Sequence[str], annotations: dict, ann_file: str
) -> dict[int, int]:
    """Category id -> class index; refuses names or an order that differ.

    Args:
        classes: Class names of the data set (and so of the detector's outputs).
        annotations: COCO json content.
        ann_file: Named in the error.

    Raises:
        UserError: Names the first class that differs.
    """
    categories = annotations["categories"]
    listed = [category["name"] for category in categories]
    for i, name in enumerate(classes):
        if name not in listed:
            near = difflib.get_close_matches(name, listed, 1)
            hint = f" (did it mean {near[0]!r}?)" if near else ""
            raise UserError(
                f"{ann_file}: class {i} of the data set, {name!r}, is not in the"
                f" file, which lists {', '.join(listed) or 'no class'}{hint}.",
                "Give config, annotation file and checkpoint the same class names.",
            )
    used = [category for category in categories if category["name"] in set(classes)]
    if not classes or len(used) != len(classes):
        raise UserError(
            f"{ann_file}: the data set names {len(classes)} classes, the file"
            f" has {len(used)} of these names.",
            "Set metainfo=dict(classes=...) of the data set to the file's names.",
        )
    for i, (name, category) in enumerate(zip(classes, used, strict=True)):
        if name != category["name"]:
            raise UserError(
                f"{ann_file}: class {i} is {name!r} in the data set but"
                f" {category['name']!r} in the file: every label would be shifted.",
                "Sort the file's categories in the order of the detector's classes "
                f"(their ids may stay): {', '.join(classes)}.",
            )
    return {category["id"]: i for i, category in enumerate(used)}


def objects_of(
    annotations: dict, index: dict, category_of: dict[int, int]
) -> GroundTruth:
    """The objects of a COCO json.

    Args:
        annotations: Its content.
        index: Image id -> index of the image; others are left out.
        category_of: From :func:`match_classes`.
    """
    rows = [
        row
        for row in annotations["annotations"]
        if row["image_id"] in index and row["category_id"] in category_of
    ]
    xywh = np.array([row["bbox"] for row in rows], float).reshape(-1, 4)
    ignore = [
        bool(row.get("iscrowd") or row.get("ignore") or row.get("difficult"))
        for row in rows
    ]
    return GroundTruth(
        image=np.array([index[row["image_id"]] for row in rows], int),
        boxes=np.concatenate([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], 1),
        labels=np.array([category_of[row["category_id"]] for row in rows], int),
        ignore=np.array(ignore, bool),
        area=np.array(
            [row.get("area", row["bbox"][2] * row["bbox"][3]) for row in rows], float
        ),
    )


def _load(ann_file: str) -> dict:
    if "://" not in ann_file and not Path(ann_file).is_file():
        raise UserError(
            f"AP50Metric: there is no annotation file {ann_file}.",
            "Make the data first (tools/prepare.py) or correct ann_file.",
        )
    if "://" not in ann_file:
        return read_coco(ann_file, fix="Make the annotation file again.")
    content = json.loads(get_text(ann_file))
    check_coco(content, ann_file)
    return content


def _array(values) -> np.ndarray:
    return (
        values.detach().cpu().numpy()
        if hasattr(values, "detach")
        else np.asarray(values)
    )


def _mean(values: np.ndarray) -> float:
    return float(np.nanmean(values)) if not np.isnan(values).all() else math.nan


def _percent(value: float) -> str:
    return "-" if math.isnan(value) else f"{100 * value:.1f}"
