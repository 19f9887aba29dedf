"""The stages of a stock two-stage detector, one by one, for methods between them."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from mmdet.models.detectors.two_stage import TwoStageDetector
from mmdet.models.losses import CrossEntropyLoss
from mmdet.structures import DetDataSample
from mmengine.config import ConfigDict
from mmengine.structures import InstanceData
from torch import Tensor, minimum, nn

from pld_mmdet.distill.feature_tap import FeatureTap
from pld_mmdet.errors import UserError


class RoIOutputs(NamedTuple):
    """What a box head says about R boxes.

    Attributes:
        features: [R, D], the input of the class layer.
        logits: [R, C + 1], background last.
        deltas: [R, 4C], or [R, 4] if class-agnostic.

    What was not asked for is None.
    """

    features: Tensor | None
    logits: Tensor | None
    deltas: Tensor | None


def require_softmax_head(
    detector: nn.Module,
    method: str,
    cascade: bool = False,
    decodes: bool = False,
    stock_losses: bool = False,
) -> None:
    """Refuse detectors without proposals or without a softmax box head.

    Args:
        detector: A built mmdet detector.
        method: Named in the error.
        cascade: Whether the method also works on a cascade of box heads.
        decodes: Whether it decodes boxes from deltas itself.
        stock_losses: Whether it writes the losses of a Faster or Mask R-CNN anew: an
            unweighted softmax cross-entropy and four deltas a box.

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
    heads = getattr(detector.roi_head, "bbox_head", None)
    if stock_losses and (
        not isinstance(detector, TwoStageDetector)
        or type(detector).loss is not TwoStageDetector.loss
        or isinstance(heads, nn.ModuleList)
    ):
        raise UserError(
            f"{method} needs a Faster or Mask R-CNN with one box head; {name} is none.",
            "Use type='FasterRCNN' with a StandardRoIHead, or another method.",
        )
    if not isinstance(heads, nn.ModuleList):
        heads = [heads]
    elif not cascade:
        raise UserError(
            f"{method} works on one box head; {name} has a cascade of {len(heads)}.",
            "Use a detector with a StandardRoIHead such as FasterRCNN.",
        )
    for head in heads:
        if not getattr(head, "with_reg", True) or not hasattr(head, "fc_reg"):
            raise UserError(
                f"{method} decodes boxes from the deltas that the class layer's "
                f"neighbour regresses; the {type(head).__name__} of this {name} places "
                "its boxes otherwise (Grid R-CNN by grid points, SABL by buckets).",
                "Use MeanTeacherSFOD (--method mean_teacher), which reads detections "
                "only.",
            )
        layer = getattr(head, "fc_cls", None)
        outputs = getattr(layer, "out_features", None)
        if outputs != head.num_classes + 1:
            raise UserError(
                f"{method} needs a box head with one softmax logit per class and one "
                f"for background; the {type(head).__name__} of this {name} has "
                f"{outputs} outputs for {head.num_classes} classes.",
                "Use a head with a softmax cross-entropy, such as Shared2FCBBoxHead.",
            )
        if decodes and not hasattr(head.bbox_coder, "stds"):
            raise UserError(
                f"{method} decodes boxes from deltas; {name} codes them with "
                f"{type(head.bbox_coder).__name__}.",
                "Use DeltaXYWHBBoxCoder in the box head.",
            )
        if stock_losses and not _is_plain(head):
            raise UserError(
                f"{method} weighs a softmax cross-entropy over classes and background "
                f"and four deltas a box; the {type(head).__name__} of this {name} has "
                "others.",
                "Use Shared2FCBBoxHead with CrossEntropyLoss(use_sigmoid=False) "
                "without class_weight, and DeltaXYWHBBoxCoder.",
            )


def _is_plain(head: nn.Module) -> bool:
    """Whether a box head has an unweighted cross-entropy and four deltas a box."""
    loss = head.loss_cls
    return (
        type(loss) is CrossEntropyLoss
        and not loss.use_sigmoid
        and loss.class_weight is None
        and getattr(head.bbox_coder, "encode_size", 4) == 4
    )


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


def rpn_loss(
    detector: nn.Module, features: tuple[Tensor, ...], samples: list[DetDataSample]
) -> tuple[dict, list[InstanceData]]:
    """Losses and training proposals of the RPN, as in mmdet's ``TwoStageDetector``.

    Args:
        detector: A two-stage detector.
        features: Its feature maps.
        samples: With ``gt_instances`` and perhaps ``ignored_instances``; objectness has
            no class, so any label will do. They are not changed.

    Returns:
        ``loss_rpn_cls`` and ``loss_rpn_bbox`` (a list, one entry a level), and the
        proposals of each image.
    """
    class_less = []
    for sample in samples:
        truth = sample.gt_instances
        target = DetDataSample(metainfo=sample.metainfo)
        target.gt_instances = InstanceData(
            bboxes=truth.bboxes, labels=truth.labels.new_zeros(len(truth))
        )
        if "ignored_instances" in sample:
            target.ignored_instances = sample.ignored_instances
        class_less.append(target)
    losses, proposals = detector.rpn_head.loss_and_predict(
        features, class_less, proposal_cfg=proposal_cfg(detector)
    )
    return {k if "rpn" in k else f"rpn_{k}": v for k, v in losses.items()}, proposals


def box_heads(detector: nn.Module) -> list[tuple[nn.Module, nn.Module]]:
    """RoI extractor and box head of each stage; one stage without a cascade."""
    roi_head = detector.roi_head
    if isinstance(roi_head.bbox_head, nn.ModuleList):
        return list(zip(roi_head.bbox_roi_extractor, roi_head.bbox_head, strict=True))
    return [(roi_head.bbox_roi_extractor, roi_head.bbox_head)]


def box_head(detector: nn.Module, stage: int = -1) -> tuple[nn.Module, nn.Module]:
    """RoI extractor and box head of one stage; ``stage`` has no say without others."""
    heads = box_heads(detector)
    return heads[stage if len(heads) > 1 else 0]


def run_box_head(
    detector: nn.Module,
    features: tuple[Tensor, ...],
    rois: Tensor,
    stage: int = -1,
    only: str | None = None,
) -> RoIOutputs:
    """Run the box head on given RoIs.

    Args:
        detector: A two-stage detector.
        features: Its feature maps.
        rois: [R, 5]: image number, then the box.
        stage: Whose head in a cascade.
        only: ``'cls'`` or ``'reg'`` leaves the other layer out; its output (and with
            ``'reg'`` the features too) is None then.
    """
    roi_head, head = detector.roi_head, box_head(detector, stage)[1]
    arguments = (features, rois)
    if isinstance(roi_head.bbox_head, nn.ModuleList):
        arguments = (range(len(roi_head.bbox_head))[stage], *arguments)
    with FeatureTap(cls=head.fc_cls) as tap, _only(head, only):
        out = roi_head._bbox_forward(*arguments)
    inputs = tap.inputs("cls")[0] if tap.called("cls") else None
    return RoIOutputs(inputs, out["cls_score"], out["bbox_pred"])


@contextmanager
def _only(head: nn.Module, branch: str | None) -> Iterator[None]:
    """Leave a branch out of mmdet's heads, which ask these flags in ``forward``."""
    flag = {None: None, "cls": "with_reg", "reg": "with_cls"}[branch]
    if flag is None:
        yield
        return
    setattr(head, flag, False)
    try:
        yield
    finally:
        setattr(head, flag, True)


def own_class(deltas: Tensor, labels: Tensor) -> Tensor:
    """Each row's four numbers of its own class.

    Args:
        deltas: [..., N, 4C] class-specific, or [..., N, 4] as they are.
        labels: [N] in 0..C-1.

    Returns:
        [..., N, 4].
    """
    if deltas.shape[-1] == 4:
        return deltas
    index = labels[:, None, None].expand(*deltas.shape[:-1], 1, 4)
    return deltas.unflatten(-1, (-1, 4)).gather(-2, index).squeeze(-2)


def clip_to_images(boxes: Tensor, rois: Tensor, samples: list[DetDataSample]) -> Tensor:
    """Clip boxes [N, 4] to the images that the first column of ``rois`` names."""
    shapes = boxes.new_tensor([s.img_shape[:2] for s in samples])  # height, width
    limits = shapes.flip(1).repeat(1, 2)[rois[:, 0].long()]
    return minimum(boxes.clamp(min=0), limits)


def larger_than(instances: InstanceData, size: float) -> InstanceData:
    """Those whose width and height are strictly larger than ``size`` pixels."""
    boxes = instances.bboxes
    return instances[((boxes[:, 2:] - boxes[:, :2]) > size).all(1)]


def mixes_samples(module: nn.Module) -> bool:
    """Whether a sample's output depends on the others (live batch norm)."""
    return any(
        m.training and isinstance(m, nn.modules.batchnorm._BatchNorm)
        for m in module.modules()
    )


def zero_loss(module: nn.Module) -> Tensor:
    """0 with a gradient of 0 for every weight.

    It keeps the gradient buckets of several processes complete where a part of a
    network has nothing to learn from.
    """
    return sum(p.sum() * 0.0 for p in module.parameters())
