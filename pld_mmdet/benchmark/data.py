"""Our training loader and our metric against stock mmdet's."""

import contextlib
import copy
import io
import json
import logging
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from mmdet.datasets import CocoDataset
from mmdet.evaluation import CocoMetric
from mmengine.config import Config
from mmengine.dataset import DefaultSampler, pseudo_collate
from torch.utils.data import DataLoader

from pld_mmdet.benchmark.images import ROOT, image_files
from pld_mmdet.benchmark.plan import Plan
from pld_mmdet.benchmark.timing import Comparison, run_in_turn
from pld_mmdet.detection.data.image_folder import ImageFolder
from pld_mmdet.detection.evaluation.ap50 import AP50Metric
from pld_mmdet.detection.evaluation.average_precision import pick_backend
from pld_mmdet.engine.data.randomness import own_randomness
from pld_mmdet.engine.data.sampler import ResumableSampler
from pld_mmdet.engine.data.seeding import SeededDataset
from pld_mmdet.registry import TRANSFORMS

BATCH = 4
OURS_LOADER = "SeededDataset + ImageFolder"
STOCK_LOADER = "CocoDataset"
OURS_METRIC = "AP50Metric"
STOCK_METRIC = "CocoMetric"


@TRANSFORMS.register_module()
class SameDraws:
    """Give numpy the state that our loader gave it for the same image.

    So both sides of the benchmark draw the same jitter, blur and rectangles, and do the
    same work on the same pixels. It costs the stock side some microseconds an image.

    Args:
        states: One numpy state an image.
    """

    def __init__(self, states: list) -> None:
        self.states = states

    def __call__(self, results: dict) -> dict:
        """Set the state of image number ``img_id``."""
        np.random.set_state(self.states[results["img_id"]])
        return results


def loader(plan: Plan) -> list[Comparison]:
    """One pass over the same images with the same pipeline, in the main process."""
    count = 16 if plan.quick else 64
    cfg = Config.fromfile(str(ROOT / "configs/lpld/foggy_streets.py"))
    rounds = plan.choose(11, 3)
    with image_files(count) as (paths, origin), tempfile.TemporaryDirectory() as tmp:
        links = _linked(paths, Path(tmp))
        ours, stock = loader_pair(cfg, links)
        sides = {OURS_LOADER: lambda: _drain(ours), STOCK_LOADER: lambda: _drain(stock)}
        timings = run_in_turn(sides, rounds, 1, plan.counter((rounds + 1) * 2))
    return [
        Comparison(
            case="Loader / mmdet's",
            setting=f"{count} images of 384 x 192, weak and strong view, batch {BATCH}",
            timings=timings,
            subject=OURS_LOADER,
            rivals=(STOCK_LOADER,),
            target=1.05,
            notes=[
                f"Images: {origin}. No loader processes. Stock: CocoDataset with "
                "DefaultSampler; both draw the same augmentations, for which the stock "
                "side spends about 0.04 ms an image. Ours also looks for truncated "
                "files and seeds each sample."
            ],
        )
    ]


def loader_pair(cfg: Config, folder: Path) -> tuple[DataLoader, DataLoader]:
    """Our loader and mmdet's over the images in a folder, in the same order.

    Args:
        cfg: With ``train_pipeline``.
        folder: Images only; ``annotations.json`` is written there.
    """
    pipeline = cfg.train_pipeline
    dataset = SeededDataset(
        ImageFolder(str(folder), "*.png", metainfo=cfg.metainfo, pipeline=pipeline)
    )
    sampler = ResumableSampler(dataset, shuffle=False, seed=0, infinite=False)
    ours = DataLoader(dataset, BATCH, sampler=sampler, collate_fn=pseudo_collate)

    states = []
    for draw in range(len(dataset)):
        with own_randomness(0, 1, draw):  # as in SeededDataset
            states.append(np.random.get_state())
    names = sorted(path.name for path in folder.glob("*.png"))
    _write_coco(folder / "annotations.json", names, cfg.metainfo["classes"])
    with _silence():
        labelled = CocoDataset(
            ann_file="annotations.json",
            data_root=str(folder),
            data_prefix=dict(img=""),
            metainfo=cfg.metainfo,
            pipeline=[SameDraws(states), *copy.deepcopy(pipeline)],
        )
    stock = DataLoader(
        labelled,
        BATCH,
        sampler=DefaultSampler(labelled, shuffle=False),
        collate_fn=pseudo_collate,
    )
    return ours, stock


def _drain(batches: DataLoader) -> None:
    for _ in batches:
        pass


def _linked(paths: list[str], folder: Path) -> Path:
    """The chosen images alone in one folder, as links."""
    images = folder / "images"
    images.mkdir()
    for n, path in enumerate(paths):
        (images / f"{n:04d}.png").symlink_to(path)
    return images


def _write_coco(
    path: Path, names: list[str], classes: list[str], boxes: list | None = None
) -> None:
    """A COCO file; ``boxes`` holds per image a list of (label, x1, y1, x2, y2)."""
    annotations = [
        dict(
            id=0,
            image_id=image,
            category_id=int(label) + 1,
            bbox=[x1, y1, x2 - x1, y2 - y1],
            area=(x2 - x1) * (y2 - y1),
            iscrowd=0,
        )
        for image, rows in enumerate(boxes or [])
        for label, x1, y1, x2, y2 in rows
    ]
    for number, annotation in enumerate(annotations, 1):
        annotation["id"] = number
    content = dict(
        images=[
            dict(id=n, file_name=name, width=384, height=192)
            for n, name in enumerate(names)
        ],
        categories=[dict(id=n, name=name) for n, name in enumerate(classes, 1)],
        annotations=annotations,
    )
    path.write_text(json.dumps(content), encoding="utf-8")


def evaluation(plan: Plan) -> list[Comparison]:
    """All numbers of one evaluation from the same random detections."""
    images = 50 if plan.quick else 200
    cfg = Config.fromfile(str(ROOT / "configs/lpld/foggy_streets.py"))
    classes = list(cfg.metainfo["classes"])
    truth, samples = random_detections(images, len(classes))
    rounds = plan.choose(7, 3)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "annotations.json"
        _write_coco(path, [f"{n:04d}.png" for n in range(images)], classes, truth)

        def run(kind: type, **kwargs) -> None:
            with _silence():
                evaluator = kind(ann_file=str(path), **kwargs)
                evaluator.dataset_meta = dict(classes=classes)
                evaluator.process({}, samples)
                evaluator.evaluate(len(samples))

        sides = {
            OURS_METRIC: lambda: run(AP50Metric),
            STOCK_METRIC: lambda: run(CocoMetric, metric="bbox"),
        }
        timings = run_in_turn(sides, rounds, 1, plan.counter((rounds + 1) * 2))
    boxes = sum(len(s["pred_instances"]["scores"]) for s in samples)
    return [
        Comparison(
            case="Evaluation / mmdet's",
            setting=f"{images} images, {sum(map(len, truth))} objects, {boxes} boxes",
            timings=timings,
            subject=OURS_METRIC,
            rivals=(STOCK_METRIC,),
            target=1.05,
            notes=[
                "Ours: COCO AP50, VOC 2007 and VOC area AP50, per class and size, "
                f"with {pick_backend('auto')}. Stock: metric='bbox' with its ten IoU "
                "thresholds on pycocotools. Both read the annotation file."
            ],
        )
    ]


def random_detections(
    images: int, num_classes: int, seed: int = 0
) -> tuple[list[list[tuple]], list[dict]]:
    """Objects of random images, and detections of which half are on objects.

    Returns:
        Per image a list of (label, x1, y1, x2, y2), and what a metric's ``process``
        takes.
    """
    generator = np.random.default_rng(seed)
    truth, samples = [], []
    for image in range(images):
        count = generator.integers(5, 25)
        corner = generator.uniform((0, 0), (340, 150), (count, 2))
        boxes = np.concatenate(
            [corner, corner + generator.uniform(8, 42, (count, 2))], axis=1
        )
        labels = generator.integers(0, num_classes, count)
        rows = zip(labels.tolist(), boxes.tolist(), strict=True)
        truth.append([(label, *box) for label, box in rows])
        found = np.concatenate([boxes + generator.normal(0, 2, boxes.shape)] * 2)
        strays = found + generator.normal(0, 40, (len(found), 1))
        found = np.concatenate([found, strays])
        instances = dict(
            bboxes=torch.tensor(found, dtype=torch.float),
            scores=torch.tensor(generator.uniform(size=len(found)), dtype=torch.float),
            labels=torch.tensor(np.tile(labels, 4)),
        )
        samples.append(
            dict(img_id=image, ori_shape=(192, 384), pred_instances=instances)
        )
    return truth, samples


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Neither the metrics' tables nor pycocotools' progress."""
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.disable(logging.NOTSET)
