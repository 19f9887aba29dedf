# LPLD on the embedded data.
_base_ = "../_base_/recipes/sfod_streets.py"
from pld_mmdet.recipes.detection import lpld

model = lpld()
