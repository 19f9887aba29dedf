# COCO with few labels: labelled images, and unlabelled ones as a weak and a strong view
# of different geometry. Views and draws are those of Soft Teacher's release.
data_root = "data/coco/"
how_to_get = dict(
    data=(
        "put train2017, val2017 and annotations of COCO into data/coco, then: "
        "python tools/prepare.py coco_semi --root data/coco"
    )
)
branches = ["sup", "weak", "strong"]
meta_keys = (
    "img_id",
    "img_path",
    "ori_shape",
    "img_shape",
    "scale_factor",
    "flip",
    "flip_direction",
    "homography_matrix",
)
pack = dict(type="PackDetInputs", meta_keys=meta_keys)
resize = dict(type="RandomResize", scale=[(1333, 400), (1333, 1200)], keep_ratio=True)
flip = dict(type="RandomFlip", prob=0.5)
# Factors of the release's magnitudes 1 to 9 (mmdet: 0.1 to 1.9), and 1 to 4 bits: mmdet
# rounds up from 0, and 0 bits are a black image.
factors = dict(min_mag=0.28, max_mag=1.72)
color = dict(
    type="RandomChoice",
    transforms=[
        [dict(type="ColorTransform")],  # changes nothing
        [dict(type="AutoContrast")],
        [dict(type="Equalize")],
        [dict(type="Solarize")],
        [dict(type="Color", **factors)],
        [dict(type="Contrast", **factors)],
        [dict(type="Brightness", **factors)],
        [dict(type="Sharpness", **factors)],
        [dict(type="Posterize", min_mag=1.0, max_mag=4.0)],
    ],
)
# The release draws one of four and shears both ways at once; mmdet's port has five.
geometry = dict(
    type="RandomChoice",
    transforms=[
        [dict(type="TranslateX")],
        [dict(type="TranslateY")],
        [dict(type="Rotate")],
        [dict(type="ShearX"), dict(type="ShearY")],
    ],
)
labelled_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="LoadAnnotations", with_bbox=True),
    resize,
    flip,
    color,
    dict(type="FilterAnnotations", min_gt_bbox_wh=(1e-2, 1e-2)),
    dict(type="MultiBranch", branch_field=branches, sup=[pack]),
]
# No annotation is loaded here: what is in the file stays in the file.
unlabelled_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(
        type="MultiBranch",
        branch_field=branches,
        weak=[resize, flip, pack],
        strong=[
            resize,
            flip,
            dict(type="RandomOrder", transforms=[color, geometry]),
            dict(type="RandomErasing", n_patches=(1, 4), ratio=(0, 0.2)),
            pack,
        ],
    ),
]
test_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="Resize", scale=(1333, 800), keep_ratio=True),
    dict(type="LoadAnnotations", with_bbox=True),
    dict(type="PackDetInputs"),
]
labelled = dict(
    type="CocoDataset",
    data_root=data_root,
    ann_file="semi_anns/instances_train2017.1@10.json",
    data_prefix=dict(img="train2017/"),
    filter_cfg=dict(filter_empty_gt=True, min_size=32),
    pipeline=labelled_pipeline,
)
unlabelled = dict(
    type="CocoDataset",
    data_root=data_root,
    ann_file="semi_anns/instances_train2017.1@10-unlabeled.json",
    data_prefix=dict(img="train2017/"),
    filter_cfg=dict(filter_empty_gt=False),
    pipeline=unlabelled_pipeline,
)
train_dataloader = dict(
    batch_size=5,  # of each of 8 GPUs
    num_workers=5,
    persistent_workers=True,
    sampler=dict(
        type="pld_mmdet.SemiSampler", batch_size=5, source_ratio=[1, 4], split="random"
    ),
    dataset=dict(
        type="pld_mmdet.SeededDataset",
        dataset=dict(type="ConcatDataset", datasets=[labelled, unlabelled]),
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
        ann_file="annotations/instances_val2017.json",
        data_prefix=dict(img="val2017/"),
        test_mode=True,
        pipeline=test_pipeline,
    ),
)
val_evaluator = test_evaluator = dict(
    type="CocoMetric",
    ann_file=data_root + "annotations/instances_val2017.json",
    metric="bbox",
)
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")
