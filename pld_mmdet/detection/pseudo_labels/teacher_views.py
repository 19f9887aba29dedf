"""The teacher looks at the weak view at other sizes: small objects become larger."""

import torch
import torch.nn.functional as F
from mmcv.ops import batched_nms
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData
from torch import Tensor, nn

from pld_mmdet.detection.boxes.views import into_input

MERGE_IOU = 0.5

_UPRIGHT = dict(flip=False, flip_direction=None)


def detect_in_views(
    teacher: nn.Module,
    inputs: Tensor,
    samples: list[DetDataSample],
    scales: tuple[float, ...] = (1.0,),
    flip: bool = False,
) -> list[InstanceData]:
    """Detections of a batch at one or several sizes, in pixels of ``inputs``.

    Args:
        teacher: Any mmdet detector; it predicts once a scale.
        inputs: N x 3 x H x W, preprocessed. A scale other than 1 resizes them
            (bilinear); that adds no detail that the batch does not have.
        samples: Their data samples; only the meta information is used.
        scales: 1.0 is the batch as it is. Several views are merged by class-wise NMS
            at an IoU of 0.5.
        flip: Also look at the mirrored batch, after the others.
    """
    views = [_detect_at(teacher, inputs, samples, scale) for scale in scales]
    if flip:
        views.append(_detect_mirrored(teacher, inputs, samples))
    if len(views) == 1:
        return views[0]
    return [_merged(found) for found in zip(*views, strict=True)]


def _detect_at(
    teacher: nn.Module, inputs: Tensor, samples: list[DetDataSample], scale: float
) -> list[InstanceData]:
    # Fresh samples: the teacher sees no ground truth and leaves no trace. A flip of the
    # pipeline is no matter of the answer, and HTC would turn its masks back for it.
    samples = [DetDataSample(metainfo=s.metainfo | _UPRIGHT) for s in samples]
    shapes = [sample.img_shape[:2] for sample in samples]
    if scale != 1.0:
        height, width = inputs.shape[-2:]
        size = round(height * scale), round(width * scale)
        tall, wide = size[0] / height, size[1] / width
        inputs = F.interpolate(inputs, size=size, mode="bilinear", align_corners=False)
        for sample, (h, w) in zip(samples, shapes, strict=True):
            shape = round(h * tall), round(w * wide)
            sample.set_metainfo(
                dict(img_shape=shape, pad_shape=size, batch_input_shape=size)
            )
    found = [
        into_input(s.pred_instances, s)
        for s in teacher.predict(inputs, samples, rescale=False)
    ]
    if scale != 1.0:
        for instances, (h, w) in zip(found, shapes, strict=True):
            boxes = instances.bboxes / instances.bboxes.new_tensor([wide, tall] * 2)
            limit = boxes.new_tensor([w, h, w, h])
            instances.bboxes = boxes.clamp(min=0).minimum(limit)
    return found


def _detect_mirrored(
    teacher: nn.Module, inputs: Tensor, samples: list[DetDataSample]
) -> list[InstanceData]:
    """Padding is mirrored too: boxes are cut to the image when they are back."""
    height, width = inputs.shape[-2:]
    size = dict(img_shape=(height, width), pad_shape=(height, width))
    size |= _UPRIGHT
    mirrored = [DetDataSample(metainfo=dict(s.metainfo, **size)) for s in samples]
    found = _detect_at(teacher, inputs.flip(-1), mirrored, 1.0)
    for instances, sample in zip(found, samples, strict=True):
        x1, y1, x2, y2 = instances.bboxes.unbind(1)
        boxes = torch.stack([width - x2, y1, width - x1, y2], 1)
        h, w = sample.img_shape[:2]
        limit = boxes.new_tensor([w, h, w, h])
        instances.bboxes = boxes.clamp(min=0).minimum(limit)
    return found


def _merged(found: tuple[InstanceData, ...]) -> InstanceData:
    both = InstanceData(
        bboxes=torch.cat([f.bboxes for f in found]),
        scores=torch.cat([f.scores for f in found]),
        labels=torch.cat([f.labels for f in found]),
    )
    if len(both) == 0:
        return both
    nms = dict(type="nms", iou_threshold=MERGE_IOU)
    _, kept = batched_nms(both.bboxes, both.scores, both.labels, nms)
    return both[kept]
