"""The stages of a stock two-stage detector, one by one, for methods between them."""

import copy
from typing import NamedTuple

from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData
from torch import Tensor, nn

from pld_mmdet.distill.feature_tap import FeatureTap
from pld_mmdet.errors import UserError


class RoIOutputs(NamedTuple):
    """What a box head says about R boxes.

    Attributes:
        features: [R, D], the input of the class layer.
        logits: [R, C + 1], background last.
        deltas: [R, 4C], or [R, 4] if class-agnostic.
    """

    features: Tensor
    logits: Tensor
    deltas: Tensor


def require_softmax_head(
    detector: nn.Module, method: str, cascade: bool = False
) -> None:
    """Refuse detectors without proposals or without a softmax box head.

    Args:
        detector: A built mmdet detector.
        method: Named in the error.
        cascade: Whether the method also works on a cascade of box heads.

    Raises:
        UserError: Says what the detector lacks.
    """
    name = type(detector).__name__
    if not getattr(detector, "with_rpn", False) or not detector.with_roi_head:
        raise UserError(
            f"{method} works on region proposals, and {name} has none.",
            "Use a two-stage detector such as FasterRCNN; pld_mmdet.MeanTeacherSFOD "
            "adapts any detector.",
        )
    heads = detector.roi_head.bbox_head
    if not isinstance(heads, nn.ModuleList):
        heads = [heads]
    elif not cascade:
        raise UserError(
            f"{method} works on one box head; {name} has a cascade of {len(heads)}.",
            "Use a detector with a StandardRoIHead such as FasterRCNN.",
        )
    for head in heads:
        outputs = getattr(head.fc_cls, "out_features", None) if head.with_cls else None
        if not head.with_reg or outputs != head.num_classes + 1:
            raise UserError(
                f"{method} needs a box head with one softmax logit per class and one "
                f"for background; the {type(head).__name__} of this {name} has "
                f"{outputs} outputs for {head.num_classes} classes.",
                "Use a head with a softmax cross-entropy, such as Shared2FCBBoxHead.",
            )


def rpn_loss(
    detector: nn.Module, features: tuple[Tensor, ...], samples: list[DetDataSample]
) -> tuple[dict, list[InstanceData]]:
    """Losses and training proposals of the RPN, as in mmdet's ``TwoStageDetector``.

    Args:
        detector: A two-stage detector.
        features: Its feature maps.
        samples: With ``gt_instances``; objectness has no class, so any label will do.

    Returns:
        ``loss_rpn_cls`` and ``loss_rpn_bbox`` (a list, one entry a level), and the
        proposals of each image.
    """
    blind = copy.deepcopy(samples)
    for sample in blind:
        sample.gt_instances.labels = sample.gt_instances.labels.clone().zero_()
    losses, proposals = detector.rpn_head.loss_and_predict(
        features,
        blind,
        proposal_cfg=detector.train_cfg.get("rpn_proposal", detector.test_cfg.rpn),
    )
    return {k if "rpn" in k else f"rpn_{k}": v for k, v in losses.items()}, proposals


def run_box_head(
    detector: nn.Module, features: tuple[Tensor, ...], rois: Tensor
) -> RoIOutputs:
    """Run the box head on given RoIs [R, 5] (image number, then the box)."""
    with FeatureTap(cls=detector.roi_head.bbox_head.fc_cls) as tap:
        out = detector.roi_head._bbox_forward(features, rois)
    return RoIOutputs(tap.inputs("cls")[0], out["cls_score"], out["bbox_pred"])


def box_heads(detector: nn.Module) -> list[tuple[nn.Module, nn.Module]]:
    """RoI extractor and box head of each stage; one stage without a cascade."""
    roi_head = detector.roi_head
    if isinstance(roi_head.bbox_head, nn.ModuleList):
        return list(zip(roi_head.bbox_roi_extractor, roi_head.bbox_head, strict=True))
    return [(roi_head.bbox_roi_extractor, roi_head.bbox_head)]


def class_logits(
    detector: nn.Module, stage: int, features: tuple[Tensor, ...], rois: Tensor
) -> Tensor:
    """Class logits [R, C + 1] of one stage's box head on given RoIs [R, 5]."""
    roi_head = detector.roi_head
    if isinstance(roi_head.bbox_head, nn.ModuleList):
        stage = range(len(roi_head.bbox_head))[stage]
        return roi_head._bbox_forward(stage, features, rois)["cls_score"]
    return roi_head._bbox_forward(features, rois)["cls_score"]
