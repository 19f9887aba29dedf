# FoggyStreets' clear scenes with few labels: 5 % labelled (40 of 800 images). As in the
# release each view has a size of its own, and the strong geometry is for unlabelled
# images alone: the hull of a rotated or sheared box and the tight one have IoU 0.78.
_base_ = "./coco_semi.py"
from pld_mmdet.recipes import class_names
from pld_mmdet.recipes.detection import at_test

data_root = "data/foggy_streets/"
how_to_get = dict(
    data=(
        "python tools/prepare.py foggy_streets && python tools/prepare.py coco_semi "
        "--root data/foggy_streets --ann annotations/train.json --percents 5"
    )
)
expected_counts = dict(train=800, val=200, test=600)
classes = class_names.CITYSCAPES
metainfo = dict(classes=classes)
fold = "{{$FOLD:1}}"

load = dict(type="LoadImageFromFile")
# COCO's short sides are 400 to 1200 around 800; here 144 to 288 around 192.
resize = dict(
    type="RandomResize", scale=(384, 192), ratio_range=(0.75, 1.5), keep_ratio=True
)
labelled_pipeline = [
    load,
    dict(type="LoadAnnotations", with_bbox=True),
    resize,
    _base_.flip,
    _base_.color,
    dict(type="MultiBranch", branch_field=_base_.branches, sup=[_base_.pack]),
]
strong_view = [
    resize,
    _base_.flip,
    dict(type="RandomOrder", transforms=[_base_.color, _base_.geometry]),
    dict(type="RandomErasing", n_patches=(1, 4), ratio=(0, 0.2)),
]
unlabelled_pipeline = [
    load,
    dict(
        type="MultiBranch",
        branch_field=_base_.branches,
        weak=[resize, _base_.flip, _base_.pack],
        strong=[*strong_view, _base_.pack],
    ),
]
test_pipeline = at_test((384, 192))
street_images = dict(
    type="CocoDataset", data_root=data_root, data_prefix=dict(img=""), metainfo=metainfo
)
labelled = dict(
    **street_images,
    ann_file=f"semi_anns/train.{fold}@5.json",
    filter_cfg=dict(filter_empty_gt=True),
    pipeline=labelled_pipeline,
)
unlabelled = dict(
    **street_images,
    ann_file=f"semi_anns/train.{fold}@5-unlabeled.json",
    pipeline=unlabelled_pipeline,
)
train_dataloader = dict(
    batch_size=4,
    num_workers=1,
    sampler=dict(batch_size=4, source_ratio=[1, 1], split="fixed", by_aspect=False),
    dataset=dict(dataset=dict(datasets=[labelled, unlabelled])),
)
scored = dict(**street_images, _delete_=True, test_mode=True, pipeline=test_pipeline)
val_dataloader, test_dataloader = (
    dict(
        batch_size=4,
        num_workers=1,
        dataset=dict(scored, ann_file=f"annotations/{part}.json"),
    )
    for part in ("val", "test")
)
val_evaluator = dict(ann_file=data_root + "annotations/val.json")
test_evaluator = dict(ann_file=data_root + "annotations/test.json")
