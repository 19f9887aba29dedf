"""Pseudo-label maps on disk, and the transforms that read and paste them."""

import hashlib
import json
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import cv2
import numpy as np
import torch
from mmengine.dataset import Compose
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader

from pld_mmdet.engine.state.files import write_atomic
from pld_mmdet.errors import UserError
from pld_mmdet.registry import TRANSFORMS
from pld_mmdet.segmentation.data.pipelines import to_tensor
from pld_mmdet.segmentation.data.views import strong_view
from pld_mmdet.segmentation.learners.losses import IGNORE

INDEX = "index.json"


class LabelFolder:
    """Label maps of one round: ``<stem of the image>.png`` and ``index.json``.

    The index is written last, so a folder with an index is complete. It holds the
    ``thresholds`` and ``confidence`` of the classes, and for each class the images
    that have it: ``[pixels, path of the image]``.

    Args:
        folder: Where they are.
        palette: Colours of the classes, C x 3, in which a viewer shows the maps that
            are written [none: grey]; what is read is the class either way.
    """

    def __init__(
        self, folder: Path | str, palette: Sequence[Sequence[int]] | None = None
    ) -> None:
        self.folder, self.palette = Path(folder), palette

    def path(self, image: str) -> Path:
        """The label map of an image file."""
        return self.folder / f"{Path(image).stem}.png"

    def write(self, image: str, labels: np.ndarray) -> None:
        """Write a label map, H x W uint8, whole."""
        if self.palette is not None:
            shown = Image.fromarray(labels)
            colours = np.zeros((256, 3), np.uint8)  # all: a short palette cuts 255 off
            colours[: len(self.palette)] = self.palette
            shown.putpalette(colours.tobytes())
            write_atomic(self.path(image), lambda file: shown.save(file, "PNG"))
            return
        done, data = cv2.imencode(".png", labels)
        if not done:
            raise ValueError(f"a label map of shape {labels.shape} is no PNG")
        write_atomic(self.path(image), lambda file: file.write(data.tobytes()))

    def read(self, image: str) -> np.ndarray:
        """The label map of an image file, H x W uint8.

        Raises:
            UserError: There is none.
        """
        try:
            with Image.open(self.path(image)) as file:
                labels = np.array(file)  # of a palette PNG the classes, not the colours
        except OSError:
            raise UserError(
                f"There is no pseudo-label map {self.path(image)}.",
                "The stage's work_dataloader must read the images that it trains on; "
                "delete the folder and use --resume to make the labels again.",
            ) from None
        return labels

    def finish(self, index: dict) -> None:
        """Write the index: the folder is complete."""
        text = json.dumps(index)
        write_atomic(self.folder / INDEX, lambda file: file.write(text.encode()))

    def index(self) -> dict:
        """The index, empty while labels are being written."""
        path = self.folder / INDEX
        return json.loads(path.read_text()) if path.is_file() else {}


class LabelPass:
    """Gathers one pass over the target images into a folder of labels.

    Args:
        folder: Receives the maps, and at the end the index.
        num_classes: C.
    """

    def __init__(self, folder: LabelFolder, num_classes: int) -> None:
        self.folder = folder
        self.mean = np.full(num_classes, np.nan)  # EMA of the selected confidences
        self.images: list[list] = [[] for _ in range(num_classes)]

    def add(
        self,
        paths: list[str],
        confidence: np.ndarray,
        labels: np.ndarray,
        theta: np.ndarray,
    ) -> None:
        """Select the labels of a batch and write them.

        Args:
            paths: Of the N images.
            confidence: N x H x W.
            labels: N x H x W, classes.
            theta: C thresholds.
        """
        pairs = zip(confidence, labels, strict=True)
        chosen = np.stack([select(sure, found, theta) for sure, found in pairs])
        for c in np.unique(chosen[chosen != IGNORE]):
            now, before = confidence[chosen == c].mean(dtype=np.float64), self.mean[c]
            self.mean[c] = now if np.isnan(before) else 0.99 * before + 0.01 * now
        for path, one in zip(paths, chosen, strict=True):
            self.folder.write(path, one)
            pixels = np.bincount(one.ravel(), minlength=256)
            for c in np.flatnonzero(pixels[: len(self.images)]):
                self.images[c].append([int(pixels[c]), path])

    def finish(self, marks: dict, theta: np.ndarray) -> None:
        """Write the index: what made the labels, thresholds, confidence, images."""
        known = [None if np.isnan(m) else float(m) for m in self.mean]
        found = dict(thresholds=theta.tolist(), confidence=known, images=self.images)
        self.folder.finish({**marks, **found})


def check_everywhere(stage: str, loader: DataLoader) -> None:
    """Refuse a stage whose loader does not give all target images to one process."""
    if len(loader.sampler) < len(loader.dataset):
        raise UserError(
            f"Before stage {stage} one process labels all {len(loader.dataset)} "
            f"images, but its sampler gives it {len(loader.sampler)} of them.",
            "Set sampler=dict(type='pld_mmdet.ResumableSampler', infinite=False, "
            "everywhere=True) in the stage's work_dataloader.",
        )


def fingerprint(network: nn.Module) -> str:
    """A hash of the weights: labels that other weights made are no longer wanted."""
    digest = hashlib.sha256()
    for name, tensor in network.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).numpy().tobytes())
    return digest.hexdigest()


def hard_class_weights(confidence: np.ndarray) -> np.ndarray:
    """Sampling weights ``q_c ~ (1 - m_c)^2`` over the classes; 0 for unknown ones.

    Args:
        confidence: Mean confidence m_c of each class's selected pixels, NaN where a
            class has none (SYNTHIA lacks three: the released code gets NaN for all).

    Examples:
        >>> hard_class_weights(np.array([0.95, 0.9, 0.7, 0.5])).round(6).tolist()
        [0.007092, 0.028369, 0.255319, 0.70922]
    """
    weights = np.nan_to_num((1 - confidence) ** 2)
    return weights / max(weights.sum(), np.finfo(float).tiny)


@TRANSFORMS.register_module()
class LoadPseudoLabels:
    """Read an image's pseudo-label map as ``gt_seg_map``.

    Args:
        folder: Of the maps; ``{folder}`` in a stage's loader is that stage's folder.
        resize: Bring the map to the image's size, to the nearest label [False: another
            size is a mistake; True in the released code, which labels small images and
            trains on whole ones].
    """

    def __init__(self, folder: str, resize: bool = False) -> None:
        self.labels, self.resize = LabelFolder(folder), resize

    def __call__(self, results: dict) -> dict:
        """Add the map.

        Raises:
            UserError: It is missing or has not the image's size.
        """
        labels = self.labels.read(results["img_path"])
        if self.resize:
            labels = _nearest(labels, results["img"].shape[:2])
        if labels.shape != results["img"].shape[:2]:
            raise UserError(
                f"The pseudo-labels of {results['img_path']} are {labels.shape}, the "
                f"image is {results['img'].shape[:2]}.",
                "Resize images alike in the work_dataloader and before "
                "LoadPseudoLabels, or set its resize=True.",
            )
        results["gt_seg_map"] = labels
        results["seg_fields"].append("gt_seg_map")
        return results


@TRANSFORMS.register_module()
class PasteHardClasses:
    """Hard-aware pseudo-label augmentation (HIAST): paste hard classes of other images.

    The hard set K are the ``hard`` classes with the smallest mean confidence m_c. A
    class is drawn by q_c among those of K not yet pasted, then an image among those
    that contain it, and all of its pixels with a label in K are pasted, image and
    label; at most ``times`` times, until half of K has been pasted.

    Args:
        folder: As in :class:`LoadPseudoLabels`.
        load: Transforms that load a donor's image at the size of the other images; its
            labels are brought to it.
        hard: Number of hard classes [14 of Cityscapes' 19].
        times: [3].
        drop: Share of a class's images, those with the fewest pixels, that never give
            [0.1].
        one_donor: The released code stops after the first donor, because it counts
            all hard classes as pasted then [False: what its comments describe].
    """

    def __init__(
        self,
        folder: str,
        load: list[dict],
        hard: int = 14,
        times: int = 3,
        drop: float = 0.1,
        one_donor: bool = False,
    ) -> None:
        self.labels, self.load = LabelFolder(folder), Compose(load)
        self.hard, self.times, self.drop = hard, times, drop
        self.one_donor = one_donor

    @cached_property
    def _donors(self) -> tuple[np.ndarray, np.ndarray, list[list[str]]]:
        """The hard set K [C] bool, the weights q [C], and the images of each class."""
        index = self.labels.index()
        if not index:
            raise UserError(
                f"{self.labels.folder} holds no complete pseudo-labels.",
                "Give the stage a work_dataloader, which reads the images to label.",
            )
        confidence = np.array(index["confidence"], float)
        # NaN sorts last: a class without selected pixels is not hard, it is unknown
        order = np.argsort(confidence, kind="stable")[: self.hard]
        hard = np.zeros(len(confidence), bool)
        hard[order] = ~np.isnan(confidence[order])
        images = []
        for listed in index["images"]:
            listed = sorted(listed, key=lambda one: (-one[0], one[1]))
            kept = int(np.ceil(len(listed) * (1 - self.drop)))
            images.append([path for _, path in listed[:kept]])
        return hard, hard_class_weights(confidence), images

    def __call__(self, results: dict) -> dict:
        """Paste onto ``img`` and ``gt_seg_map``."""
        hard, weights, images = self._donors
        left = hard & np.array([len(found) > 0 for found in images])
        pasted = np.zeros_like(hard)
        image, labels = results["img"].copy(), results["gt_seg_map"].copy()
        for _ in range(self.times):
            share = weights * left
            if share.sum() == 0 or 2 * pasted.sum() >= hard.sum():
                break
            drawn = np.random.choice(len(share), p=share / share.sum())
            path = images[drawn][np.random.randint(len(images[drawn]))]
            donor = self.load(dict(img_path=path, seg_fields=[]))["img"]
            there = _nearest(self.labels.read(path), donor.shape[:2])
            here = np.append(hard, np.zeros(256 - len(hard), bool))[there]
            image[here], labels[here] = donor[here], there[here]
            found = np.unique(there[here])
            pasted[found] = True
            left[found] = False
            if self.one_donor:
                break
        results["img"], results["gt_seg_map"] = image, labels
        return results


@TRANSFORMS.register_module()
class PackViews:
    """End a pipeline: a weak and a strong view of one geometry, and the label map.

    The sample is ``dict(weak=, strong=, targets=)``: two images 3 x H x W uint8 and
    labels H x W. The strong view is the weak one after colour operations.

    Args:
        operations: How many of the eight operations are chosen [3].
        probability: Of each chosen one to be applied [0.5].
        blur: Smallest and largest odd kernel of the blur in pixels [3, 41].
        mild: Contrast and brightness within 20 % [False, as released].
    """

    def __init__(
        self,
        operations: int = 3,
        probability: float = 0.5,
        blur: tuple[int, int] = (3, 41),
        mild: bool = False,
    ) -> None:
        self.operations, self.probability = operations, probability
        self.blur, self.mild = tuple(blur), mild

    def __call__(self, results: dict) -> dict:
        """Pack."""
        weak, labels = results["img"], results["gt_seg_map"]
        strong = strong_view(
            weak, self.operations, self.probability, self.blur, self.mild
        )
        return {
            "weak": to_tensor(weak),
            "strong": to_tensor(strong),
            "targets": torch.from_numpy(labels.astype(np.int64)),
        }


def _nearest(labels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A label map at another height and width."""
    if labels.shape == size:
        return labels
    return cv2.resize(labels, size[::-1], interpolation=cv2.INTER_NEAREST)


def select(confidence: np.ndarray, labels: np.ndarray, theta: np.ndarray) -> np.ndarray:
    """Labels whose confidence reaches their class's threshold, 255 elsewhere.

    Args:
        confidence: H x W.
        labels: H x W, classes.
        theta: C thresholds.

    Returns:
        H x W uint8.
    """
    return np.where(confidence >= theta[labels], labels, IGNORE).astype(np.uint8)
