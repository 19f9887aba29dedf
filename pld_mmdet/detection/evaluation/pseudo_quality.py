"""Pseudo labels against the hidden truth: evidence, never an input of training."""

import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from mmdet.structures import DetDataSample
from mmdet.structures.bbox import bbox_overlaps
from mmengine.structures import InstanceData
from torch import Tensor, nn

from pld_mmdet.detection.data.coco import read_coco
from pld_mmdet.detection.evaluation.polish_quality import FilterQuality, PolishGain
from pld_mmdet.detection.mean_teacher import PseudoLabels
from pld_mmdet.errors import UserError

SIZES = ("small", "medium", "large")


class PseudoLabelQuality:
    """Count how many pseudo boxes lie on objects, and which objects they miss.

    A box lies on an object when their IoU is at least ``min_iou``. For mined and
    dropped proposals the decoded box counts, and the class is the best one without
    background. Crowd regions are left out of the truth.

    Args:
        ann_file: COCO json of the images.
        classes: Names in the order of the labels [that of the file's categories].
            Objects of other classes do not count.
        area_bounds: Areas in px that separate small, medium and large objects.
        min_iou: Overlap from which a box lies on an object.

    Raises:
        UserError: The file cannot be read, or lacks a class.
    """

    def __init__(
        self,
        ann_file: str | Path,
        area_bounds: tuple[float, float] = (32**2, 96**2),
        min_iou: float = 0.5,
        classes: Sequence[str] | None = None,
    ) -> None:
        truth = read_coco(ann_file, needs=("images", "annotations", "categories"))
        self.ann_file = Path(ann_file)
        names = {c["id"]: c["name"] for c in truth["categories"]}
        order = {name: n for n, name in enumerate(classes or names.values())}
        lacks = [name for name in order if name not in names.values()]
        if lacks:
            raise UserError(
                f"{ann_file} has no category {lacks[0]!r}, a class of the detector.",
                "Name the annotations with all objects of its classes.",
            )
        label_of = {one: order[name] for one, name in names.items() if name in order}
        self.files = {image["id"]: image.get("file_name") for image in truth["images"]}
        boxes, labels = defaultdict(list), defaultdict(list)
        for item in truth["annotations"]:
            if not item.get("iscrowd") and item["category_id"] in label_of:
                x, y, w, h = item["bbox"]
                boxes[item["image_id"]].append([x, y, x + w, y + h])
                labels[item["image_id"]].append(label_of[item["category_id"]])
        self.truth = {
            image: (torch.tensor(boxes[image]).float(), torch.tensor(labels[image]))
            for image in boxes
        }
        self.area_bounds = torch.tensor(area_bounds, dtype=torch.float)
        self.min_iou = min_iou
        self.images = 0
        self.counts: Counter = Counter()

    def objects(self, sample: DetDataSample) -> tuple[Tensor, Tensor]:
        """Boxes [G, 4] in pixels of the file and labels [G] of an image.

        Raises:
            UserError: The truth is of other images.
        """
        name, path = self.files.get(sample.img_id, ""), sample.get("img_path")
        if name == "" or (name and path and Path(name).name != Path(path).name):
            there = f"is {name} there" if name else "is not there"
            raise UserError(
                f"{self.ann_file} is of other images: {path or 'an image'} (id "
                f"{sample.img_id}) {there}.",
                "Name the annotations of the same images, with the same ids.",
            )
        nothing = torch.zeros(0, 4), torch.zeros(0, dtype=torch.long)
        return self.truth.get(sample.img_id, nothing)

    def add(self, pseudo: PseudoLabels, samples: list) -> None:
        """Count one batch; ``samples`` say which images and at which scale."""
        for n, sample in enumerate(samples):
            boxes, labels = self.objects(sample)
            scale = torch.tensor(sample.scale_factor).repeat(2)
            groups = {"high": pseudo.high[n].cpu()}
            if pseudo.low:
                groups |= {
                    "low": pseudo.low[n].cpu(),
                    "dropped": pseudo.dropped[n].cpu(),
                }
            self._add_image(groups, boxes, labels, scale)
            self.images += 1

    def _add_image(
        self,
        groups: dict[str, InstanceData],
        boxes: Tensor,
        labels: Tensor,
        scale: Tensor,
    ) -> None:
        area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
        size = torch.bucketize(area, self.area_bounds, right=True)
        found = self._covered(groups["high"], boxes * scale, labels)
        self._count("objects", size)
        self._count("objects_found", size[found])
        for name, instances in groups.items():
            where = instances.get("decoded", instances.bboxes)
            self.counts[name] += len(where)
            if len(where) == 0 or len(boxes) == 0:
                continue
            iou, at = bbox_overlaps(where, boxes * scale).max(1)
            on = iou >= self.min_iou
            right = on & (labels[at] == instances.labels)
            self.counts[f"{name}_on_object"] += int(on.sum())
            self.counts[f"{name}_right_class"] += int(right.sum())
            if name != "high":
                missed = right & ~found[at]
                self.counts[f"{name}_on_missed"] += int(missed.sum())
                self._count(f"objects_in_{name}", size[at[missed].unique()])

    def _covered(self, high: InstanceData, boxes: Tensor, labels: Tensor) -> Tensor:
        if len(high) == 0 or len(boxes) == 0:
            return torch.zeros(len(boxes), dtype=torch.bool)
        overlap = bbox_overlaps(boxes, high.bboxes)
        same = labels[:, None] == high.labels
        return ((overlap >= self.min_iou) & same).any(1)

    def _count(self, name: str, size: Tensor) -> None:
        self.counts[name] += len(size)
        for n, label in enumerate(SIZES):
            self.counts[f"{name}/{label}"] += int((size == n).sum())

    def summary(self) -> dict[str, float]:
        """Fractions in [0, 1]; a fraction of nothing is NaN.

        ``high/...``, ``low/...``, ``dropped/...``: boxes ``per_image``; the share
        ``on_object`` and with the ``right_class`` (precision); ``on_missed``: share
        with the right class on an object that no high box covers.
        ``objects/...``, also by size: ``count``; ``found`` by high boxes (recall);
        ``gained_by_low`` and ``in_dropped``: not found, but covered by that group.
        """
        c = self.counts
        out = {}
        for group in ("high", "low", "dropped"):
            if group != "high" and "dropped" not in c and "low" not in c:
                continue
            out[f"{group}/per_image"] = _ratio(c[group], self.images)
            parts = ["on_object", "right_class"] + ["on_missed"] * (group != "high")
            for part in parts:
                out[f"{group}/{part}"] = _ratio(c[f"{group}_{part}"], c[group])
        for suffix in ("", *(f"/{s}" for s in SIZES)):
            total = c[f"objects{suffix}"]
            out[f"objects/count{suffix}"] = total
            out[f"objects/found{suffix}"] = _ratio(c[f"objects_found{suffix}"], total)
            for group, word in (("low", "gained_by_low"), ("dropped", "in_dropped")):
                if "low/per_image" in out:
                    part = c[f"objects_in_{group}{suffix}"]
                    out[f"objects/{word}{suffix}"] = _ratio(part, total)
        return out


@dataclass
class PolishedImage:
    """One image for the picture: boxes in pixels of the file.

    Attributes:
        path: The image file.
        truth: Objects [G, 4].
        before: Pseudo boxes [N, 4] as the teacher found them.
        after: The same, polished.
    """

    path: str
    truth: Tensor
    before: Tensor
    after: Tensor


@torch.no_grad()
def measure(
    model: nn.Module,
    loader: Iterable,
    truth: Path,
    area_bounds: tuple[float, float],
    polish: bool = False,
    jitters: tuple[int, float] = (10, 0.2),
    classes: Sequence[str] | None = None,
) -> tuple[dict[str, float], list[PolishedImage]]:
    """All numbers of one network over the images of a loader.

    Args:
        model: A wrapper with ``pseudo_labels``; with ``pseudo_sets`` each filter is
            measured, without the sizes and mined boxes of LPLD.
        loader: Batches of a test pipeline.
        truth: COCO json with all boxes.
        area_bounds: See :class:`PseudoLabelQuality`.
        polish: Also what polishing changes: ``polish/...`` for the teacher's boxes,
            ``jittered/...`` for the objects themselves after Gaussian jitter.
        jitters: Draws per object and share of its size, for the latter.
        classes: See :class:`PseudoLabelQuality`.

    Returns:
        The numbers, and with ``polish`` the images that have pseudo boxes.
    """
    quality = PseudoLabelQuality(truth, area_bounds, classes=classes)
    if not hasattr(model, "pseudo_sets"):
        for batch in loader:
            data = model.data_preprocessor(batch, training=False)
            pseudo = model.pseudo_labels(data["inputs"], data["data_samples"])
            quality.add(pseudo, data["data_samples"])
        return quality.summary(), []
    filters, gain, jittered = FilterQuality(), PolishGain(), PolishGain()
    generator, images = torch.Generator().manual_seed(0), []
    for batch in loader:
        data = model.data_preprocessor(batch, training=False)
        samples = data["data_samples"]
        objects = [quality.objects(sample) for sample in samples]
        scales = [torch.tensor(s.scale_factor).repeat(2) for s in samples]
        scaled = [(b * k, c) for (b, c), k in zip(objects, scales, strict=True)]
        sets = model.pseudo_sets(data["inputs"], samples)
        for n, (boxes, labels) in enumerate(scaled):
            filters.add({k: v[n].cpu() for k, v in sets.items()}, boxes, labels)
        if not polish:
            continue
        features = model.teacher.extract_feat(data["inputs"])
        device = features[0].device
        starts = [
            _jittered(b, c, s.img_shape, jitters, generator).to(device)
            for (b, c), s in zip(scaled, samples, strict=True)
        ]
        judged = model.judge(features, sets["found"], samples)
        for found, (boxes, labels) in zip(judged, scaled, strict=True):
            gain.add(found.cpu(), boxes, labels)
        for found, (boxes, labels) in zip(
            model.judge(features, starts, samples), scaled, strict=True
        ):
            jittered.add(found.cpu(), boxes, labels)
        images += [
            PolishedImage(s.img_path, b, i.bboxes.cpu() / k, i.polished.cpu() / k)
            for s, (b, _), i, k in zip(samples, objects, judged, scales, strict=True)
            if len(i) and "polished" in i
        ]
    numbers = filters.summary()
    if polish:
        numbers |= {f"polish/{k}": v for k, v in gain.summary().items()}
        numbers |= {f"jittered/{k}": v for k, v in jittered.summary().items()}
    return numbers, images


def _jittered(
    boxes: Tensor,
    labels: Tensor,
    shape: tuple[int, int],
    jitters: tuple[int, float],
    generator: torch.Generator,
) -> InstanceData:
    """Gaussian jitters of objects, as the box polisher learns from, of score 1.

    Clipped to the image: else clipping alone would look like polishing.
    """
    times, fraction = jitters
    size = (boxes[:, 2:] - boxes[:, :2]).clamp(min=1.0).repeat(1, 2)
    noise = torch.randn(times, *boxes.shape, generator=generator)
    moved = (boxes + fraction * noise * size).flatten(0, 1).clamp(min=0)
    moved = torch.minimum(moved, torch.tensor([*shape[1::-1], *shape[1::-1]]))
    real = ((moved[:, 2:] - moved[:, :2]) > 0).all(1)
    return InstanceData(
        bboxes=moved[real], labels=labels.repeat(times)[real], scores=real[real].float()
    )


def over_checkpoints(
    numbers: Sequence[dict[str, float]],
) -> tuple[dict[str, float], dict[str, float]]:
    """Mean and sample standard deviation of each number that all of them have."""
    names = [n for n in numbers[0] if all(n in one for one in numbers)]
    mean = {n: statistics.fmean(one[n] for one in numbers) for n in names}
    if len(numbers) < 2:
        return mean, dict.fromkeys(names, 0.0)
    return mean, {n: statistics.stdev(one[n] for one in numbers) for n in names}


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else float(np.nan)
