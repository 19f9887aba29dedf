# LPLD on the strong view of configs/best: colour, grey and blur, no erased rectangles.
_base_ = "./foggy_streets.py"
from pld_mmdet.recipes.detection import unerased

train_pipeline, train_dataloader = unerased(_base_.train_pipeline)
