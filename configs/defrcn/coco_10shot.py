# DeFRCN, 10 shots of all 80 COCO classes (gFSOD).
_base_ = "./coco_1shot.py"
from pld_mmdet.recipes import few_shot
from pld_mmdet.recipes.detection import train_set

train_dataloader = train_set(ann_file=_base_.stem + "_10shot_seed0.json")
train_cfg, param_scheduler = few_shot.length(6000)
