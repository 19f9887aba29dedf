"""Pipelines' first and last transforms: label maps in, dicts of tensors out.

Data sets and geometry are mmsegmentation's and mmcv's; what a sample is at the end is
the dict of tensors that :class:`pld_mmdet.engine.run.method.Method` takes.
"""

import hashlib

import cv2
import numpy as np
import torch

from pld_mmdet.engine.data.images import read_image
from pld_mmdet.errors import UserError
from pld_mmdet.registry import TRANSFORMS
from pld_mmdet.segmentation.learners.losses import IGNORE, UNANNOTATED

# Label ids of the Cityscapes benchmark (labels.py of cityscapesscripts).
LABEL_IDS = {
    "road": 7, "sidewalk": 8, "building": 11, "wall": 12, "fence": 13, "pole": 17,
    "traffic light": 19, "traffic sign": 20, "vegetation": 21, "terrain": 22,
    "sky": 23, "person": 24, "rider": 25, "car": 26, "truck": 27, "bus": 28,
    "train": 31, "motorcycle": 32, "bicycle": 33,
}  # fmt: skip


@TRANSFORMS.register_module()
class LoadInstanceIds:
    """Read a Cityscapes ``instanceIds`` PNG as a map of class numbers.

    The file holds ``label id`` or ``label id * 1000 + instance`` in 16 bits;
    ``mmseg.LoadAnnotations`` would cut them to 8. What is no class becomes 255.

    Args:
        classes: Names of the classes, in the order of their numbers.
        groups: Which of Cityscapes' classes make up each of them [the one of the same
            name]. The order is that of ``classes``: a dumped config sorts a dict.

    Raises:
        UserError: A name that Cityscapes does not have, or a file that is missing.
    """

    def __init__(
        self, classes: list[str], groups: dict[str, list[str]] | None = None
    ) -> None:
        members = [[name] if groups is None else groups[name] for name in classes]
        unknown = [n for group in members for n in group if n not in LABEL_IDS]
        if unknown:
            raise UserError(
                f"Cityscapes has no class {unknown[0]!r}.",
                f"Choose from {', '.join(LABEL_IDS)}.",
            )
        self.table = np.full(256, IGNORE, np.uint8)
        for number, group in enumerate(members):
            self.table[[LABEL_IDS[name] for name in group]] = number

    def __call__(self, results: dict) -> dict:
        """Add ``gt_seg_map``, H x W uint8."""
        path = results["seg_map_path"]
        ids = read_image(path, colours=False)
        if ids.ndim != 2:
            raise UserError(
                f"The label map {path} is no one-channel image.",
                "Prepare the data set again.",
            )
        ids = np.where(ids >= 1000, ids // 1000, ids)
        results["gt_seg_map"] = self.table[ids]
        results["seg_fields"].append("gt_seg_map")
        return results


@TRANSFORMS.register_module()
class RandomSizedCrop:
    """Cut a window of random height and the given shape, and resize it.

    Args:
        heights: Smallest and largest height of the window in pixels; at most the
            image's own.
        size: Height and width of the result.
    """

    def __init__(self, heights: tuple[int, int], size: tuple[int, int]) -> None:
        self.heights, self.size = tuple(heights), tuple(size)

    def __call__(self, results: dict) -> dict:
        """Cut ``img`` and every map of ``seg_fields`` alike."""
        rows, columns = results["img"].shape[:2]
        ratio = self.size[1] / self.size[0]
        most = int(min(self.heights[1], rows, columns / ratio))
        height = np.random.randint(min(self.heights[0], most), most + 1)
        width = min(round(height * ratio), columns)
        top = np.random.randint(rows - height + 1)
        left = np.random.randint(columns - width + 1)
        window = slice(top, top + height), slice(left, left + width)
        for key in ("img", *results.get("seg_fields", ())):
            way = cv2.INTER_LINEAR if key == "img" else cv2.INTER_NEAREST
            results[key] = cv2.resize(
                results[key][window], self.size[::-1], interpolation=way
            )
        results["img_shape"] = self.size
        return results


@TRANSFORMS.register_module()
class KeepPoints:
    """Sparse annotation: a few pixels of each class keep their label.

    Pixels without one become 254, so that 255, which padding and crops add later,
    still means "no image". The classes of the whole map are noted before a crop can
    lose one. Put it right behind the transform that loads the map.

    Args:
        num_classes: C.
        count: Annotated pixels that each class of an image keeps, drawn by the name
            of its file and the same in every epoch; None keeps every label (scribbles
            or points from a file; whole maps), and what is no class is unannotated.
        seed: Of the draw.
    """

    def __init__(self, num_classes: int, count: int | None = 1, seed: int = 0) -> None:
        self.num_classes, self.count, self.seed = num_classes, count, seed

    def __call__(self, results: dict) -> dict:
        """Thin out ``gt_seg_map``, H x W, and add ``present``, C bool."""
        labels = results["gt_seg_map"].copy()
        classes = [int(c) for c in np.unique(labels) if c < self.num_classes]
        results["present"] = np.isin(np.arange(self.num_classes), classes)
        if self.count is None:
            labels[labels >= self.num_classes] = UNANNOTATED
        else:
            name = f"{self.seed} {results['img_path'].rpartition('/')[2]}"
            digest = hashlib.sha256(name.encode()).digest()
            draw = np.random.default_rng(int.from_bytes(digest[:8], "big"))
            flat = labels.ravel()
            kept = np.full_like(flat, UNANNOTATED)
            for number in classes:
                places = np.flatnonzero(flat == number)
                some = draw.permutation(places)[: self.count]
                kept[some] = number
            labels = kept.reshape(labels.shape)
        results["gt_seg_map"] = labels
        return results


@TRANSFORMS.register_module()
class PackMaps:
    """End a pipeline: one image and its label map as tensors.

    The sample is ``dict(inputs=3 x H x W uint8, targets=H x W labels, labelled=bool,
    path=image file)``; without a label map all targets are 255 and ``labelled`` is
    False, so that labelled and unlabelled samples share a batch. ``present`` of
    :class:`KeepPoints` is handed on.
    """

    def __call__(self, results: dict) -> dict:
        """Pack."""
        image = results["img"]
        labels = results.get("gt_seg_map")
        if labels is None:
            targets = np.full(image.shape[:2], IGNORE, np.int64)
        else:
            targets = labels.astype(np.int64)
        found = {
            "inputs": to_tensor(image),
            "targets": torch.from_numpy(targets),
            "labelled": labels is not None,
            "path": str(results["img_path"]),
        }
        if "present" in results:
            found["present"] = torch.from_numpy(results["present"])
        return found


def to_tensor(image: np.ndarray) -> torch.Tensor:
    """H x W x 3 uint8 -> 3 x H x W uint8."""
    return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))
