"""Boxes that machines proposed, beside boxes that people drew, through the pipeline."""

import math
import os

import numpy as np
from mmcv.transforms import BaseTransform
from mmdet.datasets import CocoDataset
from mmdet.datasets.api_wrappers import COCO
from mmdet.datasets.transforms import PackDetInputs

from pld_mmdet.errors import UserError
from pld_mmdet.registry import DATASETS, TRANSFORMS

EXTRAS = ("confidence", "clip_score", "is_base")
_MAKE = "Make the file again with tools/make_clip_candidates.py, or mend this entry."


def is_base(annotation: dict) -> bool:
    """Whether a person drew the box: by its flag, else because it has no score.

    The released code asks ``confidence >= 1``, which takes a candidate with a CLIP
    score of exactly 1 for a base box.
    """
    return bool(annotation.get("thing_isBase", "confidence" not in annotation))


def check_candidates(content: dict, source: str) -> None:
    """Refuse a training file whose boxes would be dropped or misread in silence.

    Args:
        content: COCO json content.
        source: Its path, for the error.

    Raises:
        UserError: Names the first annotation with an unknown category or image, a score
            outside [0, 1], no score though it is a candidate, or a box that is not
            finite, has no area or lies outside its image.
    """
    categories = {category["id"] for category in content["categories"]}
    images = {image["id"]: image for image in content["images"]}
    for row in content["annotations"]:
        problem = _problem(row, categories, images)
        if problem:
            raise UserError(f"{source}: annotation {row.get('id')} {problem}.", _MAKE)


def _problem(row: dict, categories: set, images: dict) -> str | None:
    if row["category_id"] not in categories:
        return f"has category id {row['category_id']}, which the file does not list"
    image = images.get(row["image_id"])
    if image is None:
        return f"is of image id {row['image_id']}, which the file does not list"
    if not is_base(row) and "confidence" not in row:
        return "is a candidate (thing_isBase false) without a confidence"
    for key in ("confidence", "clip_score"):
        score = row.get(key, 1.0)
        if not 0.0 <= score <= 1.0:  # also NaN
            return f"has {key} {score}, which is not in [0, 1]"
    x, y, w, h = row["bbox"]
    if not all(map(math.isfinite, (x, y, w, h))):
        return f"has the box {row['bbox']}"
    if w <= 0 or h <= 0:
        return f"has a box without area: {row['bbox']} (x, y, width, height)"
    if x >= image["width"] or y >= image["height"] or x + w <= 0 or y + h <= 0:
        return (
            f"has the box {row['bbox']} (x, y, width, height), outside its image of "
            f"{image['width']} x {image['height']}"
        )
    return None


class _CheckedCOCO(COCO):
    """mmdet's COCO of a file that has been looked at."""

    def __init__(self, annotation_file: str) -> None:
        super().__init__(annotation_file)
        check_candidates(self.dataset, annotation_file)
        for row in self.dataset["annotations"]:
            # VL-PLM's files write area 0 for candidates, and mmdet drops such boxes
            if row.get("area", 0) <= 0:
                row["area"] = row["bbox"][2] * row["bbox"][3]


@DATASETS.register_module()
class CandidateCocoDataset(CocoDataset):
    """COCO boxes and candidates; each instance knows confidence, score and origin.

    A base annotation is one with ``thing_isBase`` true, or without ``confidence``; its
    confidence and clip_score are 1. Take the pipeline ``LoadAnnotations``,
    ``LoadBoxExtras``, ..., ``PackCandidates``.

    Args:
        min_confidence: Candidates below it are left out (VL-PLM keeps CLIP > 0.5, the
            candidate file has done so).
        base_only: Leave out all candidates.
        **kwargs: As in mmdet's ``CocoDataset``.

    Raises:
        UserError: See :func:`check_candidates`; or images on this machine's disks are
            missing, all of them, not just the first.
    """

    COCOAPI = _CheckedCOCO

    def __init__(
        self, *args, min_confidence: float = 0.0, base_only: bool = False, **kwargs
    ) -> None:
        self.min_confidence = min_confidence
        self.base_only = base_only
        super().__init__(*args, **kwargs)

    def load_data_list(self) -> list[dict]:
        """As mmdet's, after a look at every image's place."""
        found = super().load_data_list()
        paths = [] if self.backend_args else [info["img_path"] for info in found]
        missing = [p for p in paths if "://" not in p and not os.path.isfile(p)]
        if missing:
            raise UserError(
                f"{self.ann_file}: {len(missing)} of its {len(paths)} images are "
                f"missing, for example {missing[0]}.",
                "Correct data_root or data_prefix, or complete the images.",
            )
        return found

    def parse_data_info(self, raw_data_info: dict) -> dict:
        """As mmdet's, with the extras in each instance."""
        image = raw_data_info["raw_img_info"]
        instances = []
        for row in raw_data_info["raw_ann_info"]:
            base = is_base(row)
            confidence = 1.0 if base else float(row["confidence"])
            if not base and (self.base_only or confidence < self.min_confidence):
                continue
            one = super().parse_data_info(
                {"raw_img_info": image, "raw_ann_info": [row]}
            )
            for instance in one["instances"]:  # none, if mmdet leaves the box out
                instance.update(
                    confidence=confidence,
                    clip_score=1.0
                    if base
                    else float(row.get("clip_score", confidence)),
                    is_base=base,
                )
                instances.append(instance)
        info = super().parse_data_info({"raw_img_info": image, "raw_ann_info": []})
        info["instances"] = instances
        return info


@TRANSFORMS.register_module()
class LoadBoxExtras(BaseTransform):
    """Put ``gt_confidence``, ``gt_clip_score``, ``gt_is_base`` beside ``gt_bboxes``.

    Comes right after ``LoadAnnotations``. Transforms that move boxes are fine; those
    that drop boxes are found by :class:`PackCandidates`.
    """

    def transform(self, results: dict) -> dict:
        """Read the extras of ``results['instances']``."""
        for key in EXTRAS:
            kind = bool if key == "is_base" else np.float32
            values = [instance[key] for instance in results["instances"]]
            results[f"gt_{key}"] = np.array(values, dtype=kind)
        return results


@TRANSFORMS.register_module()
class PackCandidates(PackDetInputs):
    """mmdet's ``PackDetInputs`` that packs the extras of the boxes too.

    Raises:
        UserError: The boxes and their extras are no longer as many.
    """

    mapping_table = PackDetInputs.mapping_table | {f"gt_{k}": k for k in EXTRAS}

    def transform(self, results: dict) -> dict:
        """Pack; see mmdet."""
        boxes = len(results["gt_bboxes"])
        for key in EXTRAS:
            found = results.get(f"gt_{key}")
            if found is None or len(found) != boxes:
                count = "no" if found is None else len(found)
                raise UserError(
                    f"{results.get('img_path')}: {boxes} boxes but {count} values of "
                    f"{key} reach PackCandidates.",
                    "Put LoadBoxExtras right after LoadAnnotations and take transforms "
                    "that drop boxes (FilterAnnotations, RandomCrop, RandomAffine) out "
                    "of the pipeline.",
                )
        return super().transform(results)
