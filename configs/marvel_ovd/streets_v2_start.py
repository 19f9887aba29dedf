# Where all rows start: the method's own burn-in, base boxes and candidates of 0.9 and
# more, from random weights.
_base_ = "./streets_v2.py"
from pld_mmdet.recipes.streets import warmed_cosine

load_from = None
how_to_get = dict(checkpoint=None)
train_dataloader = dict(batch_size=4)
max_iters = 1501
train_cfg = dict(max_iters=max_iters, val_interval=max_iters)
optim_wrapper = dict(optimizer=dict(lr=1e-3))
param_scheduler = warmed_cosine(max_iters)
auto_scale_lr = dict(base_batch_size=4)
