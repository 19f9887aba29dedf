# Source detector for Cityscapes -> Foggy Cityscapes: R50-C4 on clear images. The
# schedule is that of IRG's *_baseline configs; LPLD released none.
_base_ = [
    "../_base_/runtime.py",
    "../_base_/models/faster_rcnn_r50_c4_caffe.py",
    "../_base_/datasets/cityscapes_labelled.py",
]
from pld_mmdet.recipes import drops, optimizer, warm_up

expected_counts = dict(train=2975, val=500)

model = _base_.detector
model.backbone.init_cfg = dict(
    type="Pretrained", checkpoint="open-mmlab://detectron2/resnet50_caffe"
)
model.roi_head.shared_head.init_cfg = model.backbone.init_cfg

train_cfg = dict(type="IterBasedTrainLoop", max_iters=70000, val_interval=10000)
optim_wrapper = optimizer("SGD", 1e-3, momentum=0.9, weight_decay=1e-4)
param_scheduler = [warm_up(0.001, 1000), drops(50000)]
auto_scale_lr = dict(enable=False, base_batch_size=1)
default_hooks = dict(checkpoint=dict(by_epoch=False, interval=5000, max_keep_ckpts=2))
log_processor = dict(by_epoch=False)
