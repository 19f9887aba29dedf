"""Candidate boxes with CLIP's kind of errors, made from hidden boxes.

For data without CLIP vectors, and for measuring: the truth behind every candidate is
known. As many candidates are noise as MarvelOVD's paper measured for CLIP (76.6 %), and
their scores overlap badly. It is a simulation and results with it must say so.
"""

from collections.abc import Sequence

import numpy as np

from pld_mmdet.detection.data.ov_coco import keep_classes

KINDS = ("part", "group", "background", "base")


def simulate_candidates(
    content: dict,
    base: Sequence[str],
    novel: Sequence[str],
    seed: int = 0,
    noise_per_object: float = 3.0,
    right_class: float = 0.85,
    means: tuple[float, float] = (0.85, 0.75),
    std: float = 0.1,
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
        right_class: Share of the true candidates with the right name.
        means: Mean score of true candidates and of noise.
        std: Spread of both; scores are clipped to [0.501, 0.999].

    Returns:
        One dict an image, as :func:`pld_mmdet.detection.clip_candidates.training_file`
        takes them, with ``kinds`` ('true', 'confused' or one of ``KINDS``) for
        measurements.
    """
    rng = np.random.default_rng(seed)
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
            _add(rows[key], rng, box, sizes[key], label, kind, means[0], std)
    keys = sorted(objects)
    wanted, tries = round(noise_per_object * total), 0
    while wanted and tries < 100 * (wanted + 1):
        tries += 1
        key = keys[rng.integers(len(keys))]
        kind = KINDS[rng.integers(len(KINDS))]
        box = _noise_box(rng, kind, objects[key], sizes[key], base)
        if box is None:
            continue
        label = rng.integers(len(novel))
        if _add(rows[key], rng, box, sizes[key], label, kind, means[1], std):
            wanted -= 1
    return [rows[image["id"]] for image in listed["images"]]


def _jitter(rng, box: np.ndarray, fraction: float) -> np.ndarray:
    side = np.array([box[2] - box[0], box[3] - box[1]] * 2)
    return box + rng.normal(0, fraction, 4) * side


def _noise_box(rng, kind: str, things: list, size: tuple, base) -> np.ndarray | None:
    """A box of the kind, or None if the image has nothing to make it of."""
    if kind == "part" and things:
        box = things[rng.integers(len(things))][0]
        share = rng.uniform(0.3, 0.6, 2)  # IoU with the object: 0.09 to 0.36
        side = np.array([box[2] - box[0], box[3] - box[1]])
        corner = box[:2] + rng.random(2) * (1 - share) * side
        return np.concatenate([corner, corner + share * side])
    if kind == "group" and len(things) > 1:
        one, two = rng.choice(len(things), 2, replace=False)
        a, b = things[one][0], things[two][0]
        return np.concatenate([np.minimum(a[:2], b[:2]), np.maximum(a[2:], b[2:])])
    if kind == "background":
        side = rng.uniform(0.05, 0.3, 2) * size
        corner = rng.random(2) * (np.array(size) - side)
        box = np.concatenate([corner, corner + side])
        return box if all(_iou(box, other) < 0.1 for other, _ in things) else None
    if kind == "base":
        own = [box for box, name in things if name in base]
        return _jitter(rng, own[rng.integers(len(own))], 0.05) if own else None
    return None


def _iou(a: np.ndarray, b: np.ndarray) -> float:
    inner = np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])
    if (inner <= 0).any():
        return 0.0
    both = inner.prod()
    return both / ((a[2:] - a[:2]).prod() + (b[2:] - b[:2]).prod() - both)


def _add(row, rng, box, size, label, kind, mean, std) -> bool:
    """Clip the box and write it down; False if nothing of it is left."""
    box = np.clip(box, 0, [*size, *size])
    if (box[2:] - box[:2] < 2).any():
        return False
    row["boxes"].append([round(float(v), 2) for v in box])
    row["scores"].append(round(float(np.clip(rng.normal(mean, std), 0.501, 0.999)), 4))
    row["rpn_scores"].append(1.0)
    row["labels"].append(int(label))
    row["kinds"].append(kind)
    return True
