# LPLD's own setting (no AdaBN, no erased rectangles) without the mined boxes.
_base_ = "./foggy_streets_no_adabn.py"
from pld_mmdet.recipes.detection import unerased

train_pipeline, train_dataloader = unerased(_base_.train_pipeline)
