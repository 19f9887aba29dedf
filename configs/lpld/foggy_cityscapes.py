# LPLD, Cityscapes -> Foggy Cityscapes (beta 0.02), as in the authors' released code
# (commit 61192a05). The paper's text gives no numbers that differ from it.
_base_ = "../_base_/recipes/sfod.py"
from pld_mmdet.recipes.detection import lpld

model = lpld()
