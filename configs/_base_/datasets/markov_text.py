# A synthetic language with a known distribution: order-2 Markov source, 32 tokens.
# The teacher of its methods is the source itself.
collate = dict(type="default_collate")
train_dataloader = dict(
    batch_size=32,
    num_workers=0,
    sampler=dict(type="pld_mmdet.ResumableSampler", shuffle=True, infinite=True),
    collate_fn=collate,
    dataset=dict(type="pld_mmdet.MarkovText", part="train", size=2048),
)
val_dataloader = dict(
    batch_size=128,
    num_workers=0,
    sampler=dict(type="DefaultSampler", shuffle=False),
    collate_fn=collate,
    dataset=dict(type="pld_mmdet.MarkovText", part="val", size=256),
)
test_dataloader = dict(
    batch_size=128,
    num_workers=0,
    sampler=dict(type="DefaultSampler", shuffle=False),
    collate_fn=collate,
    dataset=dict(type="pld_mmdet.MarkovText", part="test", size=512),
)
val_evaluator = dict(type="pld_mmdet.TokenMeanMetric")
test_evaluator = val_evaluator
val_cfg = dict()
test_cfg = dict()
