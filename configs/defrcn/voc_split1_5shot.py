# DeFRCN, 5 shots of all 20 classes of VOC split 1 (gFSOD).
_base_ = "./voc_split1_1shot.py"
from pld_mmdet.recipes import drops

train_dataloader = dict(
    dataset=dict(dataset=dict(ann_file=_base_.stem + "_5shot_seed0.json"))
)
train_cfg = dict(max_iters=2500, val_interval=2500)
param_scheduler = [drops(2000)]
