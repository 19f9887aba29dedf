"""Runs of tiny detectors whose result must not depend on how the batch is laid out.

A layout is (processes, images of a batch, accumulated batches); all layouts of a test
have the same images in an optimizer step. Everything that is drawn at random or divided
by a number that depends on the images is switched off: no RoI and no anchor is sampled
away or ignored, nothing is suppressed, and every image has the same number of boxes. So
each loss is a mean of equal parts, and only the order of floating-point sums is left.
"""

import hashlib
from pathlib import Path

import numpy as np
import torch
from mmengine.config import Config, ConfigDict
from mmengine.hooks import Hook
from mmengine.registry import DATASETS, HOOKS, MODELS
from mmengine.structures import InstanceData
from torch.utils.data import Dataset

from pld_mmdet.engine.run.models import unwrapped
from tests.detection.helpers import batch_of, give_confidence
from tests.helpers import tiny_faster_rcnn

CLASSES = ("cat", "dog", "cow", "hen")
STEPS = 3
IMAGES = 4  # of an optimizer step
METHODS = ("mean_teacher", "lpld", "soft_teacher", "dual_polish", "marvel_ovd")
SEMI = ("soft_teacher", "dual_polish")
SEMI_BRANCHES = ("sup", "weak", "strong")


@DATASETS.register_module(force=True)
class TinyViews(Dataset):
    """Image n is a function of n: two views, and boxes where they are asked for.

    Args:
        kind: ``unlabelled``, ``labelled`` (branch ``sup``) or ``candidates`` (both
            views, with what MarvelOVD reads).
        length: Number of images.
        branches: All branches of the batches that its images become part of.
    """

    def __init__(
        self, kind: str, length: int = 24, branches: tuple = ("weak", "strong")
    ) -> None:
        self.kind, self.length, self.branches = kind, length, branches
        self.metainfo = {"classes": CLASSES}

    def __len__(self) -> int:
        return self.length

    def full_init(self) -> None:
        """Nothing to load; ``ConcatDataset`` asks for this and the next."""

    def get_data_info(self, index: int) -> dict:
        """No image file."""
        return {}

    def __getitem__(self, index: int) -> dict:
        batch = batch_of(1, seed=1000 + index)
        views = {
            view: (batch["inputs"][view][0], batch["data_samples"][view][0])
            for view in ("weak", "strong")
        }
        for _, sample in views.values():
            sample.set_metainfo(dict(img_id=index, img_path=f"{index}.png"))
        if self.kind == "labelled":
            views = {"sup": views["weak"]}
        if self.kind != "unlabelled":
            for _, sample in views.values():
                sample.gt_instances = _boxes(index)
        none = (None, None)
        return {
            key: {branch: views.get(branch, none)[place] for branch in self.branches}
            for place, key in enumerate(("inputs", "data_samples"))
        }


def _boxes(index: int) -> InstanceData:
    """Two base boxes and a candidate, in places that follow from the number."""
    corner = np.random.RandomState(index).rand(3, 2) * 30
    size = np.array([24, 30])
    boxes = torch.tensor(np.concatenate([corner, corner + size], 1)).float()
    return InstanceData(
        bboxes=boxes,
        labels=torch.tensor([0, 1, 2]),
        clip_score=torch.tensor([1.0, 1.0, 0.95]),
        confidence=torch.tensor([1.0, 1.0, 0.95]),
        is_base=torch.tensor([True, True, False]),
    )


@HOOKS.register_module(force=True)
class RankStateHook(Hook):
    """Leaves the hash of each process's whole state, buffers included."""

    def after_train(self, runner) -> None:
        model = unwrapped(runner.model)
        digest = hashlib.sha256()
        for name, value in sorted(model.state_dict().items()):
            if not name.endswith(("running_mean", "running_var")) or (
                "teacher" in name  # a student's statistics are common at a forward pass
            ):
                digest.update(value.numpy().tobytes())
        path = Path(runner.work_dir) / f"rank{runner.rank}.txt"
        path.write_text(digest.hexdigest())


def exact_detector(norm: str = "frozen") -> ConfigDict:
    """A detector all of whose losses are means over equally many parts an image."""
    model = tiny_faster_rcnn(len(CLASSES), norm=norm)
    everything = dict(num=100_000, add_gt_as_proposals=False)
    model.train_cfg.rpn.assigner.update(pos_iou_thr=0.5, neg_iou_thr=0.5)
    model.train_cfg.rpn.sampler.update(everything)
    model.train_cfg.rcnn.sampler.update(everything)
    for proposals in (model.train_cfg.rpn_proposal, model.test_cfg.rpn):
        proposals.update(nms=dict(type="nms", iou_threshold=1.1), max_per_img=16)
    return model


def model_of(method: str, norm: str = "frozen") -> dict:
    """Config of a method around the exact detector."""
    detector = exact_detector(norm)
    if method == "marvel_ovd":
        detector.roi_head.bbox_head.update(
            reg_class_agnostic=True,
            cls_predictor_cfg=dict(
                type="pld_mmdet.TextEmbeddingClassifier", path="orthonormal", emb_dim=16
            ),
        )
        # threshold 0: no candidate is dropped, so that all images have three boxes
        return dict(
            type="pld_mmdet.MarvelOVD",
            detector=detector,
            novel=[2, 3],
            burn_in=0,
            threshold=0.0,
        )
    if method == "mean_teacher":
        return dict(
            type="pld_mmdet.MeanTeacherSFOD", detector=detector, hpl_threshold=0.3
        )
    if method == "lpld":  # every proposal is mined
        return dict(
            type="pld_mmdet.LPLD",
            detector=detector,
            hpl_threshold=0.3,
            lpl_max_iou=1.0,
            lpl_min_certainty=0.0,
            lpl_max_background=1.0,
            mine_without_high=True,
        )
    # no jitter (random), no weights (the loss is divided by their sum)
    common = dict(
        detector=detector,
        min_score=0.3,
        rpn_threshold=0.3,
        cls_threshold=0.3,
        reg_threshold=None,
        weigh_background=False,
    )
    if method == "soft_teacher":
        return dict(type="pld_mmdet.BoxJitterSoftTeacher", **common)
    return dict(
        type="pld_mmdet.DualPolishTeacher",
        **common,
        hidden_channels=32,
        box_jitters=(4, 0.0),
        category_jitters=((4, 0.0),),
    )


def config(
    method: str, batch: int = IMAGES, accumulate: int = 1, norm: str = "frozen"
) -> Config:
    """A run of :data:`STEPS` optimizer steps with schedule and teacher."""
    sampler = dict(type="pld_mmdet.ResumableSampler", infinite=True)
    kind = "candidates" if method == "marvel_ovd" else "unlabelled"
    dataset = dict(type="TinyViews", kind=kind)
    if method in SEMI:
        sampler = dict(
            type="pld_mmdet.SemiSampler",
            batch_size=batch,
            source_ratio=[1, 1],
            by_aspect=False,
        )
        dataset["branches"] = SEMI_BRANCHES
        labelled = {**dataset, "kind": "labelled", "length": 9}
        dataset = dict(type="ConcatDataset", datasets=[labelled, dataset])
    emas = []
    if method in ("mean_teacher", "lpld"):
        emas = [dict(type="pld_mmdet.TeacherEMAHook", keep=0.9, warm_up=0)]
    elif method in SEMI:
        emas = [dict(type="pld_mmdet.RampedEMAHook", keep=0.9, stop_after=accumulate)]
    if method == "dual_polish":
        names = dict(teacher="polish_teacher", student="polish_student")
        emas += [dict(type="pld_mmdet.RampedEMAHook", keep=0.9, warm_up=2, **names)]
    model = model_of(method, norm)
    if method == "marvel_ovd":  # counts batches, from 0
        model["burn_in"] = accumulate - 1
    return Config(
        dict(
            custom_imports=dict(imports=["tests.detection.layouts"]),
            default_scope="mmdet",
            runner_type="pld_mmdet.SafeRunner",
            randomness=dict(seed=3),
            model=model,
            train_dataloader=dict(
                batch_size=batch,
                num_workers=0,
                sampler=sampler,
                dataset=dict(type="pld_mmdet.SeededDataset", dataset=dataset),
            ),
            train_cfg=dict(
                type="IterBasedTrainLoop",
                max_iters=STEPS * accumulate,
                val_interval=10**6,
            ),
            optim_wrapper=dict(
                type="pld_mmdet.FiniteOptimWrapper",
                optimizer=dict(type="SGD", lr=0.02, momentum=0.9, weight_decay=1e-4),
                clip_grad=dict(max_norm=5.0),
                accumulative_counts=accumulate,
            ),
            param_scheduler=[
                dict(
                    type="LinearLR",
                    start_factor=0.1,
                    by_epoch=False,
                    begin=0,
                    end=accumulate + 1,  # full rate at step 1
                ),
                dict(type="MultiStepLR", by_epoch=False, milestones=[2 * accumulate]),
            ],
            default_hooks=dict(
                checkpoint=dict(
                    type="pld_mmdet.SafeCheckpointHook",
                    by_epoch=False,
                    interval=accumulate,
                )
            ),
            custom_hooks=[
                dict(type="pld_mmdet.IterationSeedHook"),
                *emas,
                dict(type="RankStateHook"),
            ],
            log_processor=dict(by_epoch=False),
            log_level="ERROR",
        )
    )


def write_start(path: Path, method: str, norm: str = "frozen") -> Path:
    """Weights that are sure of some boxes and not of others."""
    torch.manual_seed(0)
    model = MODELS.build(ConfigDict(model_of(method, norm), _scope_="mmdet"))
    model.init_weights()
    if hasattr(model, "teacher"):
        give_confidence(model)
    else:
        with torch.no_grad():
            head = model.detector.roi_head.bbox_head
            head.fc_cls.linear.weight.normal_(0, 3.0)
    torch.save(dict(state_dict=model.state_dict()), path)
    return path
