"""Semantic segmentation: self-training and distillation. Importing registers it."""

from pld_mmdet.segmentation.agmm import AGMM
from pld_mmdet.segmentation.data.pipelines import (
    KeepPoints,
    LoadInstanceIds,
    PackMaps,
    RandomSizedCrop,
)
from pld_mmdet.segmentation.data.pseudo_labels import (
    LoadPseudoLabels,
    PackViews,
    PasteHardClasses,
)
from pld_mmdet.segmentation.data.views import PhotoView
from pld_mmdet.segmentation.fst import FST, VirtualStepDDP
from pld_mmdet.segmentation.hiast import HIAST
from pld_mmdet.segmentation.lad import LAD
from pld_mmdet.segmentation.learners.self_training import (
    ClassMixSelfTraining,
    CutMixSelfTraining,
)
from pld_mmdet.segmentation.learners.unimatch import BlankMap, PackConsistency, UniMatch
from pld_mmdet.segmentation.mgd import MGD
from pld_mmdet.segmentation.networks.adversarial import DeepLabV2Head
from pld_mmdet.segmentation.networks.segmentors import SupervisedSegmentor
from pld_mmdet.segmentation.scores.mean_iou import MeanIoU
from pld_mmdet.segmentation.semiovs import SemiOVS

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
