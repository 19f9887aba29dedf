"""Mean intersection over union, as mmsegmentation's ``IoUMetric`` counts it."""

from collections.abc import Sequence

import numpy as np
import torch
from mmengine.evaluator import BaseMetric

from pld_mmdet.registry import METRICS
from pld_mmdet.segmentation.learners.losses import IGNORE


@METRICS.register_module()
class MeanIoU(BaseMetric):
    """mIoU, IoU of each class and pixel accuracy: fractions, not percent.

    Reads ``predictions`` and ``targets``, both N x H x W, of a prediction; pixels with
    target 255 do not count. A class that occurs in neither is left out of the mean.
    """

    default_prefix = None

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        """Keep one confusion matrix [C, C] of each image: rows are targets."""
        classes = len(self.dataset_meta["classes"])
        for batch in data_samples:
            for predicted, target in zip(
                batch["predictions"], batch["targets"], strict=True
            ):
                known = target != IGNORE
                cells = target[known].long() * classes + predicted[known].long()
                counts = torch.bincount(cells, minlength=classes**2)
                self.results.append(counts.view(classes, classes).cpu().numpy())

    def compute_metrics(self, results: list[np.ndarray]) -> dict[str, float]:
        """The numbers over all images."""
        confusion = np.sum(results, 0).astype(np.float64)
        hits, targets, predicted = (
            np.diag(confusion),
            confusion.sum(1),
            confusion.sum(0),
        )
        union = targets + predicted - hits
        occurs = union > 0
        iou = np.full(len(hits), np.nan)
        iou[occurs] = hits[occurs] / union[occurs]
        names = self.dataset_meta["classes"]
        metrics = {
            "mIoU": float(iou[occurs].mean()),
            "aAcc": float(hits.sum() / max(targets.sum(), 1)),
        }
        for name, value in zip(names, iou, strict=True):
            if not np.isnan(value):
                metrics[f"IoU/{name.replace(' ', '_')}"] = float(value)
        return metrics
