# Source-free adaptation of a detector, Cityscapes -> Foggy Cityscapes (beta 0.02):
# data, schedule and teacher of LPLD's released code (commit 61192a05), and the plainest
# method, Mean Teacher. A method of its own inherits this and names its `model`.
_base_ = [
    "../runtime.py",
    "../models/faster_rcnn_r50_c4_caffe.py",
    "../datasets/foggy_cityscapes_unlabelled.py",
]
from pld_mmdet.recipes import optimizer

load_from = "work_dirs/source/cityscapes/last.pth"
expected_counts = dict(train=2975, val=500)

model = dict(
    type="pld_mmdet.MeanTeacherSFOD",
    detector=_base_.detector,
    hpl_threshold=0.7,  # strictly above
    predict_on="teacher",  # IRG reports the teacher of the last epoch
)

train_cfg = dict(type="EpochBasedTrainLoop", max_epochs=10, val_interval=1)
optim_wrapper = optimizer("SGD", 1e-3, momentum=0.9, weight_decay=1e-4)
param_scheduler = []  # constant: the released scheduler is never stepped
auto_scale_lr = dict(enable=False, base_batch_size=1)

default_hooks = dict(checkpoint=dict(by_epoch=True, interval=1, max_keep_ckpts=2))
custom_hooks = [
    *_base_.custom_hooks,
    dict(type="pld_mmdet.TeacherEMAHook", keep=0.75, unit="epoch"),
    dict(type="pld_mmdet.PseudoBoxHook", interval=50),
]
