# DeFRCN, base training on VOC split 1 (configs/voc/defrcn_det_r101_base1.yaml of commit
# d07c3dff): 15 base classes, 15000 iterations of 16 images.
_base_ = [
    "../_base_/runtime.py",
    "../_base_/models/defrcn_r101_c4_caffe.py",
    "../_base_/datasets/fewshot_labelled.py",
]
from pld_mmdet.recipes import drops, optimizer, warm_up

model = _base_.detector

train_cfg = dict(type="IterBasedTrainLoop", max_iters=15000, val_interval=15000)
optim_wrapper = optimizer("SGD", 0.02, momentum=0.9, weight_decay=5e-5)
param_scheduler = [warm_up(0.001, 100), drops(10000, 13300)]
auto_scale_lr = dict(enable=False, base_batch_size=16)
default_hooks = dict(checkpoint=dict(by_epoch=False, interval=1000, max_keep_ckpts=2))
log_processor = dict(by_epoch=False)
