# LPLD on the same transfer.
_base_ = "../mean_teacher/cityscapes_to_bdd100k.py"
from pld_mmdet.recipes.detection import lpld

model = lpld()
