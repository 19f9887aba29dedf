"""Candidate boxes with CLIP's kind of errors, made from hidden boxes.

For data without CLIP vectors, and for measuring: the truth behind every candidate is
known. As many candidates are noise as MarvelOVD's paper measured for CLIP (76.6 %), and
their scores overlap badly. It is a simulation and results with it must say so.
"""

from collections.abc import Sequence
from functools import partial

import numpy as np

from pld_mmdet.detection.data.ov_coco import keep_classes

# Version 2: what CLIP says is wrong in the same way every time, and its scores, a
# softmax at temperature 0.01, lie near 1. Noise of a kind has one name.
WRONG_NAME = {
    "truck": "bus",
    "rider": "motorcycle",
    "part": "bus",
    "group": "train",
}
BETA = {"true": (8.0, 1.0), "noise": (3.0, 1.0)}
RIGHT_CLASS = {1: 0.85, 2: 0.97}
KINDS = ("part", "group", "background", "base")


def simulate_candidates(
    content: dict,
    base: Sequence[str],
    novel: Sequence[str],
    seed: int = 0,
    noise_per_object: float = 3.0,
    right_class: float | None = None,
    means: tuple[float, float] = (0.85, 0.75),
    std: float = 0.1,
    version: int = 1,
) -> list[dict]:
    """One candidate for each novel object, and three noise boxes for each of them.

    Noise boxes fall on random images: in equal parts a piece of an object, the hull of
    two objects, a box that overlaps nothing, or a base object called novel.

    Args:
        content: COCO json content with all boxes.
        base: Base class names.
        novel: Novel class names.
        seed: Of everything.
        noise_per_object: Noise boxes for each true candidate (3: three of four are
            noise).
        right_class: Share of the true candidates with the right name [0.85; version 2:
            0.97, as CLIP's wrong-class share of 3.3 % in MarvelOVD's paper].
        means: Mean score of true candidates and of noise.
        std: Spread of both; scores are clipped to [0.501, 0.999].
        version: 1: names of noise are uniform, scores are normal. 2: systematic: a
            truck is a bus, a rider a motorcycle, a part a bus, a group a train,
            background and other base objects are anything; scores are Beta(8, 1) for
            true candidates and Beta(3, 1) for noise, means 0.89 and 0.75.

    Returns:
        One dict an image, as :func:`pld_mmdet.detection.clip_candidates.training_file`
        takes them, with ``kinds`` ('true', 'confused' or one of ``KINDS``) for
        measurements.
    """
    rng = np.random.default_rng(seed)
    if right_class is None:
        right_class = RIGHT_CLASS[version]
    listed = keep_classes(content, [*base, *novel])
    name_of = {c["id"]: c["name"] for c in listed["categories"]}
    objects: dict[int, list] = {image["id"]: [] for image in listed["images"]}
    for row in listed["annotations"]:
        if not row.get("iscrowd"):
            x, y, w, h = row["bbox"]
            box = np.array([x, y, x + w, y + h], float)
            objects[row["image_id"]].append((box, name_of[row["category_id"]]))
    rows = {
        image["id"]: dict(
            image_id=image["id"],
            boxes=[],
            scores=[],
            rpn_scores=[],
            labels=[],
            kinds=[],
        )
        for image in listed["images"]
    }
    sizes = {i["id"]: (i["width"], i["height"]) for i in listed["images"]}
    total = 0
    for key, things in objects.items():
        for box, name in things:
            if name not in novel:
                continue
            total += 1
            label = list(novel).index(name)
            kind = "true"
            if rng.random() >= right_class and len(novel) > 1:
                label = (label + rng.integers(1, len(novel))) % len(novel)
                kind = "confused"
            box = _jitter(rng, box, 0.08)
            score = partial(_score, rng, version, "true", means[0], std)
            _add(rows[key], box, sizes[key], label, kind, score)
    keys = sorted(objects)
    wanted, tries = round(noise_per_object * total), 0
    while wanted and tries < 100 * (wanted + 1):
        tries += 1
        key = keys[rng.integers(len(keys))]
        kind = KINDS[rng.integers(len(KINDS))]
        made = _noise_box(rng, kind, objects[key], sizes[key], base)
        if made is None:
            continue
        box, of = made
        label = rng.integers(len(novel))
        called = WRONG_NAME.get(of if kind == "base" else kind)
        if version == 2 and called in novel:
            label = list(novel).index(called)
        score = partial(_score, rng, version, "noise", means[1], std)
        if _add(rows[key], box, sizes[key], label, kind, score):
            wanted -= 1
    return [rows[image["id"]] for image in listed["images"]]


def _jitter(rng, box: np.ndarray, fraction: float) -> np.ndarray:
    side = np.array([box[2] - box[0], box[3] - box[1]] * 2)
    return box + rng.normal(0, fraction, 4) * side


def _score(rng, version: int, kind: str, mean: float, std: float) -> float:
    if version == 2:
        return rng.beta(*BETA[kind])
    return rng.normal(mean, std)


def _noise_box(
    rng, kind: str, things: list, size: tuple, base
) -> tuple[np.ndarray, str] | None:
    """A box of the kind and what it is of; None if the image has nothing for it."""
    if kind == "part" and things:
        box = things[rng.integers(len(things))][0]
        share = rng.uniform(0.3, 0.6, 2)  # IoU with the object: 0.09 to 0.36
        side = np.array([box[2] - box[0], box[3] - box[1]])
        corner = box[:2] + rng.random(2) * (1 - share) * side
        return np.concatenate([corner, corner + share * side]), ""
    if kind == "group" and len(things) > 1:
        one, two = rng.choice(len(things), 2, replace=False)
        a, b = things[one][0], things[two][0]
        hull = np.concatenate([np.minimum(a[:2], b[:2]), np.maximum(a[2:], b[2:])])
        return hull, ""
    if kind == "background":
        side = rng.uniform(0.05, 0.3, 2) * size
        corner = rng.random(2) * (np.array(size) - side)
        box = np.concatenate([corner, corner + side])
        alone = all(_iou(box, other) < 0.1 for other, _ in things)
        return (box, "") if alone else None
    if kind == "base":
        own = [(box, name) for box, name in things if name in base]
        if own:
            box, name = own[rng.integers(len(own))]
            return _jitter(rng, box, 0.05), name
    return None


def _iou(a: np.ndarray, b: np.ndarray) -> float:
    inner = np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])
    if (inner <= 0).any():
        return 0.0
    both = inner.prod()
    return both / ((a[2:] - a[:2]).prod() + (b[2:] - b[:2]).prod() - both)


def _add(row, box, size, label, kind, score) -> bool:
    """Clip the box and write it down; False if nothing of it is left."""
    box = np.clip(box, 0, [*size, *size])
    if (box[2:] - box[:2] < 2).any():
        return False
    row["boxes"].append([round(float(v), 2) for v in box])
    row["scores"].append(round(float(np.clip(score(), 0.501, 0.999)), 4))
    row["rpn_scores"].append(1.0)
    row["labels"].append(int(label))
    row["kinds"].append(kind)
    return True
