# LPLD, Cityscapes -> Foggy Cityscapes (beta 0.02), as in the authors' released code
# (commit 61192a05). The paper's text gives no numbers that differ from it.
_base_ = [
    "../_base_/runtime.py",
    "../_base_/models/faster_rcnn_r50_c4_caffe.py",
    "../_base_/datasets/foggy_cityscapes_unlabelled.py",
]
from pld_mmdet.recipes import optimizer

load_from = "work_dirs/source/cityscapes/last.pth"
expected_counts = dict(train=2975, val=500)

model = dict(
    type="pld_mmdet.LPLD",
    detector=_base_.detector,
    hpl_threshold=0.7,  # strictly above
    lpl_max_iou=0.4,
    lpl_min_certainty=0.9,
    lpl_max_background=0.99,
    lpl_loss_weight=0.1,
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
