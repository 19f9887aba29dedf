# Where the other rows start: the 40 labelled images with the strong view's changes,
# from random weights, at a constant rate.
_base_ = "./streets_5pct_supervised.py"

strong_labelled = _base_.labelled
strong_labelled.pipeline = [
    _base_.load,
    dict(type="LoadAnnotations", with_bbox=True),
    _base_.resize,
    *_base_.strong_view,
    dict(type="FilterAnnotations", min_gt_bbox_wh=(1, 1)),
    dict(type="PackDetInputs"),
]
train_dataloader = dict(dataset=dict(dataset=strong_labelled))
max_iters = 1200
train_cfg = dict(max_iters=max_iters, val_interval=400)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, by_epoch=False, begin=0, end=100)
]
