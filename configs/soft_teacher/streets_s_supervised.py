# The rival with labels alone: 4 labelled images an update, four times Soft Teacher's.
_base_ = "./streets_s.py"

model = dict(_delete_=True, **_base_.detector)
expected_counts = dict(train=160, val=200, test=600)
labelled = _base_.labelled
labelled.pipeline = [*_base_.labelled.pipeline[:-1], dict(type="PackDetInputs")]
train_dataloader = dict(
    _delete_=True,
    batch_size=4,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type="pld_mmdet.ResumableSampler", shuffle=True, infinite=True),
    dataset=dict(type="pld_mmdet.SeededDataset", dataset=labelled),
)
custom_hooks = [
    *_base_.custom_hooks[:-3],
    # the teacher's ramp: an equal mean until 1 / 1000
    dict(type="EMAHook", ema_type="MomentumAnnealingEMA", momentum=0.001, gamma=1),
]
