# StreetCrops: 32 x 32 crops of generated streets, eight classes as frequent as there;
# 6000 to learn from, 1500 val, 2500 test (about 14 % of each are background, left out).
how_to_get = dict(data="python tools/prepare.py street_crops")
collate = dict(type="default_collate")
train_dataloader = dict(
    batch_size=64,
    num_workers=0,
    sampler=dict(type="pld_mmdet.ResumableSampler", shuffle=True, infinite=True),
    collate_fn=collate,
    dataset=dict(
        type="pld_mmdet.StreetCrops", part="train", data_root="data/street_crops"
    ),
)
val_dataloader = dict(
    batch_size=500,
    num_workers=0,
    sampler=dict(type="DefaultSampler", shuffle=False),
    collate_fn=collate,
    dataset=dict(
        type="pld_mmdet.StreetCrops", part="val", data_root="data/street_crops"
    ),
)
test_dataloader = dict(
    batch_size=500,
    num_workers=0,
    sampler=dict(type="DefaultSampler", shuffle=False),
    collate_fn=collate,
    dataset=dict(
        type="pld_mmdet.StreetCrops", part="test", data_root="data/street_crops"
    ),
)
val_evaluator = dict(type="pld_mmdet.ClassificationMetric")
test_evaluator = val_evaluator
val_cfg = dict()
test_cfg = dict()
# The walk of the tests: 200 crops, made once. A toy adds to its `walk`:
# "train_dataloader.dataset.data_root=data/tiny_crops"
walk_data = "python tools/prepare.py street_crops --root data/tiny_crops --crops 200"
