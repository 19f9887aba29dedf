# Labelled images of a few-shot benchmark, base classes of VOC split 1. The files come
# from tools/make_fewshot.py; their categories stand in the order of the labels.
_base_ = "./fewshot_classes.py"

data_root = "data/VOCdevkit/"
stem = "annotations/fewshot/voc_split1"
classes = _base_.voc_split1_base
how_to_get = dict(
    data=(
        "unpack VOC 2007 (trainval, test) and 2012 (trainval) into data/VOCdevkit, "
        "then: python tools/make_fewshot.py voc --split 1 --shots 1 2 3 5 10"
    )
)
sides = range(480, 801, 32)
train_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="LoadAnnotations", with_bbox=True),
    dict(
        type="RandomChoiceResize",
        scales=[(1333, side) for side in sides],
        keep_ratio=True,
    ),
    dict(type="RandomFlip", prob=0.5),
    dict(type="PackDetInputs"),
]
test_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="Resize", scale=(1333, 800), keep_ratio=True),
    dict(type="LoadAnnotations", with_bbox=True),
    dict(type="PackDetInputs"),
]
train_dataloader = dict(
    batch_size=16,  # on one GPU; with n GPUs 16 / n
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type="pld_mmdet.ResumableSampler", shuffle=True, infinite=True),
    dataset=dict(
        type="pld_mmdet.SeededDataset",
        dataset=dict(
            type="CocoDataset",
            data_root=data_root,
            ann_file=stem + "_base.json",
            data_prefix=dict(img=""),
            metainfo=dict(classes=classes),
            filter_cfg=dict(filter_empty_gt=True),
            pipeline=train_pipeline,
        ),
    ),
)
# VOC has no third part: this is the test set, looked at once, at the end.
val_dataloader = test_dataloader = dict(
    batch_size=1,
    num_workers=2,
    persistent_workers=True,
    drop_last=False,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(
        type="CocoDataset",
        data_root=data_root,
        ann_file=stem + "_test_base.json",
        data_prefix=dict(img=""),
        metainfo=dict(classes=classes),
        test_mode=True,
        pipeline=test_pipeline,
    ),
)
val_evaluator = test_evaluator = dict(
    type="pld_mmdet.AP50Metric",
    ann_file=data_root + stem + "_test_base.json",
    report="voc07/AP50",
    legacy_coordinates=True,
)
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")
