# LPLD's own setting (no AdaBN, no erased rectangles) without the mined boxes.
_base_ = "../lpld/streets_frozen_norm.py"
from pld_mmdet.recipes.detection import mean_teacher

model = mean_teacher(_base_.model.detector)
