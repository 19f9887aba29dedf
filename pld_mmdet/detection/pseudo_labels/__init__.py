"""How a teacher's view becomes pseudo labels, step by step."""

from pld_mmdet.detection.pseudo_labels.batch_statistics import batch_statistics
from pld_mmdet.detection.pseudo_labels.ignore_band import SparingAssigner
from pld_mmdet.detection.pseudo_labels.labeller import (
    Labels,
    LabelStep,
    PredictBoxes,
    SelectConfident,
    SpareDoubtful,
    build_labeller,
)
from pld_mmdet.detection.pseudo_labels.missing_truth import (
    loss_of_boxes,
    silence_semantic_heads,
)
from pld_mmdet.detection.pseudo_labels.second_opinion import SecondOpinion

__all__ = [
    "LabelStep",
    "Labels",
    "PredictBoxes",
    "SecondOpinion",
    "SelectConfident",
    "SpareDoubtful",
    "SparingAssigner",
    "batch_statistics",
    "build_labeller",
    "loss_of_boxes",
    "silence_semantic_heads",
]
