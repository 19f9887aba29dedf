# DeFRCN, 10 shots of all 20 classes of VOC split 2 (gFSOD).
_base_ = "./voc_split2_1shot.py"
from pld_mmdet.recipes.few_shot import more_shots

train_dataloader, train_cfg, param_scheduler = more_shots(_base_.stem, 10, 4000)
