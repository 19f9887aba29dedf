"""Dataset distillation: few examples worth many. Importing registers it."""

from pld_mmdet.dataset_distillation.distilled import (
    DistilledPairs,
    ExportDistilledHook,
    SyntheticSet,
)
from pld_mmdet.dataset_distillation.infer import INFER
from pld_mmdet.dataset_distillation.krr_st import KRRST
from pld_mmdet.dataset_distillation.networks import DistillConvNet

__all__ = [
    "INFER",
    "KRRST",
    "DistillConvNet",
    "DistilledPairs",
    "ExportDistilledHook",
    "SyntheticSet",
]
