# The paper's own setting: the source's batch-norm statistics stay, there is no AdaBN.
_base_ = "../mean_teacher/streets_frozen_norm.py"
from pld_mmdet.recipes.detection import lpld

model = lpld()
