# LPLD's mined boxes on top of SF-UT.
_base_ = "./foggy_cityscapes.py"
from pld_mmdet.recipes.detection import lpld

model = lpld()
