"""Metrics of the methods outside detection."""

from collections.abc import Sequence

import numpy as np
import torch
from mmengine.evaluator import BaseMetric

from pld_mmdet.errors import UserError
from pld_mmdet.registry import METRICS


@METRICS.register_module()
class ClassificationMetric(BaseMetric):
    """Accuracy, plain and class-balanced, negative log-likelihood, calibration error.

    Reads ``logits`` [N, C] and ``targets`` [N] of a prediction. The expected
    calibration error uses equal-width bins of the largest probability (Guo et al.
    2017). The balanced accuracy is the mean over the classes that occur of the share
    of their samples that are right. All are fractions or nats, not percent.

    Args:
        bins: Bins of the calibration error [15].

    Raises:
        UserError: A label that is none of the C classes.
    """

    default_prefix = None

    def __init__(self, bins: int = 15, **kwargs) -> None:
        super().__init__(**kwargs)
        self.bins = bins

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        """Keep what the numbers need of a batch."""
        for sample in data_samples:
            logits, targets = sample["logits"].float().cpu(), sample["targets"].cpu()
            low, high = (int(edge(targets)) for edge in (torch.min, torch.max))
            if not 0 <= low <= high < logits.shape[-1]:
                raise UserError(
                    f"ClassificationMetric: labels {low} to {high}, and the model has "
                    f"{logits.shape[-1]} classes.",
                    "Give the data labels from 0 on, or the model as many classes "
                    "(num_classes).",
                )
            log_p = logits.log_softmax(-1)
            top, label = log_p.max(-1)
            nll = -log_p.gather(1, targets[:, None]).squeeze(1)
            right = (label == targets).float()
            columns = [top.exp(), right, nll, targets.float()]
            self.results.append(torch.stack(columns, 1).numpy())

    def compute_metrics(self, results: list[np.ndarray]) -> dict[str, float]:
        """``accuracy``, ``balanced_accuracy``, ``ece`` and ``nll`` over all samples."""
        confidence, correct, nll, targets = np.concatenate(results).astype(np.float64).T
        return {
            "accuracy": float(correct.mean()),
            "balanced_accuracy": balanced_accuracy(correct, targets),
            "ece": calibration_error(confidence, correct, self.bins),
            "nll": float(nll.mean()),
        }


def calibration_error(
    confidence: np.ndarray, correct: np.ndarray, bins: int = 15
) -> float:
    """Expected calibration error over bins of equal width (Guo et al. 2017).

    Args:
        confidence: [N] largest probabilities, N > 0.
        correct: [N], 1 where the answer is right.
        bins: How many.
    """
    place = np.ceil(confidence * bins).clip(1, bins).astype(int) - 1
    gaps = np.bincount(place, confidence - correct, minlength=bins)
    return float(np.abs(gaps).sum() / len(correct))


def balanced_accuracy(correct: np.ndarray, targets: np.ndarray) -> float:
    """Mean over the classes that occur of the share of right answers in each.

    Args:
        correct: [N], whether an answer is right.
        targets: [N] labels, N > 0.
    """
    _, place, counts = np.unique(targets, return_inverse=True, return_counts=True)
    return float((np.bincount(place, weights=correct) / counts).mean())
