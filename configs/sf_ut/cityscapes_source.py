# Source detector of SF-UT's R101 setting (r_101_c4_cs_source.yaml): batch norm alive.
# 26000 iterations, because the released adaptation loads that checkpoint.
_base_ = "../source/cityscapes.py"
from pld_mmdet.recipes import optimizer, warm_up
from pld_mmdet.recipes.detectors import r101_c4

model = r101_c4()
model["backbone"]["init_cfg"] = dict(
    checkpoint="open-mmlab://detectron2/resnet101_caffe"
)

train_dataloader = dict(batch_size=4)
train_cfg = dict(max_iters=26000, val_interval=2000)
optim_wrapper = optimizer(
    "SGD",
    0.04,
    momentum=0.9,
    weight_decay=1e-4,
    paramwise_cfg=dict(norm_decay_mult=0.0),
)
param_scheduler = [warm_up(0.001, 1000)]
auto_scale_lr = dict(base_batch_size=4)
default_hooks = dict(checkpoint=dict(interval=2000))
