"""What a trivial rival says of a list of samples."""

import torch
from mmengine.config import Config
from mmengine.evaluator import BaseMetric
from torch.utils.data import Dataset

from pld_mmdet.registry import DATASETS, METRICS
from pld_mmdet.shared.baselines import evaluate


@METRICS.register_module(force=True)
class Kept(BaseMetric):
    """All that was told, as it came."""

    default_prefix = None

    def process(self, data_batch, data_samples):
        self.results += data_samples

    def compute_metrics(self, results):
        return {"told": results}


def told(dataset, baseline, seed=0, **more):
    cfg = Config(
        dict(
            test_dataloader=dict(dataset=dataset),
            test_evaluator=dict(type="pld_mmdet.Kept"),
            **more,
        )
    )
    return evaluate(cfg, baseline, seed)["told"]


@DATASETS.register_module(force=True)
class Listed(Dataset):
    """The samples that it is given, and the first of them as its labelled part."""

    metainfo = {"classes": ("no", "yes")}

    def __init__(self, samples):
        self.samples = samples

    def __len__(self):
        return len(self.samples)

    def __getitem__(self, index):
        texts = {"text", "concept"}
        found = dict(self.samples[index])
        return {k: v if k in texts else torch.tensor(v) for k, v in found.items()}

    @property
    def first_half(self):
        return Listed(self.samples[: len(self) // 2])


def listed(*samples):
    return dict(type="pld_mmdet.Listed", samples=list(samples))
