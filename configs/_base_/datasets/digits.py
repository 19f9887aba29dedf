# scikit-learn's digits: real 8x8 images; 1077 to learn from, 360 val, 360 test.
collate = dict(type="default_collate")
train_dataloader = dict(
    batch_size=64,
    num_workers=0,
    sampler=dict(type="pld_mmdet.ResumableSampler", shuffle=True, infinite=True),
    collate_fn=collate,
    dataset=dict(type="pld_mmdet.Digits", part="train"),
)
val_dataloader = dict(
    batch_size=360,
    num_workers=0,
    sampler=dict(type="DefaultSampler", shuffle=False),
    collate_fn=collate,
    dataset=dict(type="pld_mmdet.Digits", part="val"),
)
test_dataloader = dict(
    batch_size=360,
    num_workers=0,
    sampler=dict(type="DefaultSampler", shuffle=False),
    collate_fn=collate,
    dataset=dict(type="pld_mmdet.Digits", part="test"),
)
val_evaluator = dict(type="pld_mmdet.ClassificationMetric")
test_evaluator = val_evaluator
val_cfg = dict()
test_cfg = dict()
