# LPLD on the same transfer.
_base_ = "../mean_teacher/kitti_to_cityscapes.py"
from pld_mmdet.recipes.detection import lpld

model = lpld()
