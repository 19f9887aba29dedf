# Plain Mean Teacher: LPLD's baseline, the same recipe without the mined boxes.
_base_ = "../lpld/voc_to_watercolor.py"
from pld_mmdet.recipes.detection import mean_teacher

model = mean_teacher(_base_.model.detector)
