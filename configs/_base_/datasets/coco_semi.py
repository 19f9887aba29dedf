# COCO with few labels: labelled images, and unlabelled ones as a weak and a strong view
# of different geometry. Views and draws are those of Soft Teacher's release.
_base_ = "../metrics/boxes.py"
from pld_mmdet.recipes.detection import at_test, coco, packing, to_test, to_train

data_root = "data/coco/"
how_to_get = dict(
    data=(
        "put train2017, val2017 and annotations of COCO into data/coco, then: "
        "python tools/prepare.py coco_semi --root data/coco"
    )
)
branches = ["sup", "weak", "strong"]
pack = packing()
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
test_pipeline = at_test((1333, 800))
_file = "semi_anns/instances_train2017.1@10"
labelled = coco(
    data_root,
    f"{_file}.json",
    (),
    labelled_pipeline,
    images="train2017/",
    filter_cfg=dict(filter_empty_gt=True, min_size=32),
)
unlabelled = coco(
    data_root,
    f"{_file}-unlabeled.json",
    (),
    unlabelled_pipeline,
    images="train2017/",
    filter_cfg=dict(filter_empty_gt=False),
)
_ratio = dict(batch_size=5, source_ratio=[1, 4], split="random")
train_dataloader = to_train(
    dict(type="ConcatDataset", datasets=[labelled, unlabelled]),
    5,  # of each of 8 GPUs
    workers=5,
    sampler=dict(type="pld_mmdet.SemiSampler", **_ratio),
)
val_boxes = "annotations/instances_val2017.json"
val_dataloader = test_dataloader = to_test(
    data_root, val_boxes, (), test_pipeline, images="val2017/"
)
val_evaluator = test_evaluator = dict(
    type="CocoMetric", ann_file=data_root + val_boxes, metric="bbox"
)
