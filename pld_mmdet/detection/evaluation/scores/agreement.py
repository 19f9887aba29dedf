"""Agreement of a detector with itself between the weak and the strong view."""

from torch import Tensor

from pld_mmdet.detection.boxes.matching import count_agreeing
from pld_mmdet.detection.boxes.views import map_to_strong
from pld_mmdet.detection.evaluation.scores.views import confident, detect
from pld_mmdet.registry import METRICS


@METRICS.register_module()
class ViewAgreement:
    """F1 of the detections on the strong view against those on the weak view.

    A pair has the same class and an IoU of at least ``min_iou``. A detector that sees
    nothing has a value of 0. Cheap, and it needs nothing but detections; it says
    nothing about mistakes that both views share.

    Args:
        min_score: Detections below are not looked at.
        min_iou: Least overlap of a pair.
    """

    def __init__(self, min_score: float = 0.3, min_iou: float = 0.5) -> None:
        self.min_score = min_score
        self.min_iou = min_iou
        self._counts: list[Tensor] = []

    def add(self, detector, batch: dict, shared: dict) -> None:
        """Count the pairs of one batch."""
        pairs = zip(
            detect(detector, batch, "weak", shared),
            detect(detector, batch, "strong", shared),
            batch["data_samples"]["weak"],
            batch["data_samples"]["strong"],
            strict=True,
        )
        for weak, strong, weak_sample, strong_sample in pairs:
            ours = confident(weak, self.min_score)
            theirs = confident(strong, self.min_score)
            boxes = map_to_strong(ours.bboxes, weak_sample, strong_sample)
            self._counts.append(
                count_agreeing(
                    boxes, ours.labels, theirs.bboxes, theirs.labels, self.min_iou
                )
            )

    def compute(self) -> dict[str, float]:
        """``agreement`` in [0, 1]."""
        matched, total = (sum(c[i].item() for c in self._counts) for i in (0, 1))
        self._counts = []
        return dict(agreement=matched / total if total else 0.0)
