# Source detector on photographs: AdamW, 700 updates of 8 images, ImageNet's norms kept.
_base_ = [
    "../_base_/runtime.py",
    "../_base_/models/faster_rcnn_lite0.py",
    "../_base_/datasets/cutouts.py",
]
from pld_mmdet.recipes import optimizer
from pld_mmdet.recipes.streets import warmed_cosine

how_to_get = dict(
    data="python tools/prepare.py cutouts",
    weights="python tools/prepare.py efficientnet_lite0",
)
model = _base_.lite0

train_cfg = dict(type="IterBasedTrainLoop", max_iters=700, val_interval=350)
optim_wrapper = optimizer("AdamW", 1e-3, weight_decay=0.05, clip=10)
param_scheduler = warmed_cosine(700, 70)
auto_scale_lr = dict(enable=False, base_batch_size=8)
default_hooks = dict(checkpoint=dict(by_epoch=False, interval=350, max_keep_ckpts=2))
log_processor = dict(by_epoch=False)
