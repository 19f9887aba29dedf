"""Detection: wrappers around stock mmdet detectors, their data views and metric."""

from pld_mmdet.detection.data.image_folder import ImageFolder
from pld_mmdet.detection.data.views import (
    RandomColorJitter,
    RandomEraseNoise,
    RandomGaussianBlur,
    RandomGrayscale,
)
from pld_mmdet.detection.detectors.defrcn import (
    DecoupledRoIExtractor,
    DecoupledRPNHead,
    DropoutLinear,
    FrozenResLayer,
)
from pld_mmdet.detection.detectors.stock_soft_teacher import SoftTeacher
from pld_mmdet.detection.detectors.vgg import VGG16
from pld_mmdet.detection.dual_polish import DualPolishTeacher
from pld_mmdet.detection.evaluation.ap50 import AP50Metric
from pld_mmdet.detection.evaluation.box_quality import BoxQualityMetric
from pld_mmdet.detection.evaluation.ceilings import CeilingMeanTeacher
from pld_mmdet.detection.evaluation.groups import GroupAP50Metric
from pld_mmdet.detection.evaluation.pseudo_truth import PseudoTruthHook
from pld_mmdet.detection.evaluation.scores import (
    BoxStability,
    DetectionAdaptationScore,
    ViewAgreement,
)
from pld_mmdet.detection.hooks import (
    AdaBNHook,
    CollapseGuardHook,
    PseudoBoxHook,
    ScoreAtStartHook,
)
from pld_mmdet.detection.loops import AdaBNLoop, ScoredValLoop
from pld_mmdet.detection.lpld import LPLD
from pld_mmdet.detection.marvel_ovd import MarvelOVD
from pld_mmdet.detection.mean_teacher import MeanTeacherSFOD
from pld_mmdet.detection.open_vocabulary.candidates import (
    CandidateCocoDataset,
    LoadBoxExtras,
    PackCandidates,
)
from pld_mmdet.detection.open_vocabulary.text_classifier import TextEmbeddingClassifier
from pld_mmdet.detection.ps_ttl import PSTTL
from pld_mmdet.detection.soft_teacher import BoxJitterSoftTeacher

__all__ = [
    "LPLD",
    "PSTTL",
    "VGG16",
    "AP50Metric",
    "AdaBNHook",
    "AdaBNLoop",
    "BoxJitterSoftTeacher",
    "BoxQualityMetric",
    "BoxStability",
    "CandidateCocoDataset",
    "CeilingMeanTeacher",
    "CollapseGuardHook",
    "DecoupledRPNHead",
    "DecoupledRoIExtractor",
    "DetectionAdaptationScore",
    "DropoutLinear",
    "DualPolishTeacher",
    "FrozenResLayer",
    "GroupAP50Metric",
    "ImageFolder",
    "LoadBoxExtras",
    "MarvelOVD",
    "MeanTeacherSFOD",
    "PackCandidates",
    "PseudoBoxHook",
    "PseudoTruthHook",
    "RandomColorJitter",
    "RandomEraseNoise",
    "RandomGaussianBlur",
    "RandomGrayscale",
    "ScoreAtStartHook",
    "ScoredValLoop",
    "SoftTeacher",
    "TextEmbeddingClassifier",
    "ViewAgreement",
]
