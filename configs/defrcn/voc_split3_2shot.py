# DeFRCN, 2 shots of all 20 classes of VOC split 3 (gFSOD).
_base_ = "./voc_split3_1shot.py"

train_dataloader = dict(
    dataset=dict(dataset=dict(ann_file=_base_.stem + "_2shot_seed0.json"))
)
train_cfg = dict(max_iters=1500, val_interval=1500)
param_scheduler = [
    dict(type="MultiStepLR", by_epoch=False, milestones=[1200], gamma=0.1)
]
