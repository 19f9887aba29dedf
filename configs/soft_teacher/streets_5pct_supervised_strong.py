# The rival that is easily forgotten: only labels, but with the strong view's changes.
# It goes on from the same burn-in as the semi-supervised rows, for as many updates.
_base_ = "./streets_5pct_burn_in.py"
from pld_mmdet.recipes import drops, warm_up

load_from = "work_dirs/soft_teacher/streets_5pct_burn_in/last.pth"
how_to_get = dict(
    checkpoint="python tools/train.py configs/soft_teacher/streets_5pct_burn_in.py"
)
strong_labelled = _base_.labelled
strong_labelled.pipeline = [
    _base_.load,
    dict(type="LoadAnnotations", with_bbox=True),
    *_base_.strong_view,
    dict(type="FilterAnnotations", min_gt_bbox_wh=(1, 1)),
    dict(type="PackDetInputs"),
]
train_dataloader = dict(dataset=dict(dataset=strong_labelled))
max_iters = 270
train_cfg = dict(max_iters=max_iters, val_interval=90)
param_scheduler = [warm_up(0.01, 30), drops(180, 240)]
