"""Boxes of another labeller beside the teacher's: a union, not an intersection.

Clusters as in weighted boxes fusion (ZFTurbo/Weighted-Boxes-Fusion, 96880f3d), class by
class. Its average score is wrong for missing labels: a box of 0.8 that one of two
labellers sees would count 0.4. Here a cluster has its best score, and stays if any of
its boxes passes the threshold of the labeller it comes from.
"""

from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import numpy as np
import torch
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData
from torch import nn

from pld_mmdet.detection.boxes.views import project_boxes, view_matrix
from pld_mmdet.detection.data.coco import check_coco
from pld_mmdet.detection.pseudo_labels.labeller import Labels, LabelStep
from pld_mmdet.errors import UserError
from pld_mmdet.reading import read_json
from pld_mmdet.registry import MODELS

CLUSTER_IOU = 0.55
EXTRA_IOU = 0.2


def fuse(
    sources: list[InstanceData],
    thresholds: list[float],
    iou: float = CLUSTER_IOU,
    extra_iou: float = EXTRA_IOU,
    score: str = "max",
) -> InstanceData:
    """The confident boxes of several labellers of one image.

    Args:
        sources: Detections of each labeller, all scores; the first is trusted most.
        thresholds: Score of each, strictly above which a box is confident.
        iou: A box joins the cluster of its class whose fused box it overlaps most, if
            by more than this (0.55).
        extra_iou: A cluster that no confident box of the first labeller is in stays
            only if its IoU with all clusters that have one is at most this, whatever
            the class (0.2, as RT-SFOD).
        score: ``'max'``, or ``'avg'`` as WBF: the mean of the members, times their
            number over the labellers' (at most 1).

    Returns:
        ``bboxes`` (score-weighted means of the members), ``scores``, ``labels``; best
        first. With one labeller whose own NMS is stricter than ``iou``: its confident
        boxes as they are.
    """
    pairs = enumerate(zip(sources, thresholds, strict=True))
    every = np.concatenate([_rows(found, limit, n) for n, (found, limit) in pairs])
    clusters: list[_Cluster] = []
    for row in every[np.argsort(-every[:, 4], kind="stable")]:
        same = [c for c in clusters if c.label == row[5]]
        overlaps = [_iou(row[None, :4], c.box[None])[0, 0] for c in same]
        best = int(np.argmax(overlaps)) if same else 0
        if same and overlaps[best] > iou:
            same[best].add(row)
        else:
            clusters.append(_Cluster(row))
    kept = [c for c in clusters if c.passes]
    sure = [c for c in kept if c.passes_first]
    if sure:
        boxes = np.stack([c.box for c in sure])
        kept = [
            c
            for c in kept
            if c.passes_first or _iou(c.box[None], boxes).max() <= extra_iou
        ]
    scores = [c.score(score, len(sources)) for c in kept]
    order = np.argsort([-s for s in scores], kind="stable")
    like = sources[0]
    return InstanceData(
        bboxes=like.bboxes.new_tensor(
            np.array([kept[n].box for n in order]).reshape(-1, 4)
        ),
        scores=like.scores.new_tensor([scores[n] for n in order]),
        labels=like.labels.new_tensor([int(kept[n].label) for n in order]),
    )


class _Cluster:
    """Boxes of one object: ``x1 y1 x2 y2 score label passes source``."""

    def __init__(self, row: np.ndarray) -> None:
        self.rows, self.label = [row], row[5]
        self.box = row[:4]

    def add(self, row: np.ndarray) -> None:
        self.rows.append(row)
        rows = np.stack(self.rows)
        weights = rows[:, 4:5]
        self.box = (rows[:, :4] * weights).sum(0) / weights.sum()

    @property
    def passes(self) -> bool:
        return any(row[6] for row in self.rows)

    @property
    def passes_first(self) -> bool:
        return any(row[6] and row[7] == 0 for row in self.rows)

    def score(self, kind: str, labellers: int) -> float:
        scores = [row[4] for row in self.rows]
        if kind == "max":
            return float(max(scores))
        return float(np.mean(scores) * min(len(scores), labellers) / labellers)


def _rows(found: InstanceData, threshold: float, number: int) -> np.ndarray:
    columns = [
        found.bboxes,
        found.scores[:, None],
        found.labels[:, None],
        (found.scores > threshold)[:, None],
        torch.full_like(found.scores[:, None], number),
    ]
    return torch.cat([c.double() for c in columns], 1).cpu().numpy()


def _iou(ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    low = np.maximum(ours[:, None, :2], theirs[None, :, :2])
    high = np.minimum(ours[:, None, 2:], theirs[None, :, 2:])
    inside = (high - low).clip(0).prod(-1)
    areas = [np.prod(b[:, 2:] - b[:, :2], axis=1) for b in (ours, theirs)]
    return inside / (areas[0][:, None] + areas[1][None] - inside).clip(1e-9)


@MODELS.register_module()
class SecondOpinion(LabelStep):
    """Refine: another labeller's boxes from a file, and which of them count.

    The file is COCO's: ``images`` (id, file_name), ``categories`` (id, name) and
    ``annotations`` with ``image_id``, ``category_id``, ``bbox`` (x, y, width, height
    in pixels of the file) and ``score``; or a bare list of results whose ``image_id``
    is a file name and whose ``category_id`` is a class name. Where ``images`` state
    ``width`` and ``height``, the images must have them (or have been turned).

    Without a ``threshold`` of its own, those above the score count that leaves the
    labeller as many boxes an image as the teacher has confident ones, or more where
    boxes of one score would be parted; the teacher's number is a running mean and
    travels in the checkpoint.

    Args:
        file: Path of the json.
        classes: The detector's, in the order of its labels.
        threshold: Score strictly above which a box is confident; None: as above.

    Raises:
        UserError: No such file, no COCO results, a class that the detector lacks.
    """

    def __init__(
        self, file: str, classes: tuple[str, ...], threshold: float | None = None
    ) -> None:
        super().__init__()
        self.file, self.threshold = str(file), threshold
        self.boxes = read_results(Path(file), classes)
        self._path_of: dict[str, str] = {}  # the one image that an entry is of
        every = [found.scores for found in self.boxes.values()]
        self.scores = torch.cat(every).sort(descending=True).values
        self.register_buffer("per_image", torch.zeros(()))
        self.register_buffer("steps", torch.zeros((), dtype=torch.long))
        self._register_load_state_dict_pre_hook(_keep_count, with_module=True)

    def check_images(
        self, files: list[str], sizes: Sequence[tuple[int, int]] | None = None
    ) -> int:
        """How many of the files have an entry.

        Args:
            files: Paths.
            sizes: Width and height of each in pixels, if known.

        Raises:
            UserError: None has, two have the same, or one of another size.
        """
        keys = [self._key(name) for name in files]
        for name, key, size in zip(files, keys, sizes or (), strict=bool(sizes)):
            if key is not None:
                self._check_size(key, name, size)
        found = sum(key is not None for key in keys)
        if files and not found:
            raise UserError(
                f"No image name in {self.file} is one of the images to learn from: it "
                f"has, for example, {next(iter(self.boxes), 'no image')!r}, and they "
                f"are called {files[0]!r}.",
                "Write file names (or the end of their paths) into it.",
            )
        return found

    def prepare(self, student: nn.Module, threshold: float) -> None:
        """Refuse a detector with masks."""
        if getattr(student, "with_mask", False):
            raise UserError(
                "second_opinion: pseudo masks are not carried between views.",
                "Leave it out for a detector with masks.",
            )

    def forward(self, labels: Labels) -> None:
        """Join to the teacher's confident boxes those that only the other one has.

        Boxes keep their meta information. A training step counts the teacher's boxes.
        """
        high = labels.high
        if labels.training:
            mean = sum(len(h) for h in high) / max(1, len(high))
            self.steps += 1
            share = max(1.0 / self.steps.item(), 0.01)
            self.per_image += share * (mean - self.per_image)
        joined = []
        for ours, sure, sample in zip(labels.seen, high, labels.samples, strict=True):
            theirs = self._in_view(sample, ours)
            if theirs is None:
                joined.append(sure)
                continue
            both = fuse([ours, theirs], [labels.threshold, self.own_threshold()])
            both.set_metainfo(dict(sure.metainfo_items()))
            joined.append(both)
        labels.high = joined

    def own_threshold(self) -> float:
        """The score behind as many boxes as the teacher would have in all images."""
        if self.threshold is not None:
            return self.threshold
        rank = int(self.per_image.item() * len(self.boxes))
        if rank >= len(self.scores):
            return 0.0
        limit = self.scores[rank]
        if rank > 0 and self.scores[rank - 1] == limit:  # a tie: all of it counts
            lower = self.scores[self.scores < limit]
            return lower[0].item() if len(lower) else 0.0
        return limit.item()

    def _in_view(
        self, sample: DetDataSample, like: InstanceData
    ) -> InstanceData | None:
        key = self._key(sample.img_path)
        if key is None:
            return None
        if "ori_shape" in sample:
            self._check_size(key, sample.img_path, sample.ori_shape[1::-1])
        found = self.boxes[key]
        matrix = view_matrix(sample)
        if matrix is None:
            raise UserError(
                "second_opinion: the weak view carries no homography_matrix.",
                "Add 'homography_matrix' to meta_keys of PackDetInputs.",
            )
        boxes = project_boxes(
            found.bboxes, torch.eye(3), torch.as_tensor(matrix), sample.img_shape[:2]
        )
        device = like.bboxes.device
        return InstanceData(
            bboxes=boxes.to(like.bboxes),
            scores=found.scores.to(like.scores),
            labels=found.labels.to(device),
        )

    def _check_size(self, key: str, path: str, size: tuple[int, int]) -> None:
        stated = self.boxes[key].get("size")
        if stated and sorted(stated) != sorted(size):  # EXIF may have turned it
            raise UserError(
                f"{self.file} has boxes for {stated[0]} x {stated[1]} px of {path}, "
                f"and the image has {size[0]} x {size[1]} px.",
                "Scale them to the pixels of the images, width and height too.",
            )

    def _key(self, path: str) -> str | None:
        """The entry whose name is the path, or the longest end of it.

        Raises:
            UserError: It served another image before.
        """
        whole = plain_name(path)
        parts = PurePosixPath(whole).parts
        ends = ["/".join(parts[n:]) for n in range(1, len(parts))]
        key = next((name for name in [whole, *ends] if name in self.boxes), None)
        other = whole if key is None else self._path_of.setdefault(key, whole)
        if other != whole:
            raise UserError(
                f"{key!r} in {self.file} is the name of two images, {other} and "
                f"{whole}.",
                "Write the folder into the names too.",
            )
        return key


def plain_name(name: object) -> str:
    """A path as it is compared: slashes only, no ``./`` before it.

    >>> plain_name("./sub\\\\a.jpg")
    'sub/a.jpg'
    """
    return str(PurePosixPath(str(name).replace("\\", "/")))


def _keep_count(module: SecondOpinion, state_dict: dict, prefix: str, *args) -> None:
    """A detector's own checkpoint knows nothing of a second opinion."""
    for name, buffer in module.named_buffers():
        state_dict.setdefault(prefix + name, buffer)


def read_results(path: Path, classes: tuple[str, ...]) -> dict[str, InstanceData]:
    """Boxes of a results file by image name; see :class:`SecondOpinion`."""
    content = read_json(path, what="second opinion")
    try:
        rows, images, names, sizes = _parts(content, path)
        found: dict[str, list] = {plain_name(name): [] for name in images.values()}
        unknown = set()
        for row in rows:
            image = plain_name(images.get(row["image_id"], row["image_id"]))
            name = str(names.get(row["category_id"], row["category_id"]))
            if name not in classes:
                unknown.add(name)
                continue
            x, y, width, height = map(float, row["bbox"])
            score = float(row["score"])
            if not 0 <= score <= 1:
                raise ValueError(f"a score of {score}, and 0 to 1 is meant")
            box = [x, y, x + width, y + height, score]
            found.setdefault(image, []).append([*box, classes.index(name)])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(
            f"{path} is no list of COCO results: {type(error).__name__} {error}.",
            "Each result has image_id, category_id, bbox [x, y, width, height] and "
            "score; images and categories give the ids their names.",
        ) from None
    if unknown:
        raise UserError(
            f"{path} has boxes of classes that the detector does not know: "
            f"{', '.join(sorted(unknown)[:8])}. It knows {', '.join(classes)}.",
            "Rename them in the file's categories, or leave their boxes out.",
        )
    return {name: _instances(rows, sizes.get(name)) for name, rows in found.items()}


def _parts(content, path: Path) -> tuple[list[dict], dict, dict, dict]:
    if isinstance(content, list):
        names = {row["category_id"] for row in content}
        categories = [dict(id=name, name=str(name)) for name in names]
        check_coco(dict(categories=categories, annotations=content), str(path))
        return content, {}, {}, {}
    if not isinstance(content, dict):
        raise TypeError("(neither a list nor an object)")
    check_coco(content, str(path))
    images = {image["id"]: image["file_name"] for image in content["images"]}
    names = {kind["id"]: kind["name"] for kind in content["categories"]}
    sizes = {
        plain_name(image["file_name"]): (image["width"], image["height"])
        for image in content["images"]
        if None not in (image.get("width"), image.get("height"))
    }
    return content["annotations"], images, names, sizes


def _instances(rows: list[list[float]], size: tuple | None) -> InstanceData:
    table = torch.tensor(rows, dtype=torch.float).reshape(-1, 6)
    return InstanceData(
        metainfo=dict(size=size),
        bboxes=table[:, :4],
        scores=table[:, 4],
        labels=table[:, 5].long(),
    )
