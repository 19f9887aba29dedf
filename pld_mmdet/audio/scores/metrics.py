"""What two linear readers find in a frozen speech encoder."""

from collections.abc import Sequence

import torch
from mmengine.evaluator import BaseMetric

from pld_mmdet.registry import METRICS


@METRICS.register_module()
class SpeechProbeMetric(BaseMetric):
    """Accuracy of the topic of utterances, and of the unit of frames (fractions)."""

    default_prefix = None

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        """Keep right and wrong of a batch."""
        for sample in data_samples:
            topic = sample["logits"].argmax(-1) == sample["targets"]
            both = topic.float().cpu(), sample["unit_correct"].float().cpu()
            self.results.append([part.numpy() for part in both])

    def compute_metrics(self, results: list) -> dict[str, float]:
        """``accuracy`` (topics) and ``unit_accuracy``."""
        parts = zip(*results, strict=True)
        topic, unit = (
            float(torch.cat([torch.as_tensor(x) for x in part]).double().mean())
            for part in parts
        )
        return {"accuracy": topic, "unit_accuracy": unit}
