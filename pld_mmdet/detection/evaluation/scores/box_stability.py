"""Box stability under feature dropout (Yang et al., ICLR 2024, arXiv 2403.13803)."""

import torch
import torch.nn.functional as F
from mmdet.structures.bbox import bbox_overlaps
from mmengine.structures import InstanceData
from torch import Tensor, nn

from pld_mmdet.detection.boxes.matching import match
from pld_mmdet.detection.evaluation.scores.views import (
    confident,
    detect,
    predict,
    view_of,
)
from pld_mmdet.registry import METRICS


def stable_overlaps(plain: InstanceData, dropped: InstanceData) -> Tensor:
    """IoU of each pair of the bipartite matching between two sets of detections."""
    if not len(plain) or not len(dropped):
        return plain.scores.new_zeros(0)
    overlap = bbox_overlaps(plain.bboxes.float(), dropped.bboxes.float())
    generous = bbox_overlaps(plain.bboxes.float(), dropped.bboxes.float(), mode="giou")
    rows, columns = match(-generous)  # the paper's cost: generalised IoU
    return overlap[rows, columns]


@METRICS.register_module()
class BoxStability:
    """Mean IoU of the detections with those after dropout on the backbone's maps.

    Detectors whose boxes hardly move are the better ones (BoS score). A detector that
    sees nothing has a value of 0.

    Deviation from the release, which writes dropout into each backbone's code: the maps
    that the backbone hands out are dropped, so that any backbone works.

    Args:
        rate: Share of the features that is zeroed (released code: 0.1).
        min_score: Detections below are not looked at.
    """

    def __init__(self, rate: float = 0.1, min_score: float = 0.3) -> None:
        self.rate = rate
        self.min_score = min_score
        self._overlaps: list[Tensor] = []

    def add(self, detector: nn.Module, batch: dict, shared: dict) -> None:
        """Detect again with dropout and pair the boxes."""
        plain = detect(detector, batch, "weak", shared)
        inputs, samples = view_of(detector, batch, "weak", shared)
        handle = detector.backbone.register_forward_hook(self._drop)
        try:
            dropped = predict(detector, inputs, samples)
        finally:
            handle.remove()
        for ours, theirs in zip(plain, dropped, strict=True):
            self._overlaps.append(
                stable_overlaps(
                    confident(ours, self.min_score), confident(theirs, self.min_score)
                )
            )

    def _drop(self, module, inputs, maps):
        return tuple(m * self._mask(m).to(m) for m in maps)

    def _mask(self, like: Tensor) -> Tensor:
        """Drawn on the CPU: its generator is the one that an evaluation seeds."""
        ones = torch.ones_like(like, device="cpu", dtype=torch.float)
        return F.dropout(ones, self.rate, training=True)

    def compute(self) -> dict[str, float]:
        """``box_stability`` in [0, 1]."""
        overlaps = torch.cat(self._overlaps) if self._overlaps else torch.zeros(0)
        self._overlaps = []
        return dict(box_stability=overlaps.mean().item() if len(overlaps) else 0.0)
