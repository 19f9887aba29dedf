# The rival with labels alone: 4 labelled images an update, four times Soft Teacher's.
_base_ = "./streets_s.py"
from pld_mmdet.recipes.detection import to_train, without

model = dict(_delete_=True, **_base_.detector)
expected_counts = dict(train=160, val=200, test=600)
labelled = _base_.labelled
labelled.pipeline = [*_base_.labelled.pipeline[:-1], dict(type="PackDetInputs")]
train_dataloader = to_train(labelled, 4, workers=1, _delete_=True)
custom_hooks = [
    *without(_base_.custom_hooks, "RampedEMAHook", "PseudoBoxHook", "PseudoTruthHook"),
    # the teacher's ramp: an equal mean until 1 / 1000
    dict(type="EMAHook", ema_type="MomentumAnnealingEMA", momentum=0.001, gamma=1),
]
