# A synthetic language with topics and synonyms: 4000 sentences without labels to
# pre-train on, 200 labelled ones of the task; 300 val, 1000 test.
collate = dict(type="default_collate")
shuffled = dict(type="pld_mmdet.ResumableSampler", shuffle=True, infinite=True)
general_dataloader = dict(
    batch_size=16,
    num_workers=0,
    sampler=shuffled,
    collate_fn=collate,
    dataset=dict(type="pld_mmdet.TopicGrammar", part="general", size=4000),
)
train_dataloader = dict(
    batch_size=16,
    num_workers=0,
    sampler=shuffled,
    collate_fn=collate,
    dataset=dict(type="pld_mmdet.TopicGrammar", part="task", size=200),
)
val_dataloader = dict(
    batch_size=100,
    num_workers=0,
    sampler=dict(type="DefaultSampler", shuffle=False),
    collate_fn=collate,
    dataset=dict(type="pld_mmdet.TopicGrammar", part="val", size=300),
)
test_dataloader = dict(
    batch_size=100,
    num_workers=0,
    sampler=dict(type="DefaultSampler", shuffle=False),
    collate_fn=collate,
    dataset=dict(type="pld_mmdet.TopicGrammar", part="test", size=1000),
)
val_evaluator = dict(type="pld_mmdet.ClassificationMetric")
test_evaluator = val_evaluator
val_cfg = dict()
test_cfg = dict()
