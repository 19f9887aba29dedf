# Plain Mean Teacher: LPLD's baseline, the same recipe without the mined boxes.
_base_ = "../lpld/kitti_to_cityscapes.py"
from pld_mmdet.recipes.detection import mean_teacher

model = mean_teacher(_base_.model.detector)
