# Soft Teacher on the embedded data: 40 labelled and 760 unlabelled clear streets. The
# method's numbers are the authors' unless said; the detector, the batch (2 + 2) and the
# length are small. Group norm: no running statistics that would blur student against
# teacher. `tools/reproduce.py` on this file runs the whole table.
#
# It starts from the labelled images alone (streets_5pct_burn_in.py, 1200 iterations):
# from random weights the teacher of seed 0 had no box above 0.9 in 360 iterations and
# none above 0.5 in 340.
_base_ = [
    "../_base_/runtime.py",
    "../_base_/models/faster_rcnn_r18_small.py",
    "../_base_/datasets/streets_semi.py",
    "../_base_/experiments/streets_semi.py",
]
from pld_mmdet.recipes import drops, optimizer, warm_up

how_to_get = dict(
    data=_base_.how_to_get.data,
    checkpoint="python tools/train.py configs/soft_teacher/streets_5pct_burn_in.py",
)
load_from = "work_dirs/soft_teacher/streets_5pct_burn_in/last.pth"
detector = _base_.small_detector
detector.backbone.norm_cfg = dict(type="GN", num_groups=8, requires_grad=True)

model = dict(
    type="pld_mmdet.BoxJitterSoftTeacher",
    detector=detector,
    min_score=0.5,
    rpn_threshold=0.9,
    cls_threshold=0.9,
    # Authors: 0.02. Of 314 boxes that a supervised detector found on 100 images of val,
    # 1 was that steady (20 pixels jitter by one); 83 were steadier than 0.04.
    reg_threshold=0.04,
    jitter_times=10,
    jitter_fraction=0.06,
    unsup_weight=1.0,  # 1:1, so an unlabelled image weighs as much as a labelled one
    predict_on="teacher",
)
# 0.999 is an average over 1000 of the authors' 180,000 iterations; of 270 it would be
# the mean of all of them.
custom_hooks = [
    *_base_.custom_hooks,
    dict(type="pld_mmdet.RampedEMAHook", keep=0.99, warm_up=0),
    dict(type="pld_mmdet.PseudoBoxHook", interval=20),
    dict(
        type="pld_mmdet.PseudoTruthHook",  # measures; nothing learns from it
        ann_file=_base_.data_root + "annotations/train.json",
        interval=30,
    ),
]

# Two cores have to train 27 such runs in an hour and a half; the length is not tuned.
# The rate drops after the same shares as the authors' (120 and 160 of 180 thousand).
max_iters = 270
first_drop = 180
train_cfg = dict(type="IterBasedTrainLoop", max_iters=max_iters, val_interval=90)
optim_wrapper = optimizer("AdamW", 1e-3, weight_decay=0.05, clip=10)
param_scheduler = [warm_up(0.01, 30), drops(first_drop, 240)]
auto_scale_lr = dict(enable=False, base_batch_size=4)
log_processor = dict(by_epoch=False)
default_hooks = dict(checkpoint=dict(by_epoch=False, interval=90, max_keep_ckpts=2))
