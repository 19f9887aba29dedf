# SF-UT on the embedded data. Against foggy_cityscapes.py: data, detector, batch 4 and
# 400 iterations of our other rows, their EMA (0.9996 would leave 85 % of the source
# after 400 steps), and a warm-up of the same share of the run (2 %). No AdaBN hook:
# batch norm is alive in both networks and adapts while they learn.
_base_ = "../mean_teacher/foggy_streets.py"
from pld_mmdet.recipes import warm_up
from pld_mmdet.recipes.detection import batch_labeller, without

model = dict(
    detector=dict(backbone=dict(norm_eval=False)),
    hpl_threshold=0.8,
    labeller=batch_labeller(),
)

flip = dict(type="RandomFlip", prob=0.5)
train_pipeline = [*_base_.train_pipeline[:-1], flip, _base_.train_pipeline[-1]]
train_dataloader = dict(dataset=dict(dataset=dict(pipeline=train_pipeline)))

optim_wrapper = dict(optimizer=dict(lr=0.0025), paramwise_cfg=dict(norm_decay_mult=0.0))
param_scheduler = [warm_up(0.001, 8)]
custom_hooks = without(_base_.custom_hooks, "AdaBNHook")
