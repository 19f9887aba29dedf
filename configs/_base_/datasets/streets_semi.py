# FoggyStreets' clear scenes with few labels: 5 % labelled (40 of 800 images). All views
# have the images' own size, so labelled and unlabelled ones share a backbone pass.
_base_ = "./coco_semi.py"

data_root = "data/foggy_streets/"
how_to_get = dict(
    data=(
        "python tools/prepare.py foggy_streets && python tools/prepare.py coco_semi "
        "--root data/foggy_streets --ann annotations/train.json --percents 5"
    )
)
expected_counts = dict(train=800, val=200, test=200)
classes = (
    "person",
    "rider",
    "car",
    "truck",
    "bus",
    "train",
    "motorcycle",
    "bicycle",
)
metainfo = dict(classes=classes)
fold = "{{$FOLD:1}}"

load = dict(type="LoadImageFromFile")
# Also where nothing is resized: it starts the matrix that maps boxes between views.
resize = dict(type="Resize", scale=(384, 192), keep_ratio=True)
labelled_pipeline = [
    load,
    dict(type="LoadAnnotations", with_bbox=True),
    resize,
    _base_.flip,
    _base_.color,
    dict(type="MultiBranch", branch_field=_base_.branches, sup=[_base_.pack]),
]
strong_view = [
    _base_.flip,
    dict(type="RandomOrder", transforms=[_base_.color, _base_.geometry]),
    dict(type="RandomErasing", n_patches=(1, 5), ratio=(0, 0.2)),
]
unlabelled_pipeline = [
    load,
    resize,
    dict(
        type="MultiBranch",
        branch_field=_base_.branches,
        weak=[_base_.flip, _base_.pack],
        strong=[*strong_view, _base_.pack],
    ),
]
test_pipeline = [
    load,
    resize,
    dict(type="LoadAnnotations", with_bbox=True),
    dict(type="PackDetInputs"),
]
street_images = dict(
    type="CocoDataset",
    data_root=data_root,
    data_prefix=dict(img=""),
    metainfo=metainfo,
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
val_dataloader = dict(
    batch_size=4,
    num_workers=1,
    dataset=dict(
        **street_images,
        _delete_=True,
        ann_file="annotations/val.json",
        test_mode=True,
        pipeline=test_pipeline,
    ),
)
test_dataloader = dict(
    batch_size=4,
    num_workers=1,
    dataset=dict(
        **street_images,
        _delete_=True,
        ann_file="annotations/test.json",
        test_mode=True,
        pipeline=test_pipeline,
    ),
)
val_evaluator = dict(ann_file=data_root + "annotations/val.json")
test_evaluator = dict(ann_file=data_root + "annotations/test.json")
