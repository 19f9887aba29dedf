# 5 shot(s) of all 8 classes on FoggyStreets' clear scenes.
_base_ = "./streets_3shot.py"
from pld_mmdet.recipes.detection import train_set

train_dataloader = train_set(ann_file=_base_.stem + "_5shot_seed0.json")
