"""Detection: wrappers around stock mmdet detectors, their data views and metric."""

from pld_mmdet.detection.candidates import (
    CandidateCocoDataset,
    LoadBoxExtras,
    PackCandidates,
)
from pld_mmdet.detection.datasets import ImageFolder
from pld_mmdet.detection.defrcn import (
    DecoupledRoIExtractor,
    DecoupledRPNHead,
    DropoutLinear,
    FrozenResLayer,
)
from pld_mmdet.detection.dual_polish import DualPolishTeacher
from pld_mmdet.detection.group_metrics import GroupAP50Metric
from pld_mmdet.detection.lpld import LPLD
from pld_mmdet.detection.marvel_ovd import MarvelOVD
from pld_mmdet.detection.mean_teacher import MeanTeacherSFOD
from pld_mmdet.detection.metrics import AP50Metric
from pld_mmdet.detection.ps_ttl import PSTTL
from pld_mmdet.detection.pseudo_truth import PseudoTruthHook
from pld_mmdet.detection.scores import (
    BoxStability,
    DetectionAdaptationScore,
    ViewAgreement,
)
from pld_mmdet.detection.soft_teacher import BoxJitterSoftTeacher
from pld_mmdet.detection.text_classifier import TextEmbeddingClassifier
from pld_mmdet.detection.transforms import (
    RandomColorJitter,
    RandomEraseNoise,
    RandomGaussianBlur,
    RandomGrayscale,
)
from pld_mmdet.detection.vgg import VGG16

__all__ = [
    "LPLD",
    "PSTTL",
    "VGG16",
    "AP50Metric",
    "BoxJitterSoftTeacher",
    "BoxStability",
    "CandidateCocoDataset",
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
    "PseudoTruthHook",
    "RandomColorJitter",
    "RandomEraseNoise",
    "RandomGaussianBlur",
    "RandomGrayscale",
    "TextEmbeddingClassifier",
    "ViewAgreement",
]
