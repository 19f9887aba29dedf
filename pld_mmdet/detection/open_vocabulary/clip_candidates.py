"""Candidate boxes of novel classes from CLIP: the offline stage of MarvelOVD.

The VL-PLM recipe: class-agnostic proposals, two crops of each, the softmax over the
*novel names only* of cosine / 0.01, the best name kept. There is no entry for
background, so any crop must be some novel class; that is the noise that MarvelOVD
corrects. CLIP comes from transformers, which is an optional library.
"""

import hashlib
import json
import math
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from mmcv.ops import batched_nms
from mmdet.structures.bbox import bbox2roi
from torch import Tensor, nn

from pld_mmdet.detection.detectors.two_stage import run_box_head
from pld_mmdet.detection.open_vocabulary.text_classifier import check_names
from pld_mmdet.errors import UserError
from pld_mmdet.reading import read_json, read_json_lines
from pld_mmdet.shared.networks.clip import MEAN, STD, encode_names, load_clip

TEMPERATURE = 0.01
CROP_SCALES = (1.0, 1.5)
# 7 x 9 = 63 prompts, as many as VL-PLM takes; the sentences are ours.
OPENINGS = (
    "a photo of {}.",
    "a picture of {}.",
    "an image of {}.",
    "a close-up of {}.",
    "a view of {} in the scene.",
    "there is {} here.",
    "this is {}.",
)
NOUNS = (
    "{article} {name}",
    "the {name}",
    "one {name}",
    "a small {name}",
    "a large {name}",
    "a dark {name}",
    "a bright {name}",
    "a blurred {name}",
    "a partly hidden {name}",
)
TEMPLATES = tuple(o.format(n) for o in OPENINGS for n in NOUNS)


class ClipScorer:
    """CLIP that reads names once and scores boxes.

    Args:
        source: Folder or hub name of a CLIP model in transformers' format.
        names: Class names; the softmax is over these and nothing else.
        templates: Sentences with ``{name}`` and perhaps ``{article}``.
        device: As in torch.
        batch_size: Crops per forward pass.

    Raises:
        UserError: transformers is missing, the model cannot be loaded, or the
            vocabulary has an empty or a repeated name.
    """

    def __init__(
        self,
        source: str,
        names: Sequence[str],
        templates: Sequence[str] = TEMPLATES,
        device: str = "cpu",
        batch_size: int = 64,
    ) -> None:
        check_names(names)
        self.model, self.tokenizer = load_clip(source)
        self.model.to(device).requires_grad_(False)
        self.device, self.batch_size = device, batch_size
        self.side = self.model.config.vision_config.image_size
        mean, std = _normalisation(source)
        self.mean = torch.tensor(mean, device=device).view(3, 1, 1)
        self.std = torch.tensor(std, device=device).view(3, 1, 1)
        self.names = list(names)
        self.text = self.encode_names(names, templates)

    def encode_names(self, names: Sequence[str], templates: Sequence[str]) -> Tensor:
        """Unit vectors [K, D]: each prompt normalised, mean, normalised again."""
        prompts = []
        for name in names:
            article = "an" if name[0].lower() in "aeiou" else "a"
            prompts.append([t.format(article=article, name=name) for t in templates])
        return encode_names(self.model, self.tokenizer, prompts)

    @torch.no_grad()
    def encode_boxes(self, image: np.ndarray, boxes: Tensor) -> Tensor:
        """Unit vectors [N, D]: the crops at 1 x and 1.5 x, mean, normalised again.

        Args:
            image: H x W x 3, RGB bytes.
            boxes: [N, 4] in pixels.
        """
        height, width = image.shape[:2]
        pixels = torch.from_numpy(np.ascontiguousarray(image)).to(self.device)
        pixels = pixels.permute(2, 0, 1).float() / 255
        total = 0
        for scale in CROP_SCALES:
            crops = [
                self._prepare(pixels[:, y1:y2, x1:x2])
                for x1, y1, x2, y2 in crop_windows(boxes, scale, height, width)
            ]
            features = [
                _pooled(self.model.get_image_features(pixel_values=torch.stack(part)))
                for part in _parts(crops, self.batch_size)
            ]
            total = total + F.normalize(torch.cat(features), dim=1)
        return F.normalize(total, dim=1)

    def _prepare(self, crop: Tensor) -> Tensor:
        """Short side to CLIP's, centre crop, normalised: [3, S, S]."""
        _, h, w = crop.shape
        scale = self.side / min(h, w)
        size = max(self.side, round(h * scale)), max(self.side, round(w * scale))
        crop = F.interpolate(crop[None], size, mode="bicubic", antialias=True)[0]
        top, left = (size[0] - self.side) // 2, (size[1] - self.side) // 2
        crop = crop[:, top : top + self.side, left : left + self.side].clamp(0, 1)
        return (crop - self.mean) / self.std

    def score(self, image: np.ndarray, boxes: Tensor) -> Tensor:
        """Probabilities [N, K] of the names for the boxes [N, 4]."""
        if len(boxes) == 0:
            return torch.zeros(0, len(self.names))
        return name_probabilities(self.encode_boxes(image, boxes) @ self.text.T).cpu()


def _normalisation(source: str) -> tuple:
    """The folder's own colours; CLIP's for one without preprocessor_config.json."""
    path = Path(source) / "preprocessor_config.json"
    if not path.is_file():
        return MEAN, STD
    stored = read_json(path, {"image_mean?": [float], "image_std?": [float]})
    return stored.get("image_mean", MEAN), stored.get("image_std", STD)


def _pooled(output) -> Tensor:
    """The projected vector: transformers 5 wraps it, older ones return it."""
    return output if isinstance(output, Tensor) else output.pooler_output


def _parts(items: list, size: int) -> Iterable[list]:
    return (items[i : i + size] for i in range(0, len(items), size))


def name_probabilities(cosines: Tensor, temperature: float = TEMPERATURE) -> Tensor:
    """Softmax over names of cosine / temperature.

    Examples:
        >>> name_probabilities(torch.tensor([0.3, 0.27]))
        tensor([0.9526, 0.0474])
    """
    return (cosines.double() / temperature).softmax(-1).float()


def crop_windows(
    boxes: Tensor, scale: float, height: int, width: int
) -> list[tuple[int, int, int, int]]:
    """Whole-pixel windows: boxes scaled about their centre, clipped, never empty."""
    windows = []
    for x1, y1, x2, y2 in boxes.tolist():
        x, y = (x1 + x2) / 2, (y1 + y2) / 2
        w, h = (x2 - x1) * scale / 2, (y2 - y1) * scale / 2
        left = min(max(0, math.floor(x - w)), width - 1)
        top = min(max(0, math.floor(y - h)), height - 1)
        right = max(min(width, math.ceil(x + w)), left + 1)
        bottom = max(min(height, math.ceil(y + h)), top + 1)
        windows.append((left, top, right, bottom))
    return windows


@torch.no_grad()
def propose(
    detector: nn.Module,
    inputs: Tensor,
    samples: list,
    times: int = 10,
    limit: int = 100,
    nms_iou: float = 0.3,
    min_side: float = 5.0,
) -> list[tuple[Tensor, Tensor]]:
    """Class-agnostic proposals whose box head was applied again and again.

    Args:
        detector: A two-stage detector trained on the base boxes as one class, or with
            class-agnostic boxes.
        inputs: Images, preprocessed.
        samples: Their data samples.
        times: Passes of the box head, each from the boxes of the one before (10).
        limit: Proposals kept before them (100).
        nms_iou: Of the RPN (0.3).
        min_side: Smallest side in pixels of the input after clipping (5).

    Returns:
        Boxes [P, 4] in pixels of the input and the RPN's objectness [P], an image each.

    Raises:
        UserError: The box head is not class-agnostic.
    """
    head = detector.roi_head.bbox_head
    if not head.reg_class_agnostic and head.num_classes != 1:
        raise UserError(
            "The proposal detector has boxes of its own for each class.",
            "Train it on one class, or with reg_class_agnostic=True.",
        )
    features = detector.extract_feat(inputs)
    cfg = detector.test_cfg.rpn.copy()
    cfg.update(nms=dict(type="nms", iou_threshold=nms_iou), max_per_img=limit)
    found = detector.rpn_head.predict_by_feat(
        *detector.rpn_head(features),
        batch_img_metas=[s.metainfo for s in samples],
        cfg=cfg,
    )
    boxes = [f.bboxes for f in found]
    for _ in range(times):
        rois = bbox2roi(boxes)
        deltas = run_box_head(detector, features, rois).deltas
        refined = head.bbox_coder.decode(rois[:, 1:], deltas)
        boxes = list(refined.split([len(b) for b in boxes]))
    result = []
    for b, f, sample in zip(boxes, found, samples, strict=True):
        height, width = sample.img_shape[:2]
        b = torch.minimum(b.clamp(min=0), b.new_tensor([width, height] * 2))
        wide = ((b[:, 2:] - b[:, :2]) >= min_side).all(1)
        result.append((b[wide], f.scores[wide]))
    return result


def select_candidates(
    boxes: Tensor, probabilities: Tensor, min_score: float = 0.5, nms_iou: float = 0.6
) -> tuple[Tensor, Tensor, Tensor]:
    """Best name of each box, strictly above ``min_score``, class-wise NMS.

    Args:
        boxes: [N, 4].
        probabilities: [N, K].
        min_score: 0.5 (VL-PLM; its fusion with the RPN's score is commented out).
        nms_iou: 0.6.

    Returns:
        Row numbers [M], scores [M] and names' numbers [M], by falling score.
    """
    if len(boxes) == 0:
        none = torch.zeros(0, dtype=torch.long)
        return none, torch.zeros(0), none
    scores, labels = probabilities.max(1)
    rows = (scores > min_score).nonzero().squeeze(1)
    cfg = dict(type="nms", iou_threshold=nms_iou)
    _, kept = batched_nms(boxes[rows].float(), scores[rows], labels[rows], cfg)
    rows = rows[kept]
    return rows, scores[rows], labels[rows]


class PartFile:
    """Results image by image, in a file that an interrupted run goes on with.

    One JSON line an image after a first line that says what made them. A last line
    that is not complete is cut off.

    Args:
        path: The file.
        settings: Whatever decides the results; another value refuses the file.

    Raises:
        UserError: The file was made with other settings.
    """

    def __init__(self, path: str | Path, settings: dict) -> None:
        self.path = Path(path)
        text = json.dumps(settings, sort_keys=True)
        key = {"settings": hashlib.sha256(text.encode()).hexdigest()}
        self.rows: dict[str, dict] = {}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        content = self.path.read_bytes() if self.path.is_file() else b""
        whole = content[: content.rfind(b"\n") + 1]
        lines = read_json_lines(self.path, dict)
        if content and (not lines or lines[0] != key):
            raise UserError(
                f"{self.path} was begun with other settings (names, model, images).",
                "Remove the file to start again, or give another --out.",
            )
        for row in lines[1:]:
            self.rows[str(row["image_id"])] = row
        if len(whole) != len(content):
            with self.path.open("r+b") as file:
                file.truncate(len(whole))
        if not lines:
            self._append(key)

    def __contains__(self, image_id: int | str) -> bool:
        return str(image_id) in self.rows

    def add(self, row: dict) -> None:
        """Keep the result of one image, on disk when this returns."""
        self._append(row)
        self.rows[str(row["image_id"])] = row

    def _append(self, row: dict) -> None:
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")


def training_file(base: dict, rows: Iterable[dict], novel: Sequence[str]) -> dict:
    """Base annotations as they are, and the candidates beside them.

    Args:
        base: COCO json content; its categories hold the novel names.
        rows: One dict an image: ``image_id``, ``boxes`` (x1, y1, x2, y2), ``scores``,
            ``rpn_scores``, ``labels`` (into ``novel``); simulated ones also have
            ``kinds``, which nothing but a measurement reads.
        novel: Novel names.

    Returns:
        COCO json content. Annotations of novel categories, if the file has any, are
        left out: people's boxes of them must not be seen. VL-PLM writes area 0; here
        it is the box's, because mmdet drops boxes without area.

    Raises:
        UserError: A novel name is not among the categories.
    """
    ids = {category["name"]: category["id"] for category in base["categories"]}
    missing = [name for name in novel if name not in ids]
    if missing:
        raise UserError(
            f"The annotation file does not list the novel class {missing[0]!r}.",
            "Make it with base and novel categories (tools/make_ov_coco.py).",
        )
    hidden = {ids[name] for name in novel}
    annotations = [a for a in base["annotations"] if a["category_id"] not in hidden]
    number = max((a["id"] for a in base["annotations"]), default=0)
    for row in rows:
        kinds = row.get("kinds")
        for place, (box, score, objectness, label) in enumerate(
            zip(
                row["boxes"],
                row["scores"],
                row["rpn_scores"],
                row["labels"],
                strict=True,
            )
        ):
            number += 1
            x1, y1, x2, y2 = box
            annotations.append(
                {
                    "id": number,
                    "image_id": row["image_id"],
                    "category_id": ids[novel[label]],
                    "bbox": [x1, y1, x2 - x1, y2 - y1],
                    "area": (x2 - x1) * (y2 - y1),
                    "iscrowd": 0,
                    "confidence": score,
                    "clip_score": score,
                    "rpn_score": objectness,
                    "thing_isBase": False,
                    "thing_isNovel": True,
                }
            )
            if kinds is not None:
                annotations[-1]["kind"] = kinds[place]
    return {**base, "annotations": annotations}
