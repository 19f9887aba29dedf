# Where all rows of design S start: the labelled branch alone, at a constant rate.
_base_ = "./streets_s_supervised.py"
from pld_mmdet.recipes import warm_up

load_from = None
how_to_get = dict(_delete_=True, data=_base_.how_to_get.data)
max_iters = 3000  # 2,000 missed the gate (docs/lab/soft_teacher.md)
train_cfg = dict(max_iters=max_iters, val_interval=1000)
param_scheduler = [warm_up(0.01, 100)]
