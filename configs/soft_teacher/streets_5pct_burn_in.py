# Where the other rows start: the 40 labelled images as the labelled branch sees them,
# from random weights, at a constant rate.
_base_ = "./streets_5pct_supervised.py"

max_iters = 1200
train_cfg = dict(max_iters=max_iters, val_interval=400)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, by_epoch=False, begin=0, end=100)
]
