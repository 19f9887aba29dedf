"""Detection Adaptation Score (Yu et al., NeurIPS 2024, arXiv 2412.17284).

Flatness: how little the detections move when the weights do (FIS). Prototypes: how far
classes lie from each other, against how far one class lies from itself in the other
domain (PDR). Definitions follow the released code (HenryYu23/DAS, d84c963).

Deviations:

- The release takes prototypes of *source images*, which a source-free user does not
  have. Here the images with the more confident half of the detections stand for the
  source domain and the others for the target, as A2SFOD splits its target.
- The release normalises FIS and PDR to [0, 1] over all checkpoints and adds them;
  :func:`das_of_run` does that afterwards. During a run the later checkpoints are not
  known, so ``das`` is ``FIS + log PDR``, in which a constant factor moves no rank.
- Sign: FIS here is the negative of the release's cost, so that larger is flatter.
"""

import copy
import math
from collections.abc import Sequence

import torch
from mmdet.structures.bbox import bbox_overlaps
from mmengine.structures import InstanceData
from torch import Tensor, nn

from pld_mmdet.detection.boxes.matching import match
from pld_mmdet.detection.evaluation.scores.views import (
    detect,
    kl_matrix,
    predict,
    view_of,
)
from pld_mmdet.registry import METRICS


def flatness(plain: InstanceData, moved: InstanceData) -> float | None:
    """Mean of IoU - KL over matched detections before and after the weights moved.

    Args:
        plain: Detections with ``probs`` [N, C + 1].
        moved: Those of the perturbed detector.

    Returns:
        At most 1; None when one side has no detection (the release skips the image).
    """
    if not len(plain) or not len(moved):
        return None
    overlap = bbox_overlaps(moved.bboxes.float(), plain.bboxes.float())
    cost = kl_matrix(moved.probs, plain.probs) - overlap
    rows, columns = match(cost)
    return -cost[rows, columns].mean().item()


def prototype_ratio(source: Tensor, target: Tensor) -> float:
    """PDR: distances between classes, against the distance of a class to itself.

    ``d(source_i, target_j) d(source_i, source_j) d(target_i, target_j)``, each the mean
    over i != j, divided by the mean of ``d(source_i, target_i)``.

    Args:
        source: [K, D] prototypes of one domain.
        target: [K, D] prototypes of the other.
    """
    count = len(source)

    def apart(a: Tensor, b: Tensor) -> Tensor:
        distance = torch.cdist(a, b)
        return (distance.sum() - distance.diag().sum()) / (count * (count - 1))

    same = torch.linalg.vector_norm(source - target, dim=1).mean()
    product = apart(source, target) * apart(source, source) * apart(target, target)
    return (product / same.clamp(min=1e-12)).item()


def perturbed(detector: nn.Module, step: float = 1.0, seed: int = 0) -> nn.Module:
    """A copy whose weights moved by ``step`` along one random direction.

    The direction is drawn as in the release, uniform in [0, 1) for each weight, then
    scaled to length 1 over all weights; the same one for the same architecture.
    """
    moved = copy.deepcopy(detector)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        drawn = [torch.rand(p.shape, generator=generator) for p in moved.parameters()]
        length = torch.stack([d.square().sum() for d in drawn]).sum().sqrt()
        for parameter, direction in zip(moved.parameters(), drawn, strict=True):
            parameter.add_((step / length * direction).to(parameter))
    return moved


@METRICS.register_module()
class DetectionAdaptationScore:
    """``das``, and its parts ``das_fis`` and ``das_pdr``.

    PDR needs RoI features: for one-stage and DETR-type detectors and for cascades
    ``das`` is FIS alone, and ``das_pdr`` is not reported. A detector that sees nothing
    has no value (NaN), so that no ``save_best`` picks it.

    Args:
        step: Length of the move of the weights (released code: 1).
        seed: Of its direction.
    """

    def __init__(self, step: float = 1.0, seed: int = 0) -> None:
        self.step = step
        self.seed = seed
        self._forget()

    def _forget(self) -> None:
        self._moved: nn.Module | None = None
        self._flatness: list[float] = []
        self._images: list[tuple[float, Tensor, Tensor]] = []

    def add(self, detector: nn.Module, batch: dict, shared: dict) -> None:
        """Detect with the moved weights; add up class-weighted RoI features."""
        if self._moved is None:
            self._moved = perturbed(detector, self.step, self.seed)
        plain = detect(detector, batch, "weak", shared)
        inputs, samples = view_of(detector, batch, "weak", shared)
        moved = predict(self._moved, inputs, samples)
        for ours, theirs in zip(plain, moved, strict=True):
            value = flatness(ours, theirs)
            if value is not None:
                self._flatness.append(value)
            proposals = ours.metainfo.get("proposals")
            if proposals is not None and len(proposals[0]):
                features, softmax = proposals  # P x D, P x (C + 1)
                certainty = ours.scores.mean().item() if len(ours) else 0.0
                self._images.append((certainty, softmax.T @ features, softmax.sum(0)))

    def compute(self) -> dict[str, float]:
        """The score of all that was added."""
        found = self._flatness
        values = dict(das_fis=sum(found) / len(found) if found else math.nan)
        values["das"] = values["das_fis"]
        if len(self._images) > 1:
            values["das_pdr"] = self._ratio()
            values["das"] += math.log(max(values["das_pdr"], 1e-12))
        self._forget()
        return values

    def _ratio(self) -> float:
        images = sorted(self._images, key=lambda image: -image[0])
        half = len(images) // 2
        prototypes = [
            sum(i[1] for i in part) / sum(i[2] for i in part)[:, None].clamp(min=1e-12)
            for part in (images[:half], images[half:])
        ]
        return prototype_ratio(*prototypes)


def das_of_run(fis: Sequence[float], pdr: Sequence[float]) -> list[float]:
    """The published score of several checkpoints: both parts to [0, 1], then added.

    Args:
        fis: FIS of each checkpoint.
        pdr: PDR of each; empty when the detector has none.

    Examples:
        >>> das_of_run([0.2, 0.4, 0.3], [10.0, 20.0, 30.0])
        [0.0, 1.5, 1.5]
    """
    parts = [_to_unit(values) for values in (fis, pdr) if values]
    return [round(sum(column), 12) for column in zip(*parts, strict=True)]


def _to_unit(values: Sequence[float]) -> list[float]:
    finite = [v for v in values if math.isfinite(v)]
    if not finite or max(finite) == min(finite):
        return [0.0 if math.isfinite(v) else math.nan for v in values]
    low, high = min(finite), max(finite)
    return [(v - low) / (high - low) for v in values]
