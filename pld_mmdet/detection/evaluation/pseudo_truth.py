"""Pseudo labels of a training run against the hidden truth, as they are made."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

import torch
from mmdet.structures.bbox import bbox_overlaps
from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from torch import Tensor

from pld_mmdet.detection.boxes.views import project_boxes
from pld_mmdet.detection.data.coco import read_coco
from pld_mmdet.engine.run.models import unwrapped
from pld_mmdet.engine.state.files import write_json
from pld_mmdet.errors import UserError
from pld_mmdet.registry import HOOKS

STATE_KEY = "pld_pseudo_truth"


@HOOKS.register_module()
class PseudoTruthHook(Hook):
    """Count how many pseudo boxes are right; evidence, never an input of training.

    Reads ``model.pseudo_boxes`` (kind -> one ``InstanceData`` per image, boxes in
    pixels of the view) after each step and writes ``pseudo_truth.json``. With g a
    group of classes, the numbers of a kind are:

    - ``per_image``: boxes per image;
    - ``on_object``: share of the boxes with IoU >= ``min_iou`` with any object;
    - ``precision``: share with that IoU with an object of their class; ``_g``: of the
      boxes that are called a class of g;
    - ``recall``: share of the objects seen that such a box covers; ``_g``: of g's;
    - with ``candidates``, ``kept_k``: share of the candidates seen of kind k that are
      among the boxes (a candidate is known by its place).

    Boxes without a class (label >= C, PS-TTL's unknown ones) lie on any object; their
    ``precision_g`` is the share that lies on objects of g. Crowds are no objects.

    On several processes the numbers are those of the first.

    Args:
        ann_file: COCO json of the images with all boxes; category order gives labels.
        groups: Group name -> class names.
        branch: Branch whose data samples say where the boxes are. They need ``img_id``,
            ``ori_shape`` and ``homography_matrix``.
        candidates: The training annotations hold candidates that carry ``kind``.
        begin: The numbers count from this iteration on, the curve from 0.
        interval: Iterations of one point of the curve.
        min_iou: Overlap from which a box lies on an object.

    Raises:
        UserError: A group names a class that the file lacks.
    """

    def __init__(
        self,
        ann_file: str,
        groups: dict[str, Sequence[str]] | None = None,
        branch: str = "weak",
        candidates: bool = False,
        begin: int = 0,
        interval: int = 50,
        min_iou: float = 0.5,
    ) -> None:
        content = read_coco(ann_file, needs=("annotations", "categories"))
        self.truth = _boxes_of_images(content)
        names = [category["name"] for category in content["categories"]]
        self.num_classes = len(names)
        self.groups = {}
        for group, classes in (groups or {}).items():
            strange = [name for name in classes if name not in names]
            if strange:
                raise UserError(
                    f"PseudoTruthHook: group {group!r} names {strange[0]!r}, which is "
                    f"no class of {ann_file} ({', '.join(names)}).",
                    "Correct the groups in the config.",
                )
            self.groups[group] = torch.tensor([names.index(name) for name in classes])
        self.read_candidates = candidates
        self.candidates: dict = {}
        self.kinds: list[str] = []
        self.branch, self.begin = branch, begin
        self.interval, self.min_iou = interval, min_iou
        self.total: Counter = Counter()
        self.window: Counter = Counter()
        self.curve: list[dict] = []

    def before_train(self, runner) -> None:
        """Read what the candidates really are."""
        if not self.read_candidates:
            return
        dataset = runner.train_dataloader.dataset
        while hasattr(dataset, "dataset"):
            dataset = dataset.dataset
        content = read_coco(dataset.ann_file, needs=("annotations",))
        rows = [row for row in content["annotations"] if "kind" in row]
        if not rows:
            raise UserError(
                f"PseudoTruthHook: no candidate of {dataset.ann_file} says its kind.",
                "Make the file again (tools/make_ov_coco.py), or set candidates=False.",
            )
        self.kinds = sorted({row["kind"] for row in rows})
        label = {kind: number for number, kind in enumerate(self.kinds)}
        self.candidates = _boxes_of_images({"annotations": rows}, "kind", label)

    def after_train_iter(
        self, runner, batch_idx, data_batch=None, outputs=None
    ) -> None:
        """Count the boxes of this step."""
        if not is_main_process():
            return
        model = unwrapped(runner.model)
        samples = data_batch["data_samples"][self.branch]
        counts = self._count(model.pseudo_boxes, samples)
        self.window.update(counts)
        if runner.iter >= self.begin:
            self.total.update(counts)
        if (runner.iter + 1) % self.interval == 0:
            point = self.summary(self.window)
            self.curve.append({"iteration": runner.iter + 1, **point})
            runner.visualizer.add_scalars(
                {f"truth/{name}": value for name, value in point.items()},
                step=runner.iter + 1,
            )
            self.window = Counter()

    def after_train(self, runner) -> None:
        """Write ``pseudo_truth.json``."""
        if not is_main_process():
            return
        content = {
            "begin": self.begin,
            "images": self.total["images"],
            "metrics": self.summary(self.total),
            "counts": dict(sorted(self.total.items())),
            "curve": self.curve,
        }
        write_json(Path(runner.work_dir) / "pseudo_truth.json", content)

    def before_save_checkpoint(self, runner, checkpoint: dict) -> None:
        """Store what has been counted."""
        checkpoint[STATE_KEY] = {
            "total": dict(self.total),
            "window": dict(self.window),
            "curve": list(self.curve),
        }

    def after_load_checkpoint(self, runner, checkpoint: dict) -> None:
        """Go on counting when a run is resumed."""
        if runner._resume and STATE_KEY in checkpoint:
            state = checkpoint[STATE_KEY]
            self.total = Counter(state["total"])
            self.window = Counter(state["window"])
            self.curve = list(state["curve"])

    def summary(self, counts: Counter) -> dict[str, float]:
        """Shares in [0, 1]; a share of nothing has no key."""
        made = {}
        kinds = {name.split("/")[0] for name in counts if "/" in name}
        for kind in sorted(kinds - {"objects", "candidates"}):
            boxes = counts[f"{kind}/boxes"]
            made[f"{kind}/per_image"] = boxes / counts["images"]
            shares = {
                "on_object": ("on_object", boxes),
                "precision": ("right", boxes),
                "recall": ("found", counts["objects/all"]),
            }
            for g in self.groups:
                called = counts[f"{kind}/boxes_{g}"] or counts[f"{kind}/classless"]
                shares[f"precision_{g}"] = (f"right_{g}", called)
                shares[f"recall_{g}"] = (f"found_{g}", counts[f"objects/{g}"])
            for k in self.kinds:
                shares[f"kept_{k}"] = (f"kept_{k}", counts[f"candidates/{k}"])
            for name, (part, whole) in shares.items():
                if whole:
                    made[f"{kind}/{name}"] = round(counts[f"{kind}/{part}"] / whole, 6)
        return made

    @torch.no_grad()
    def _count(self, pseudo: dict, samples: list) -> Counter:
        counts = Counter(images=len(samples))
        nothing = torch.zeros(0, 4), torch.zeros(0, dtype=torch.long)
        for n, sample in enumerate(samples):
            objects, labels = self.truth.get(sample.img_id, nothing)
            counts["objects/all"] += len(labels)
            for g, members in self.groups.items():
                counts[f"objects/{g}"] += int(torch.isin(labels, members).sum())
            proposed, sorts = self.candidates.get(sample.img_id, nothing)
            for k, kind in enumerate(self.kinds):
                counts[f"candidates/{kind}"] += int((sorts == k).sum())
            matrix = torch.as_tensor(sample.homography_matrix)
            for kind, instances in pseudo.items():
                found = instances[n].cpu()
                boxes = project_boxes(
                    found.bboxes, matrix, torch.eye(3), sample.ori_shape
                )
                part = self._count_kind(boxes, found.labels, objects, labels)
                if self.kinds and len(boxes) and len(proposed):
                    at = bbox_overlaps(boxes, proposed).argmax(1).unique()
                    for k, name in enumerate(self.kinds):
                        part[f"kept_{name}"] = int((sorts[at] == k).sum())
                counts.update({f"{kind}/{key}": v for key, v in part.items()})
        return counts

    def _count_kind(
        self, boxes: Tensor, called: Tensor, objects: Tensor, labels: Tensor
    ) -> dict[str, int]:
        """Counts of one image and kind; boxes [N, 4], objects [G, 4]."""
        classless = called >= self.num_classes
        near = bbox_overlaps(boxes, objects) >= self.min_iou  # N x G
        right = near & ((called[:, None] == labels) | classless[:, None])
        part = {
            "boxes": len(boxes),
            "classless": int(classless.sum()),
            "on_object": int(near.any(1).sum()),
            "right": int(right.any(1).sum()),
            "found": int(right.any(0).sum()),
        }
        for g, members in self.groups.items():
            inside = torch.isin(labels, members)
            part[f"boxes_{g}"] = int(torch.isin(called, members).sum())
            part[f"right_{g}"] = int(right[:, inside].any(1).sum())
            part[f"found_{g}"] = int(right.any(0)[inside].sum())
        return part


def _boxes_of_images(
    content: dict, key: str = "category_id", label: dict | None = None
) -> dict[int, tuple[Tensor, Tensor]]:
    """Image id -> boxes [N, 4] (x1, y1, x2, y2) and labels [N]."""
    if label is None:
        label = {c["id"]: number for number, c in enumerate(content["categories"])}
    boxes, labels = defaultdict(list), defaultdict(list)
    for row in content["annotations"]:
        if not row.get("iscrowd"):
            x, y, w, h = row["bbox"]
            boxes[row["image_id"]].append([x, y, x + w, y + h])
            labels[row["image_id"]].append(label[row[key]])
    return {
        image: (torch.tensor(boxes[image]).float(), torch.tensor(labels[image]))
        for image in boxes
    }
