"""Detection: wrappers around stock mmdet detectors, their data views and metric."""

from pld_mmdet.detection.datasets import ImageFolder
from pld_mmdet.detection.dual_polish import DualPolishTeacher
from pld_mmdet.detection.lpld import LPLD
from pld_mmdet.detection.mean_teacher import MeanTeacherSFOD
from pld_mmdet.detection.metrics import AP50Metric
from pld_mmdet.detection.soft_teacher import BoxJitterSoftTeacher
from pld_mmdet.detection.transforms import (
    RandomColorJitter,
    RandomEraseNoise,
    RandomGaussianBlur,
    RandomGrayscale,
)

__all__ = [
    "LPLD",
    "AP50Metric",
    "BoxJitterSoftTeacher",
    "DualPolishTeacher",
    "ImageFolder",
    "MeanTeacherSFOD",
    "RandomColorJitter",
    "RandomEraseNoise",
    "RandomGaussianBlur",
    "RandomGrayscale",
]
