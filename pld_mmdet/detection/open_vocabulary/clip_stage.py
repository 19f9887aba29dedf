"""What ``tools/make_clip_candidates.py`` does: files in, files out."""

import io
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path

import mmcv
import numpy as np
import torch
from mmcv.transforms import Compose
from mmengine.registry import init_default_scope
from rich.progress import track

from pld_mmdet.detection.data.files import write_bytes, write_json
from pld_mmdet.detection.open_vocabulary.clip_candidates import (
    TEMPLATES,
    ClipScorer,
    PartFile,
    propose,
    select_candidates,
    training_file,
)
from pld_mmdet.engine.config.configs import read_config
from pld_mmdet.engine.state.checkpoint import load_checkpoint_file
from pld_mmdet.engine.state.outfolder import locked
from pld_mmdet.engine.state.weights import report_mismatch
from pld_mmdet.errors import UserError
from pld_mmdet.reading import read_json, users_text
from pld_mmdet.registry import MODELS

Propose = Callable[[dict, Path], tuple[torch.Tensor, torch.Tensor]]


def write_text(args: Namespace, content: dict) -> None:
    """Text vectors of all categories of the file, as ``.npz``."""
    names = [category["name"] for category in content["categories"]]
    scorer = ClipScorer(args.clip, names, _templates(args), args.device)
    buffer = io.BytesIO()
    vectors = scorer.text.cpu().numpy()
    np.savez(buffer, names=np.array(names), embeddings=vectors)
    write_bytes(Path(args.out), buffer.getvalue())
    print(f"{args.out}: {len(names)} names, {vectors.shape[1]} numbers each")


def write_boxes(args: Namespace, content: dict) -> None:
    """Candidates of all images of the file; finished images are not done again.

    Raises:
        UserError: Another process writes the same file, or an image is missing.
    """
    out = Path(args.out)
    with locked(out.parent, name=f".{out.name}.lock"):
        _write_boxes(args, content)


def _write_boxes(args: Namespace, content: dict) -> None:
    templates = _templates(args)
    find = (
        _from_file(args.proposals)
        if args.proposals
        else _from_detector(*args.detector, args.device)
    )
    parts = PartFile(
        Path(f"{args.out}.parts.jsonl"),
        dict(
            clip=args.clip,
            novel=args.novel,
            templates=list(templates),
            boxes=args.proposals or args.detector,
            min_score=args.min_score,
            images=[image["file_name"] for image in content["images"]],
        ),
    )
    training_file(content, [], args.novel)  # names are checked before the long work
    left = [image for image in content["images"] if image["id"] not in parts]
    if left:
        scorer = ClipScorer(args.clip, args.novel, templates, args.device)
    for image in track(left, "candidates"):
        path = Path(args.images) / image["file_name"]
        pixels = None
        if path.is_file():
            pixels = mmcv.imread(str(path))  # None of what is no image, unlike "rgb"
        if pixels is None:
            raise UserError(
                f"The image {path} is missing or cannot be read.",
                "Give the folder with --images, or take the image out of the file.",
            )
        boxes, objectness = find(image, path)
        rows, scores, labels = select_candidates(
            boxes, scorer.score(mmcv.bgr2rgb(pixels), boxes), args.min_score
        )
        parts.add(
            dict(
                image_id=image["id"],
                boxes=boxes[rows].double().round(decimals=2).tolist(),
                rpn_scores=objectness[rows].tolist(),
                scores=scores.tolist(),
                labels=labels.tolist(),
            )
        )
    ordered = [parts.rows[str(image["id"])] for image in content["images"]]
    result = training_file(content, ordered, args.novel)
    write_json(Path(args.out), result)
    count = sum(len(row["boxes"]) for row in ordered)
    print(f"{args.out}: {count} candidates in {len(ordered)} images")


def _templates(args: Namespace) -> tuple[str, ...]:
    if not args.templates:
        return TEMPLATES
    example = "For example: a photo of {article} {name}."
    text = users_text(args.templates, "file of prompts", example)
    lines = tuple(line for line in text.splitlines() if line.strip())
    if not lines or any("{name}" not in line for line in lines):
        raise UserError(
            f"{args.templates}: every line is a prompt with {{name}} in it.",
            example,
        )
    return lines


def _from_file(path: str) -> Propose:
    rows = {"#": {"boxes": [[float]], "scores": [float]}}
    content = read_json(path, rows, "file of proposals")
    for image, row in content.items():
        boxes, scores = row["boxes"], row["scores"]
        sound = all(len(b) == 4 and b[0] < b[2] and b[1] < b[3] for b in boxes)
        if not sound or len(boxes) != len(scores):
            raise UserError(
                f"{path}: the proposals of image id {image} are no boxes with a score.",
                "A box is [x1, y1, x2, y2] in pixels with x1 < x2 and y1 < y2, and has "
                "one score.",
            )

    def find(image: dict, _: Path) -> tuple[torch.Tensor, torch.Tensor]:
        row = content.get(str(image["id"]))
        if row is None:
            raise UserError(
                f"{path} has no proposals for image id {image['id']}.",
                'Every image needs an entry; an empty one is {"boxes": [], '
                '"scores": []}.',
            )
        boxes = torch.tensor(row["boxes"], dtype=torch.float).reshape(-1, 4)
        return boxes, torch.tensor(row["scores"], dtype=torch.float)

    return find


def _from_detector(config: str, checkpoint: str, device: str) -> Propose:
    cfg = read_config(config)
    init_default_scope(cfg.get("default_scope", "mmdet"))
    model = MODELS.build(cfg.model).eval()
    weights = load_checkpoint_file(checkpoint)
    report_mismatch(model, weights.get("state_dict", weights), checkpoint)
    model.to(device)
    steps = cfg.test_dataloader.dataset.pipeline
    pipeline = Compose([s for s in steps if s["type"] != "LoadAnnotations"])

    def find(image: dict, path: Path) -> tuple[torch.Tensor, torch.Tensor]:
        sample = pipeline(dict(img_path=str(path), img_id=image["id"]))
        batch = {key: [value] for key, value in sample.items()}
        data = model.data_preprocessor(batch, training=False)
        ((boxes, scores),) = propose(model, data["inputs"], data["data_samples"])
        scale = boxes.new_tensor(data["data_samples"][0].scale_factor).repeat(2)
        return (boxes / scale).cpu(), scores.cpu()

    return find
