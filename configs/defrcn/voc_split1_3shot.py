# DeFRCN, 3 shots of all 20 classes of VOC split 1 (gFSOD).
_base_ = "./voc_split1_1shot.py"
from pld_mmdet.recipes.few_shot import more_shots

train_dataloader, train_cfg, param_scheduler = more_shots(_base_.stem, 3, 2000)
