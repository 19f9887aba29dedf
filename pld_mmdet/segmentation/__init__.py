"""Semantic segmentation: self-training and distillation. Importing registers it."""

from pld_mmdet.segmentation.data import LoadInstanceIds, PackMaps, RandomSizedCrop
from pld_mmdet.segmentation.fst import FST, VirtualStepDDP
from pld_mmdet.segmentation.hiast import HIAST
from pld_mmdet.segmentation.metric import MeanIoU
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

__all__ = [
    "FST",
    "HIAST",
    "ClassMixSelfTraining",
    "CutMixSelfTraining",
    "DeepLabV2Head",
    "LoadInstanceIds",
    "LoadPseudoLabels",
    "MeanIoU",
    "PackMaps",
    "PackViews",
    "PasteHardClasses",
    "RandomSizedCrop",
    "SupervisedSegmentor",
    "VirtualStepDDP",
]
