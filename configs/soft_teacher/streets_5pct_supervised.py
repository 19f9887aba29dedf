# The baseline: the same 40 labelled images, 2 an update, and nothing else. From random
# weights, for as many updates as burn-in and continuation have together. Its result is
# an average of its past with the teacher's rate, so that an EMA is no method's gain.
_base_ = "./streets_5pct.py"
from pld_mmdet.recipes import drops, warm_up
from pld_mmdet.recipes.detection import to_train, without

load_from = None
how_to_get = dict(_delete_=True, data=_base_.how_to_get.data)
max_iters = 1470
train_cfg = dict(max_iters=max_iters, val_interval=490)
param_scheduler = [warm_up(0.01, 100), drops(1380, 1440)]

model = dict(_delete_=True, **_base_.detector)
expected_counts = dict(train=40, val=200, test=600)
plain_view = [
    _base_.load,
    dict(type="LoadAnnotations", with_bbox=True),
    _base_.resize,
    _base_.flip,
    _base_.color,
    dict(type="PackDetInputs"),
]
labelled = _base_.labelled
labelled.pipeline = plain_view
train_dataloader = to_train(labelled, 2, workers=1, _delete_=True)
auto_scale_lr = dict(enable=False, base_batch_size=2)
custom_hooks = [
    *without(_base_.custom_hooks, "RampedEMAHook", "PseudoBoxHook", "PseudoTruthHook"),
    dict(type="EMAHook", momentum=0.01),  # mmengine's: 1 - keep
]
