"""Semantic segmentation: self-training and distillation. Importing registers it."""

from pld_mmdet.segmentation.agmm import AGMM
from pld_mmdet.segmentation.data import (
    KeepPoints,
    LoadInstanceIds,
    PackMaps,
    RandomSizedCrop,
)
from pld_mmdet.segmentation.fst import FST, VirtualStepDDP
from pld_mmdet.segmentation.hiast import HIAST
from pld_mmdet.segmentation.lad import LAD
from pld_mmdet.segmentation.metric import MeanIoU
from pld_mmdet.segmentation.mgd import MGD
from pld_mmdet.segmentation.networks import DeepLabV2Head
from pld_mmdet.segmentation.pseudo_labels import (
    LoadPseudoLabels,
    PackViews,
    PasteHardClasses,
)
from pld_mmdet.segmentation.segmentors import SupervisedSegmentor
from pld_mmdet.segmentation.self_training import (
    ClassMixSelfTraining,
    CutMixSelfTraining,
)
from pld_mmdet.segmentation.semiovs import SemiOVS
from pld_mmdet.segmentation.unimatch import BlankMap, PackConsistency, UniMatch
from pld_mmdet.segmentation.views import PhotoView

__all__ = [
    "AGMM",
    "FST",
    "HIAST",
    "LAD",
    "MGD",
    "BlankMap",
    "ClassMixSelfTraining",
    "CutMixSelfTraining",
    "DeepLabV2Head",
    "KeepPoints",
    "LoadInstanceIds",
    "LoadPseudoLabels",
    "MeanIoU",
    "PackConsistency",
    "PackMaps",
    "PackViews",
    "PasteHardClasses",
    "PhotoView",
    "RandomSizedCrop",
    "SemiOVS",
    "SupervisedSegmentor",
    "UniMatch",
    "VirtualStepDDP",
]
