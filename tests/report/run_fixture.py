"""A run directory as tools/reproduce.py leaves it, with made-up numbers."""

import json
import math
import random
from pathlib import Path

import cv2
import numpy as np

CLASSES = ["person", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle"]
FOG = {
    "source": 0.290,
    "adabn": 0.405,
    "mean_teacher_no_adabn": 0.368,
    "mean_teacher": 0.459,
    "lpld": 0.462,
    "oracle": 0.611,
}


def metrics(level: float, seed: int) -> dict[str, float]:
    """A full set of AP50Metric keys around a level; the headline is exactly it."""
    noise = random.Random(1000 * seed + round(1000 * level))
    found = {
        "coco/AP50": level,
        "voc07/AP50": level - 0.004,
        "voc_area/AP50": level - 0.002,
        "coco/AP50_small": 0.3 * level,
        "coco/AP50_medium": level,
        "coco/AP50_large": min(1.5 * level, 0.9),
    }
    for i, name in enumerate(CLASSES):
        ap = min(
            max(level + 0.3 * math.sin(i) + noise.uniform(-0.04, 0.04), 0.01), 0.97
        )
        for kind in ("coco", "voc07", "voc_area"):
            found[f"{kind}/AP50/{name}"] = ap
    return found


def write_scalars(work_dir: Path, seed: int, pseudo: bool, iters: int = 400) -> None:
    """What mmengine and the hooks write while training."""
    noise = random.Random(seed)
    lines = []
    for step in range(20, iters + 1, 20):
        decay = math.exp(-3 * step / iters)
        losses = {
            "loss_rpn_cls": 0.1 + 0.3 * decay,
            "loss_rpn_bbox": 0.1 + 0.1 * decay,
            "loss_cls": 0.2 + 0.6 * decay,
            "loss_bbox": 0.2 + 0.3 * decay,
        }
        if pseudo:
            losses["loss_lpl"] = 0.02 + 0.02 * decay
        losses = {k: v * noise.uniform(0.85, 1.15) for k, v in losses.items()}
        row = {"lr": 1e-3, "loss": sum(losses.values()), **losses}
        lines.append({**row, "iter": step, "step": step})
        if pseudo:
            counts = {}
            for i, name in enumerate(CLASSES):
                base = 3 / (1 + i) * noise.uniform(0.8, 1.2)
                counts[f"pseudo/high/{name}"] = base * (1 - 0.4 * decay)
                counts[f"pseudo/low/{name}"] = 2 * base * (0.5 + decay)
            for kind in ("high", "low"):
                counts[f"pseudo/{kind}"] = sum(
                    v for k, v in counts.items() if k.startswith(f"pseudo/{kind}/")
                )
            lines.append({**counts, "step": step})
        if step % (iters // 2) == 0:
            lines.append({"coco/AP50": 0.4 + 0.05 * step / iters, "step": step})
    folder = work_dir / "20260101_000000" / "vis_data"
    folder.mkdir(parents=True)
    text = "\n".join(json.dumps(line) for line in lines)
    (folder / "scalars.json").write_text(text)


def write_run(
    path: Path,
    rows: tuple[str, ...] = tuple(FOG),
    seeds: tuple[int, ...] = (0, 1, 2),
    name: str = "foggy_streets",
) -> Path:
    """The run directory; per-seed numbers differ by 0.01 around the level."""
    entries = []
    for row in rows:
        evaluations = ["clear", "fog"] if row == "source" else ["fog"]
        evaluate = {}
        for label in evaluations:
            by_seed = {}
            for seed in seeds:
                level = 0.601 if label == "clear" else FOG[row]
                offset = 0.01 * (seed - sum(seeds) / len(seeds))
                by_seed[str(seed)] = metrics(level + offset, seed)
                folder = path / f"seed_{seed}" / row
                folder.mkdir(parents=True, exist_ok=True)
                (folder / f"metrics_{label}.json").write_text(
                    json.dumps(
                        {"metrics": by_seed[str(seed)], "command": f"test {row}"}
                    )
                )
            evaluate[label] = {"config": None, "commands": {}, "seeds": by_seed}
        for seed in seeds:
            folder = path / f"seed_{seed}" / row
            run = {
                "command": f"python tools/train.py {row} --seed {seed}",
                "minutes": 4.5,
            }
            (folder / "run.json").write_text(json.dumps(run))
            if row != "adabn":
                write_scalars(folder, seed, row in ("lpld", "mean_teacher"))
        entries.append(
            {
                "name": row,
                "title": row.replace("_", " ").capitalize(),
                "description": "",
                "config": f"configs/{row}/foggy_streets.py",
                "minutes": 4.5,
                "runs": {},
                "evaluate": evaluate,
            }
        )
    result = {
        "name": name,
        "command": "python tools/reproduce.py configs/lpld/foggy_streets.py",
        "commit": "0123456789abcdef0123456789abcdef01234567",
        "dirty": False,
        "machine": {"processor": "Some CPU", "cores": 2, "gpus": []},
        "minutes": 18.25,
        "started": "2026-01-01T00:00:00+00:00",
        "finished": "2026-01-01T00:18:15+00:00",
        "seeds": list(seeds),
        "rows": entries,
        "missing": [],
    }
    (path / "result.json").write_text(json.dumps(result))
    return path


def write_images(root: Path, count: int = 5) -> Path:
    """A tiny COCO data set: gray images with squares; returns the annotation file."""
    rng = np.random.default_rng(0)
    images, annotations = [], []
    (root / "images").mkdir(parents=True)
    for i in range(count):
        photo = rng.integers(90, 130, (64, 96, 3)).astype(np.uint8)
        for j in range(2):
            x, y, label = int(8 + 40 * j), int(10 + 4 * i), (i + j) % 3
            photo[y : y + 20, x : x + 24] = 255 * np.eye(3)[label]
            annotations.append(
                dict(
                    id=len(annotations) + 1,
                    image_id=i,
                    category_id=label + 1,
                    bbox=[x, y, 24, 20],
                    area=480,
                    iscrowd=0,
                )
            )
        cv2.imwrite(str(root / "images" / f"{i}.png"), photo)
        images.append(dict(id=i, file_name=f"images/{i}.png", width=96, height=64))
    categories = [dict(id=i + 1, name=name) for i, name in enumerate(CLASSES[:3])]
    file = root / "test.json"
    file.write_text(
        json.dumps(dict(images=images, annotations=annotations, categories=categories))
    )
    return file
