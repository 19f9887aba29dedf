"""The pieces of a two-stage detector's box head that semi-supervised methods need."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from mmdet.models.detectors.two_stage import TwoStageDetector
from mmdet.models.losses import CrossEntropyLoss
from mmdet.structures import DetDataSample
from mmengine.config import ConfigDict
from mmengine.structures import InstanceData
from torch import Tensor, nn

from pld_mmdet.errors import UserError


def run_box_head(
    roi_head: nn.Module, features: tuple[Tensor, ...], rois: Tensor, want: str
) -> Tensor:
    """One output of a box head on RoIs [N, 5]: ``'cls'`` logits or ``'reg'`` deltas."""
    with _without(roi_head.bbox_head, "with_reg" if want == "cls" else "with_cls"):
        out = roi_head._bbox_forward(features, rois)
    return out["cls_score" if want == "cls" else "bbox_pred"]


@contextmanager
def _without(head: nn.Module, branch: str) -> Iterator[None]:
    """Leave a branch out of mmdet's heads, which ask these flags in ``forward``."""
    setattr(head, branch, False)
    try:
        yield
    finally:
        setattr(head, branch, True)


def clip_to_images(boxes: Tensor, rois: Tensor, samples: list[DetDataSample]) -> Tensor:
    """Clip boxes [N, 4] to the images that the first column of ``rois`` names."""
    shapes = boxes.new_tensor([s.img_shape[:2] for s in samples])  # height, width
    limits = shapes.flip(1).repeat(1, 2)[rois[:, 0].long()]
    return torch.minimum(boxes.clamp(min=0), limits)


def own_class(head: nn.Module, deltas: Tensor, labels: Tensor) -> Tensor:
    """Deltas [N, 4] of each row's class; [N, 4C] or class-agnostic [N, 4] go in."""
    if head.reg_class_agnostic:
        return deltas
    index = labels[:, None, None].expand(-1, 1, 4)
    return deltas.unflatten(1, (-1, 4)).gather(1, index).squeeze(1)


def larger_than(instances: InstanceData, size: float) -> InstanceData:
    """Those whose width and height are strictly larger than ``size`` pixels."""
    boxes = instances.bboxes
    return instances[((boxes[:, 2:] - boxes[:, :2]) > size).all(1)]


def proposal_cfg(detector: nn.Module) -> dict:
    """How many proposals training takes (more than testing)."""
    return detector.train_cfg.get("rpn_proposal", detector.test_cfg.rpn)


def from_score(cfg: ConfigDict, score: float) -> ConfigDict:
    """The test setting that finds those of its boxes that lie above ``score``.

    In greedy suppression a box is never removed by one of a lower score, so
    the low ones need not take part. Other kinds (soft) keep their setting.
    """
    greedy = "nms" in cfg and cfg.nms.get("type", "nms") == "nms"
    if not greedy or cfg.score_thr >= score:
        return cfg
    return ConfigDict({**cfg, "score_thr": score})


def mixes_samples(module: nn.Module) -> bool:
    """Whether a sample's output depends on the others (live batch norm)."""
    return any(
        m.training and isinstance(m, nn.modules.batchnorm._BatchNorm)
        for m in module.modules()
    )


def check_faster_rcnn(detector: nn.Module, method: str) -> None:
    """Refuse detectors whose losses this file does not reproduce.

    Raises:
        UserError: Says what is missing.
    """
    name = type(detector).__name__
    if (
        not isinstance(detector, TwoStageDetector)
        or type(detector).loss is not TwoStageDetector.loss
        or not detector.with_rpn
        or isinstance(getattr(detector.roi_head, "bbox_head", None), nn.ModuleList)
    ):
        raise UserError(
            f"{method} needs a Faster or Mask R-CNN with one box head; {name} is none.",
            "Use type='FasterRCNN' with a StandardRoIHead, or another method.",
        )
    head = detector.roi_head.bbox_head
    softmax = (
        head.with_cls
        and head.with_reg
        and type(head.loss_cls) is CrossEntropyLoss
        and not head.loss_cls.use_sigmoid
        and head.loss_cls.class_weight is None
        and head.fc_cls.out_features == head.num_classes + 1
    )
    if not softmax or getattr(head.bbox_coder, "encode_size", 4) != 4:
        raise UserError(
            f"{method} weighs a softmax cross-entropy over classes and background and "
            f"four deltas a box; the {type(head).__name__} of this {name} has others.",
            "Use Shared2FCBBoxHead with CrossEntropyLoss(use_sigmoid=False) without "
            "class_weight, and DeltaXYWHBBoxCoder.",
        )
