# Soft Teacher with 10 % of COCO's labels, as in the authors' released configs (8 GPUs
# of 5 images). They train in fp16: add --amp fp16. Folds 2-5: FOLD=2 python
# tools/train.py ... --work-dir ...; papers report the mean of five.
_base_ = [
    "../_base_/runtime.py",
    "../_base_/models/faster_rcnn_r50_fpn_caffe.py",
    "../_base_/datasets/coco_semi.py",
]
from pld_mmdet.recipes import drops, optimizer, warm_up
from pld_mmdet.recipes.detection import share_of_coco

fold = "{{$FOLD:1}}"
labelled, unlabelled, train_dataloader = share_of_coco(_base_, fold, 10)

model = dict(
    type="pld_mmdet.BoxJitterSoftTeacher",
    detector=_base_.detector,
    min_score=0.5,  # strictly above, like the next two
    rpn_threshold=0.9,
    cls_threshold=0.9,
    reg_threshold=0.02,  # strictly below
    jitter_times=10,
    jitter_fraction=0.06,
    sup_weight=1.0,
    unsup_weight=4.0,
    predict_on="student",  # mmdet's port: teacher; at the end they should agree
)

max_iters = 180000
train_cfg = dict(type="IterBasedTrainLoop", max_iters=max_iters, val_interval=4000)
optim_wrapper = optimizer("SGD", 0.01, momentum=0.9, weight_decay=1e-4)
param_scheduler = [warm_up(0.001, 500), drops(120000, 160000)]
auto_scale_lr = dict(enable=False, base_batch_size=40)
log_processor = dict(by_epoch=False)
default_hooks = dict(checkpoint=dict(by_epoch=False, interval=4000, max_keep_ckpts=2))
custom_hooks = [
    *_base_.custom_hooks,
    dict(type="pld_mmdet.RampedEMAHook", keep=0.999, warm_up=0),
    dict(type="pld_mmdet.PseudoBoxHook", interval=50),
]
