# DeFRCN, 3 shots of all 20 classes of VOC split 3 (gFSOD).
_base_ = "./voc_split3_1shot.py"
from pld_mmdet.recipes import drops

train_dataloader = dict(
    dataset=dict(dataset=dict(ann_file=_base_.stem + "_3shot_seed0.json"))
)
train_cfg = dict(max_iters=2000, val_interval=2000)
param_scheduler = [drops(1600)]
