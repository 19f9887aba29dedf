# Eight Gaussians on a circle, generated; val and test are other points of them.
collate = dict(type="default_collate")
train_dataloader = dict(
    batch_size=512,
    num_workers=0,
    sampler=dict(type="pld_mmdet.ResumableSampler", shuffle=True, infinite=True),
    collate_fn=collate,
    dataset=dict(type="pld_mmdet.GaussianRing", part="train", size=16384),
)
val_dataloader = dict(
    batch_size=2048,
    num_workers=0,
    sampler=dict(type="DefaultSampler", shuffle=False),
    collate_fn=collate,
    dataset=dict(type="pld_mmdet.GaussianRing", part="val", size=2048),
)
test_dataloader = dict(
    batch_size=8192,
    num_workers=0,
    sampler=dict(type="DefaultSampler", shuffle=False),
    collate_fn=collate,
    dataset=dict(type="pld_mmdet.GaussianRing", part="test", size=8192),
)
val_evaluator = dict(type="pld_mmdet.EnergyDistance")
test_evaluator = val_evaluator
val_cfg = dict()
test_cfg = dict()
