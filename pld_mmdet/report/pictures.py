"""Pictures of a few test images: truth, detections, pseudo labels.

Which images is a rule (evenly spaced in the test set), so nobody can pick the ones
that flatter. Photos are embedded once; boxes are drawn by the page on top of them.
"""

import base64
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import torch
from mmengine.config import Config, ConfigDict
from mmengine.dataset import pseudo_collate
from mmengine.registry import init_default_scope
from mmengine.structures import InstanceData
from torch import nn

from pld_mmdet.detection.evaluation.average_precision import (
    Detections,
    GroundTruth,
    best_objects,
)
from pld_mmdet.detection.evaluation.pseudo_quality import PseudoLabelQuality
from pld_mmdet.engine.config.data_files import read_dump
from pld_mmdet.engine.run.stack import import_mmdet
from pld_mmdet.engine.state.checkpoint import load_checkpoint_file
from pld_mmdet.engine.state.newest import find_latest
from pld_mmdet.errors import UserError

SHOWN_SCORE = 0.5
MAX_SIDE = 1024


@dataclass
class Box:
    """One box: pixels of the photo, what it says, and its CSS kind.

    Attributes:
        kind: truth, ignored, right, wrong, missed, high, low or dropped.
    """

    xyxy: tuple[float, float, float, float]
    text: str
    kind: str


@dataclass
class Panel:
    """Boxes over one photo, with a title and a line below."""

    title: str
    caption: str
    boxes: list[Box] = field(default_factory=list)


@dataclass
class Strip:
    """The panels of one test image."""

    index: int
    file: str
    jpeg: str
    width: int
    height: int
    panels: list[Panel]


def spaced(count: int, total: int) -> list[int]:
    """``count`` indices of ``total``, evenly spaced, first and last included."""
    count = min(count, total)
    if count < 2:
        return list(range(count))
    return [round(i * (total - 1) / (count - 1)) for i in range(count)]


class Detector:
    """A trained row: its config, its network with weights, its classes."""

    def __init__(self, work_dir: Path, device: str = "cpu") -> None:
        from mmdet.registry import MODELS

        import_mmdet()
        init_default_scope("mmdet")
        self.config = read_dump(work_dir / "config.py", build=True)
        latest = find_latest(work_dir)
        if latest is None:
            raise UserError(
                f"{work_dir} holds no checkpoint.",
                "Let the training finish: run the same reproduce command again.",
            )
        checkpoint = load_checkpoint_file(latest)
        model = ConfigDict(self.config.model)
        _without_downloads(model)
        self.model: nn.Module = MODELS.build(model)
        self.model.load_state_dict(checkpoint["state_dict"])
        self.model.to(device).eval()

    @torch.no_grad()
    def detect(self, item: dict) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Boxes [D, 4] in pixels of the photo, scores [D], labels [D] of one item."""
        found = self.model.test_step(pseudo_collate([item]))[0].pred_instances.cpu()
        return found.bboxes.numpy(), found.scores.numpy(), found.labels.numpy()

    @torch.no_grad()
    def pseudo_labels(self, item: dict):
        """What :meth:`LPLD.pseudo_labels` says about one item, and its data sample."""
        data = self.model.data_preprocessor(pseudo_collate([item]), False)
        samples = data["data_samples"]
        return self.model.pseudo_labels(data["inputs"], samples), samples[0]


def test_set(config: Config):
    """The data set of ``test_dataloader``."""
    from mmdet.registry import DATASETS

    return DATASETS.build(ConfigDict(config.test_dataloader.dataset))


def detection_strips(
    source: Detector, adapted: Detector, adapted_title: str, count: int
) -> tuple[list[Strip], int]:
    """Strips "input, truth, source detector, adapted detector".

    Args:
        source: The source detector.
        adapted: The adapted one; its test set gives the images.
        adapted_title: Written above its panel.
        count: How many images.

    Returns:
        The strips and the size of the test set.
    """
    data = test_set(adapted.config)
    names = data.metainfo["classes"]
    strips = []
    for index in spaced(count, len(data)):
        info, item = data.get_data_info(index), data[index]
        truth = _truth(info)
        panels = [Panel("Input", "what the detector sees"), _truth_panel(truth, names)]
        for title, detector in (("Source detector", source), (adapted_title, adapted)):
            panels.append(_judged(title, detector.detect(item), truth, names))
        strips.append(_strip(index, info["img_path"], panels))
    return strips, len(data)


def pseudo_label_strips(
    lpld: Detector, count: int, measured: int = 40
) -> tuple[list[Strip], PseudoLabelQuality]:
    """Strips with the kept, the mined and the dropped boxes of an LPLD teacher.

    Args:
        lpld: The detector.
        count: How many images to show.
        measured: How many evenly spaced images are compared with the hidden truth.
    """
    data = test_set(lpld.config)
    names = data.metainfo["classes"]
    shown = spaced(count, len(data))
    strips, quality = [], PseudoLabelQuality(data.ann_file, classes=names)
    for index in spaced(measured, len(data)):
        pseudo, sample = lpld.pseudo_labels(data[index])
        quality.add(pseudo, [sample])
    for index in shown:
        info = data.get_data_info(index)
        pseudo, sample = lpld.pseudo_labels(data[index])
        scale = np.tile(sample.metainfo["scale_factor"], 2)
        high, low, dropped = (
            _boxes(_plain(found[0], scale), kind, names)
            for kind, found in (
                ("high", pseudo.high),
                ("low", pseudo.low),
                ("dropped", pseudo.dropped),
            )
        )
        kept = f"{len(high)} confident boxes kept, {len(low)} proposals mined"
        panels = [
            _truth_panel(_truth(info), names),
            Panel("Labels the student gets", kept, low + high),
            Panel("All proposals", f"{len(dropped)} dropped", dropped + low + high),
        ]
        strips.append(_strip(index, info["img_path"], panels))
    return strips, quality


def _plain(found: InstanceData, scale: np.ndarray) -> Detections:
    """Boxes of one image on the CPU, in pixels of the photo."""
    boxes = found.bboxes.cpu().numpy() / scale
    labels = found.labels.cpu().numpy()
    return Detections(0 * labels, boxes, found.scores.cpu().numpy(), labels)


def _boxes(found: Detections, kind: str, names: tuple[str, ...]) -> list[Box]:
    rows = zip(found.boxes, found.scores, found.labels, strict=True)
    return [
        Box(tuple(box.tolist()), f"{names[label]} {100 * score:.0f} %", kind)
        for box, score, label in rows
    ]


def _truth(info: dict) -> GroundTruth:
    found = info["instances"]
    boxes = np.array([i["bbox"] for i in found], float).reshape(-1, 4)
    return GroundTruth(
        image=np.zeros(len(found), int),
        boxes=boxes,
        labels=np.array([i["bbox_label"] for i in found], int),
        ignore=np.array([i["ignore_flag"] for i in found], bool),
        area=(boxes[:, 2:] - boxes[:, :2]).prod(1),
    )


def _truth_panel(truth: GroundTruth, names: tuple[str, ...]) -> Panel:
    objects = int((~truth.ignore).sum())
    boxes = [
        Box(tuple(box.tolist()), names[label], "ignored" if skip else "truth")
        for box, label, skip in zip(
            truth.boxes, truth.labels, truth.ignore, strict=True
        )
    ]
    return Panel("Ground truth", f"{objects} objects", boxes)


def _judged(
    title: str,
    found: tuple[np.ndarray, np.ndarray, np.ndarray],
    truth: GroundTruth,
    names: tuple[str, ...],
) -> Panel:
    """Detections above the shown score, told apart by the VOC rule."""
    order = np.argsort(-found[1], kind="stable")
    boxes, scores, labels = (values[order] for values in found)
    keep = scores >= SHOWN_SCORE
    boxes, scores, labels = boxes[keep].astype(float), scores[keep], labels[keep]
    image = np.zeros(len(boxes), int)
    best, iou = best_objects(Detections(image, boxes, scores, labels), truth)
    taken: set[int] = set()
    drawn, wrong = [], 0
    for box, score, label, which, overlap in zip(
        boxes, scores, labels, best, iou, strict=True
    ):
        kind = "wrong"
        if overlap > 0.5 and truth.ignore[which]:
            kind = "ignored"
        elif overlap > 0.5 and which not in taken:
            kind = "right"
            taken.add(int(which))
        wrong += kind == "wrong"
        drawn.append(
            Box(tuple(box.tolist()), f"{names[label]} {100 * score:.0f} %", kind)
        )
    for which in np.flatnonzero(~truth.ignore):
        if which not in taken:
            box, label = truth.boxes[which], truth.labels[which]
            drawn.append(Box(tuple(box.tolist()), f"{names[label]} missed", "missed"))
    objects = int((~truth.ignore).sum())
    return Panel(title, f"{len(taken)} of {objects} found, {wrong} wrong", drawn)


def _strip(index: int, file: str, panels: list[Panel]) -> Strip:
    image = cv2.imdecode(np.fromfile(file, np.uint8), cv2.IMREAD_COLOR)
    if image is None:
        raise UserError(f"{file} is not an image.", "Run tools/check_data.py.")
    height, width = image.shape[:2]
    ratio = MAX_SIDE / max(height, width)
    if ratio < 1:
        size = (round(width * ratio), round(height * ratio))
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    _, jpeg = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 85])
    text = base64.b64encode(jpeg.tobytes()).decode()
    return Strip(index, Path(file).name, text, width, height, panels)


def _without_downloads(model: ConfigDict) -> None:
    """Weights come from the checkpoint; ``init_cfg`` would fetch others first."""
    for key, value in list(model.items()):
        if key == "init_cfg" and value and value.get("type") == "Pretrained":
            model[key] = None
        elif isinstance(value, dict):
            _without_downloads(value)
