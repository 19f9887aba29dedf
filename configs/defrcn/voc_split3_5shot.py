# DeFRCN, 5 shots of all 20 classes of VOC split 3 (gFSOD).
_base_ = "./voc_split3_1shot.py"
from pld_mmdet.recipes import few_shot
from pld_mmdet.recipes.detection import train_set

train_dataloader = train_set(ann_file=_base_.stem + "_5shot_seed0.json")
train_cfg, param_scheduler = few_shot.length(2500)
