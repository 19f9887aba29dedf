"""Dataset distillation: few examples worth many. Importing registers it."""

from pld_mmdet.dataset_distillation.cv_dd import CVDD
from pld_mmdet.dataset_distillation.data.distilled import (
    DistilledPairs,
    ExportDistilledHook,
    SyntheticSet,
)
from pld_mmdet.dataset_distillation.data.stored_views import StoredViews
from pld_mmdet.dataset_distillation.hello import HeLlO
from pld_mmdet.dataset_distillation.infer import INFER
from pld_mmdet.dataset_distillation.krr_st import KRRST
from pld_mmdet.dataset_distillation.networks.convnet import DistillConvNet
from pld_mmdet.dataset_distillation.networks.label_generator import (
    LabelProjector,
    StoredNumbers,
)

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
