"""Detections of a plain detector on one view of a batch, made once."""

import copy

import torch
from mmdet.structures import DetDataSample
from mmdet.structures.bbox import bbox2roi
from mmengine.structures import InstanceData
from torch import Tensor, nn

from pld_mmdet.detection.boxes.views import into_input
from pld_mmdet.detection.detectors.stock import num_classes
from pld_mmdet.detection.detectors.two_stage import run_box_head
from pld_mmdet.distill.feature_tap import FeatureTap


class NotFinite(Exception):
    """A detector answered with NaN or infinity, on which no score can be computed."""


def view_of(
    detector: nn.Module, batch: dict, view: str, shared: dict
) -> tuple[Tensor, list[DetDataSample]]:
    """Preprocessed images and data samples (meta information only) of one view."""
    key = ("view", view)
    if key not in shared:
        data = dict(
            inputs=batch["inputs"][view],
            data_samples=[
                DetDataSample(metainfo=copy.copy(s.metainfo))
                for s in batch["data_samples"][view]
            ],
        )
        # Of the plain detector; it moves and stacks new tensors, not the batch's.
        data = detector.data_preprocessor(data, False)
        shared[key] = data["inputs"], data["data_samples"]
    return shared[key]


def detect(
    detector: nn.Module, batch: dict, view: str, shared: dict
) -> list[InstanceData]:
    """Detections in pixels of the view, one entry an image; computed once a batch."""
    key = ("detections", view)
    if key not in shared:
        inputs, samples = view_of(detector, batch, view, shared)
        shared[key] = predict(detector, inputs, samples)
    return shared[key]


def predict(
    detector: nn.Module, inputs: Tensor, samples: list[DetDataSample]
) -> list[InstanceData]:
    """Stock detections with ``probs`` [N, C + 1], background last.

    Two-stage detectors with one softmax head: the head's softmax at the detected box.
    Others report one score a box: it stands at its class, and the rest at background.
    A detector with RoI features also leaves, for its proposals, ``proposals``: pooled
    features and softmax of each image (in the image's meta information).
    """
    heads = _softmax_head(detector)
    if heads is None:
        found = _stock(detector, inputs, samples)
        for instances in found:
            instances.probs = score_distribution(instances, num_classes(detector))
        return found
    extractor, fc_cls = heads
    with FeatureTap(extractor=extractor, cls=fc_cls) as tap:
        found = _stock(detector, inputs, samples)
    if not tap.called("cls"):  # not one proposal
        for instances in found:
            instances.probs = instances.scores.new_zeros(0, num_classes(detector) + 1)
        return found
    features, rois = tap.inputs("extractor")[:2]
    pooled = tap.output("extractor").mean((2, 3))  # P x D
    softmax = tap.output("cls").softmax(1)
    boxes = [instances.bboxes for instances in found]
    logits = (
        run_box_head(detector, features, bbox2roi(boxes)).logits
        if sum(map(len, boxes))
        else softmax[:0]
    )
    parts = logits.softmax(1).split([len(b) for b in boxes])
    for n, (instances, probs) in enumerate(zip(found, parts, strict=True)):
        mine = rois[:, 0] == n
        instances.probs = probs
        instances.set_metainfo(dict(proposals=(pooled[mine], softmax[mine])))
    return found


def _stock(detector, inputs, samples) -> list[InstanceData]:
    samples = [DetDataSample(metainfo=s.metainfo) for s in samples]
    found = detector.predict(inputs, samples, rescale=False)
    for sample in found:
        seen = sample.pred_instances
        if not (seen.bboxes.isfinite().all() and seen.scores.isfinite().all()):
            raise NotFinite
    # Masks and the like would only be carried about.
    return [
        into_input(
            InstanceData(
                bboxes=s.pred_instances.bboxes,
                scores=s.pred_instances.scores,
                labels=s.pred_instances.labels,
            ),
            s,
        )
        for s in found
    ]


def score_distribution(instances: InstanceData, classes: int) -> Tensor:
    """[N, C + 1]: each score at its class, the rest at background."""
    probs = instances.scores.new_zeros(len(instances), classes + 1)
    probs.scatter_(1, instances.labels[:, None], instances.scores[:, None])
    probs[:, -1] = 1.0 - instances.scores
    return probs


def _softmax_head(detector: nn.Module) -> tuple[nn.Module, nn.Module] | None:
    """RoI extractor and class layer of a two-stage detector with one softmax head."""
    head = getattr(getattr(detector, "roi_head", None), "bbox_head", None)
    layer = getattr(head, "fc_cls", None)
    if layer is None or getattr(layer, "out_features", 0) != head.num_classes + 1:
        return None
    return detector.roi_head.bbox_roi_extractor, layer


def confident(instances: InstanceData, min_score: float) -> InstanceData:
    """Detections whose score is at least ``min_score``."""
    return instances[instances.scores >= min_score]


def kl_matrix(first: Tensor, second: Tensor, eps: float = 1e-6) -> Tensor:
    """[N, M] of KL(first_i || second_j); zeros are smoothed by ``eps``."""
    first, second = first.double() + eps, second.double() + eps
    first = first / first.sum(1, keepdim=True)
    second = second / second.sum(1, keepdim=True)
    entropy = torch.special.xlogy(first, first).sum(1, keepdim=True)  # N x 1
    return entropy - first @ second.log().T
