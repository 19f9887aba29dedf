# Training: foggy images without labels, as a weak and a strong view of one geometry.
# Evaluation: foggy val images with boxes.
data_root = "data/cityscapes/"
classes = ("person", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle")
metainfo = dict(classes=classes)
scale = (1333, 600)  # longer side at most, shorter side
how_to_get = dict(
    data=(
        "put leftImg8bit, leftImg8bit_foggy and gtFine of Cityscapes into "
        "data/cityscapes, then: python tools/prepare.py foggy_cityscapes "
        "--root data/cityscapes --beta 0.02"
    ),
    checkpoint="python tools/train.py configs/source/cityscapes.py",
)

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
# The released loader hands BGR bytes to a library that reads RGB: channel_order='rgb'
# repeats that.
strong = [
    dict(
        type="pld_mmdet.RandomColorJitter",
        brightness=0.4,
        contrast=0.4,
        saturation=0.4,
        hue=0.1,
        prob=0.8,
        channel_order="rgb",
    ),
    dict(type="pld_mmdet.RandomGrayscale", prob=0.2, channel_order="rgb"),
    dict(type="pld_mmdet.RandomGaussianBlur", sigma=(0.1, 2.0), prob=0.5),
    dict(
        type="pld_mmdet.RandomEraseNoise", area=(0.05, 0.2), ratio=(0.3, 3.3), prob=0.7
    ),
    dict(type="pld_mmdet.RandomEraseNoise", area=(0.02, 0.2), ratio=(0.1, 6), prob=0.5),
    dict(
        type="pld_mmdet.RandomEraseNoise", area=(0.02, 0.2), ratio=(0.05, 8), prob=0.3
    ),
    pack,
]
train_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="Resize", scale=scale, keep_ratio=True),
    dict(
        type="MultiBranch", branch_field=["weak", "strong"], weak=[pack], strong=strong
    ),
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
    sampler=dict(type="pld_mmdet.ResumableSampler", shuffle=True, infinite=False),
    dataset=dict(
        type="pld_mmdet.SeededDataset",
        dataset=dict(
            type="pld_mmdet.ImageFolder",
            data_root=data_root,
            pattern="leftImg8bit_foggy/train/*/*_foggy_beta_0.02.png",
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
        ann_file="annotations/val_foggy_beta_0.02.json",
        data_prefix=dict(img=""),
        metainfo=metainfo,
        test_mode=True,
        pipeline=test_pipeline,
    ),
)
val_evaluator = test_evaluator = dict(
    type="pld_mmdet.AP50Metric",
    ann_file=data_root + "annotations/val_foggy_beta_0.02.json",
)
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")
