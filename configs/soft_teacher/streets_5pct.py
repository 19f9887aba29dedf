# Soft Teacher on the embedded data: 40 labelled and 760 unlabelled clear streets. The
# method's numbers are the authors'; the detector, the batch (2 + 2) and the length are
# small. Group norm: no running statistics that would blur student against teacher.
_base_ = [
    "../_base_/runtime.py",
    "../_base_/models/faster_rcnn_r18_small.py",
    "../_base_/datasets/streets_semi.py",
]
detector = _base_.small_detector
detector.backbone.norm_cfg = dict(type="GN", num_groups=8, requires_grad=True)

model = dict(
    type="pld_mmdet.BoxJitterSoftTeacher",
    detector=detector,
    min_score=0.5,
    rpn_threshold=0.9,
    cls_threshold=0.9,
    reg_threshold=0.02,
    jitter_times=10,
    jitter_fraction=0.06,
    unsup_weight=4.0,
    predict_on="teacher",
)
# 0.999 is an average over 1000 of the authors' 180,000 iterations; of 1200 it would be
# the mean of nearly all of them, back to the random start.
custom_hooks = [
    *_base_.custom_hooks,
    dict(type="pld_mmdet.RampedEMAHook", keep=0.99, warm_up=0),
    dict(type="pld_mmdet.PseudoBoxHook", interval=20),
]

# From scratch; the length is not tuned.
train_cfg = dict(type="IterBasedTrainLoop", max_iters=1200, val_interval=400)
optim_wrapper = dict(
    type="pld_mmdet.FiniteOptimWrapper",
    optimizer=dict(type="AdamW", lr=1e-3, weight_decay=0.05),
    clip_grad=dict(max_norm=10),
)
first_drop = 800
param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, by_epoch=False, begin=0, end=100),
    dict(type="MultiStepLR", by_epoch=False, milestones=[first_drop, 1067], gamma=0.1),
]
auto_scale_lr = dict(enable=False, base_batch_size=4)
log_processor = dict(by_epoch=False)
default_hooks = dict(checkpoint=dict(by_epoch=False, interval=200, max_keep_ckpts=2))
