# Where the other rows start: the 40 labelled images as the labelled branch sees them,
# from random weights, at a constant rate.
_base_ = "./streets_5pct_supervised.py"
from pld_mmdet.recipes import warm_up

max_iters = 1200
train_cfg = dict(max_iters=max_iters, val_interval=400)
param_scheduler = [warm_up(0.01, 100)]
