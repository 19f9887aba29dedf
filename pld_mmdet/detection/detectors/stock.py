"""Stock mmdet detectors, built for our wrappers."""

import copy

from mmdet.models.dense_heads.base_dense_head import BaseDenseHead
from mmdet.models.roi_heads.bbox_heads import BBoxHead
from mmdet.models.roi_heads.roi_extractors.base_roi_extractor import BaseRoIExtractor
from mmdet.registry import MODELS
from mmengine.config import ConfigDict
from mmengine.registry import DefaultScope
from torch import Tensor, nn
from torch.utils._pytree import tree_map


def build_detector(detector: ConfigDict) -> nn.Module:
    """Build a stock detector, also where no default scope says what its names mean.

    From a copy: constructors of mmdet (DETR and its relatives) write into their config.
    """
    detector = copy.deepcopy(detector)
    return _mended(_build(detector))


def _build(detector: ConfigDict) -> nn.Module:
    scope = DefaultScope.get_current_instance()
    if scope is not None and scope.scope_name not in ("mmengine", "pld_mmdet"):
        return MODELS.build(detector)
    with DefaultScope.overwrite_default_scope("mmdet"):
        return MODELS.build(detector)


def _mended(network: nn.Module) -> nn.Module:
    """mmdet 3.3 asks every dense head for its ``loss_cls`` when it predicts.

    SSD's head computes its loss without one, so that it could not predict at all.
    """
    head = getattr(network, "bbox_head", None)
    if isinstance(head, BaseDenseHead) and not hasattr(head, "loss_cls"):
        head.loss_cls = None
    return network


def full_precision_heads(detector: nn.Module) -> nn.Module:
    """Pool and decode boxes in float32 under autocast.

    mmcv's RoIAlign and NMS take no bfloat16 on a CPU, and half-precision coordinates
    are whole pixels off in images wider than 2048.
    """
    for module in detector.modules():
        if isinstance(module, (BaseDenseHead, BBoxHead)):
            module.register_forward_hook(lambda m, inputs, output: _float(output))
        elif isinstance(module, BaseRoIExtractor):
            module.register_forward_pre_hook(lambda m, inputs: _float(inputs))
    return detector


def _float(tree):
    """Cast all floating-point tensors of a nested structure to float32."""
    return tree_map(
        lambda x: x.float() if isinstance(x, Tensor) and x.is_floating_point() else x,
        tree,
    )


def num_classes(detector: nn.Module) -> int:
    """Number of classes that the last box head of a detector tells apart."""
    head = detector.bbox_head if hasattr(detector, "bbox_head") else None
    if head is None and detector.with_bbox:
        head = detector.roi_head.bbox_head
    if isinstance(head, nn.ModuleList):
        head = head[-1]
    return head.num_classes
