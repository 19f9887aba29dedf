"""Dataset distillation: few examples worth many. Importing registers it."""

from pld_mmdet.dataset_distillation.cv_dd import CVDD
from pld_mmdet.dataset_distillation.distilled import (
    DistilledPairs,
    ExportDistilledHook,
    SyntheticSet,
)
from pld_mmdet.dataset_distillation.hello import HeLlO
from pld_mmdet.dataset_distillation.infer import INFER
from pld_mmdet.dataset_distillation.krr_st import KRRST
from pld_mmdet.dataset_distillation.label_generator import (
    LabelProjector,
    StoredNumbers,
)
from pld_mmdet.dataset_distillation.networks import DistillConvNet
from pld_mmdet.dataset_distillation.stored_views import StoredViews

__all__ = [
    "CVDD",
    "INFER",
    "KRRST",
    "DistillConvNet",
    "DistilledPairs",
    "ExportDistilledHook",
    "HeLlO",
    "LabelProjector",
    "StoredNumbers",
    "StoredViews",
    "SyntheticSet",
]
