# LPLD's mined boxes on top of SF-UT, on the embedded data.
_base_ = "./foggy_streets.py"
from pld_mmdet.recipes.detection import lpld

model = lpld()
