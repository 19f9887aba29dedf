# The baseline: the same 40 labelled images, 2 an update, and nothing else.
_base_ = "./streets_5pct.py"

model = dict(_delete_=True, **_base_.detector)
expected_counts = dict(train=40, val=200, test=200)
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
train_dataloader = dict(
    _delete_=True,
    batch_size=2,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type="pld_mmdet.ResumableSampler", shuffle=True, infinite=True),
    dataset=dict(type="pld_mmdet.SeededDataset", dataset=labelled),
)
auto_scale_lr = dict(enable=False, base_batch_size=2)
custom_hooks = [
    h
    for h in _base_.custom_hooks
    if h.type not in ("pld_mmdet.RampedEMAHook", "pld_mmdet.PseudoBoxHook")
]
