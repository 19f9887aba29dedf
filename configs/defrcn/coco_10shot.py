# DeFRCN, 10 shots of all 80 COCO classes (gFSOD).
_base_ = "./coco_1shot.py"
from pld_mmdet.recipes.few_shot import more_shots

train_dataloader, train_cfg, param_scheduler = more_shots(_base_.stem, 10, 6000)
