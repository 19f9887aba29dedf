# SF-UT, Cityscapes -> Foggy Cityscapes (beta 0.02), as r101_c4_cs_foggy_adaptive_
# teacher_source_free.yaml of the release (commit ee245948), with the EMA that makes it
# a Mean Teacher and that the released trainer has commented out. See docs/sf_ut.md.
_base_ = "../_base_/recipes/sfod.py"
from pld_mmdet.recipes import optimizer, warm_up
from pld_mmdet.recipes.detection import batch_labeller, swapped
from pld_mmdet.recipes.detectors import r101_c4

load_from = "work_dirs/sf_ut/cityscapes_source/last.pth"
how_to_get = dict(checkpoint="python tools/train.py configs/sf_ut/cityscapes_source.py")

model = dict(
    detector=r101_c4(),
    hpl_threshold=0.8,  # strictly above; all four losses learn from these boxes
    labeller=batch_labeller(),  # the released teacher is never in evaluation mode
)

flip = dict(type="RandomFlip", prob=0.5)  # once: both views are mirrored or none
train_pipeline = [*_base_.train_pipeline[:-1], flip, _base_.train_pipeline[-1]]
train_dataloader = dict(
    sampler=dict(infinite=True), dataset=dict(dataset=dict(pipeline=train_pipeline))
)

train_cfg = dict(
    _delete_=True, type="IterBasedTrainLoop", max_iters=50000, val_interval=2000
)
optim_wrapper = optimizer(
    "SGD",
    0.0025,
    momentum=0.9,
    weight_decay=1e-4,
    paramwise_cfg=dict(norm_decay_mult=0.0),
)
# Their steps begin at 60000: the rate stays constant.
param_scheduler = [warm_up(0.001, 1000)]

default_hooks = dict(checkpoint=dict(by_epoch=False, interval=2000, max_keep_ckpts=2))
log_processor = dict(by_epoch=False)
custom_hooks = swapped(
    _base_.custom_hooks,
    dict(type="pld_mmdet.TeacherEMAHook", keep=0.9996, unit="iter"),
)
