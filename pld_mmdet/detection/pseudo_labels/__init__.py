"""What Mean Teacher can do to its pseudo labels; every idea is off by default."""

from pld_mmdet.detection.pseudo_labels.batch_statistics import batch_statistics
from pld_mmdet.detection.pseudo_labels.class_thresholds import ClassThresholds
from pld_mmdet.detection.pseudo_labels.ignore_band import (
    SparingAssigner,
    mark_doubtful,
    spare_doubtful,
)
from pld_mmdet.detection.pseudo_labels.ingredients import Ingredients
from pld_mmdet.detection.pseudo_labels.loss_weights import weigh_losses
from pld_mmdet.detection.pseudo_labels.missing_truth import silence_semantic_heads
from pld_mmdet.detection.pseudo_labels.second_opinion import SecondOpinion
from pld_mmdet.detection.pseudo_labels.teacher_views import detect_in_views

__all__ = [
    "ClassThresholds",
    "Ingredients",
    "SecondOpinion",
    "SparingAssigner",
    "batch_statistics",
    "detect_in_views",
    "mark_doubtful",
    "silence_semantic_heads",
    "spare_doubtful",
    "weigh_losses",
]
