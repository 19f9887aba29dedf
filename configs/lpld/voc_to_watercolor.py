# LPLD on the same transfer.
_base_ = "../mean_teacher/voc_to_watercolor.py"
from pld_mmdet.recipes.detection import lpld

model = lpld()
