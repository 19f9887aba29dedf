# DeFRCN, 10 shots of all 80 COCO classes (gFSOD).
_base_ = "./coco_1shot.py"
from pld_mmdet.recipes import drops

train_dataloader = dict(
    dataset=dict(dataset=dict(ann_file=_base_.stem + "_10shot_seed0.json"))
)
train_cfg = dict(max_iters=6000, val_interval=6000)
param_scheduler = [drops(4800)]
