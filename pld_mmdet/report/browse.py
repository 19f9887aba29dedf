"""Pseudo labels drawn into pictures, for people who would rather look."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import nn

from pld_mmdet.detection.mean_teacher import PseudoLabels
from pld_mmdet.report.markup import encoded, render

# BGR, and how thick: what the student gets stands out.
KINDS = {
    "dropped": ((170, 170, 170), 1),
    "mined": ((0, 165, 255), 2),
    "kept": ((60, 180, 60), 2),
}


@dataclass
class Labelled:
    """One image and its pseudo boxes.

    Args:
        path: The image file.
        boxes: By kind (``kept``, ``mined``, ``dropped``): [N, 4] in pixels of the file.
        texts: By kind: class and score of each box.
    """

    path: Path
    boxes: dict[str, np.ndarray]
    texts: dict[str, list[str]]

    @property
    def counts(self) -> dict[str, int]:
        """Boxes by kind."""
        return {kind: len(boxes) for kind, boxes in self.boxes.items()}


@torch.no_grad()
def label_images(model: nn.Module, loader, classes: tuple[str, ...]) -> Iterator:
    """Pseudo labels of the images of a loader.

    Args:
        model: A wrapper with ``pseudo_labels``, in evaluation mode.
        loader: Batches of a test pipeline.
        classes: Names; a class without one is shown by its number.

    Yields:
        :class:`Labelled`, in the loader's order.
    """
    names = dict(enumerate(classes))
    for batch in loader:
        data = model.data_preprocessor(batch, False)
        samples = data["data_samples"]
        pseudo = model.pseudo_labels(data["inputs"], samples)
        for n, sample in enumerate(samples):
            scale = np.tile(sample.scale_factor, 2)
            boxes, texts = {}, {}
            for kind, found in _kinds(pseudo, n).items():
                boxes[kind] = found.bboxes.cpu().numpy() / scale
                rows = zip(found.labels.tolist(), found.scores.tolist(), strict=True)
                texts[kind] = [f"{names.get(c, c)} {100 * s:.0f}" for c, s in rows]
            yield Labelled(Path(sample.img_path), boxes, texts)


def _kinds(pseudo: PseudoLabels, n: int) -> dict:
    """The kinds that a method has, of image n."""
    named = {"kept": pseudo.high, "mined": pseudo.low, "dropped": pseudo.dropped}
    return {kind: of[n] for kind, of in named.items() if of}


def draw(labelled: Labelled, hide: tuple[str, ...] = ()) -> np.ndarray:
    """The image with its boxes, uint8 BGR.

    Args:
        labelled: Image and boxes.
        hide: Kinds that are not drawn.
    """
    image = cv2.imdecode(np.fromfile(labelled.path, np.uint8), cv2.IMREAD_COLOR)
    for kind, (color, thick) in KINDS.items():
        if kind in hide or kind not in labelled.boxes:
            continue
        corners = labelled.boxes[kind].round().astype(int).tolist()
        for (x1, y1, x2, y2), text in zip(corners, labelled.texts[kind], strict=True):
            cv2.rectangle(image, (x1, y1), (x2, y2), color, thick)
            if kind == "kept":
                at = (x1, max(y1 - 3, 9))
                cv2.putText(image, text, at, cv2.FONT_HERSHEY_SIMPLEX, 0.35, color, 1)
    return image


def write_page(
    folder: Path, found: list[tuple[str, dict[str, int]]], title: str
) -> Path:
    """An ``index.html`` that shows the pictures with their counts.

    Args:
        folder: Holds the pictures.
        found: File name and counts of each.
        title: Headline.

    Returns:
        The page.
    """
    counted = [
        (name, ", ".join(f"{n} {kind}" for kind, n in counts.items()))
        for name, counts in found
    ]
    page = folder / "index.html"
    page.write_bytes(encoded(render("labels.html", title=title, found=counted)))
    return page
