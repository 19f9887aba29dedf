# Labelled clear images, for source training.
data_root = "data/cityscapes/"
classes = ("person", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle")
metainfo = dict(classes=classes)
scale = (1333, 600)
how_to_get = dict(
    data=(
        "put leftImg8bit and gtFine of Cityscapes into data/cityscapes, then: "
        "python tools/prepare.py cityscapes --root data/cityscapes"
    )
)

train_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="LoadAnnotations", with_bbox=True),
    dict(type="Resize", scale=scale, keep_ratio=True),
    dict(type="RandomFlip", prob=0.5),
    dict(type="PackDetInputs"),
]
test_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="Resize", scale=scale, keep_ratio=True),
    dict(type="LoadAnnotations", with_bbox=True),
    dict(type="PackDetInputs"),
]
train_dataloader = dict(
    batch_size=1,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type="pld_mmdet.ResumableSampler", shuffle=True, infinite=True),
    dataset=dict(
        type="pld_mmdet.SeededDataset",
        dataset=dict(
            type="CocoDataset",
            data_root=data_root,
            ann_file="annotations/train.json",
            data_prefix=dict(img=""),
            metainfo=metainfo,
            pipeline=train_pipeline,
        ),
    ),
)
val_dataloader = test_dataloader = dict(
    batch_size=1,
    num_workers=2,
    persistent_workers=True,
    drop_last=False,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(
        type="CocoDataset",
        data_root=data_root,
        ann_file="annotations/val.json",
        data_prefix=dict(img=""),
        metainfo=metainfo,
        test_mode=True,
        pipeline=test_pipeline,
    ),
)
val_evaluator = test_evaluator = dict(
    type="pld_mmdet.AP50Metric", ann_file=data_root + "annotations/val.json"
)
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")
