# MarvelOVD on OV-COCO (48 base, 17 novel classes), numbers of the released code
# (commit e9615e0): 90001 iterations of 16 images, each in two views.
_base_ = ["../_base_/runtime.py", "../_base_/models/faster_rcnn_r50_fpn_caffe.py"]
from pld_mmdet.recipes import drops, optimizer, warm_up

data_root = "data/coco/"
how_to_get = dict(
    data=(
        "unpack COCO 2017 into data/coco, then: python tools/make_ov_coco.py coco; "
        "python tools/make_clip_candidates.py --help (text, then boxes)"
    )
)
text_file = data_root + "annotations/ov/text.npz"
candidates = "annotations/ov/train_candidates.json"
# In the order of COCO's file.
classes = (
    "person",
    "bicycle",
    "car",
    "motorcycle",
    "airplane",
    "bus",
    "train",
    "truck",
    "boat",
    "bench",
    "bird",
    "cat",
    "dog",
    "horse",
    "sheep",
    "cow",
    "elephant",
    "bear",
    "zebra",
    "giraffe",
    "backpack",
    "umbrella",
    "handbag",
    "tie",
    "suitcase",
    "frisbee",
    "skis",
    "snowboard",
    "kite",
    "skateboard",
    "surfboard",
    "bottle",
    "cup",
    "fork",
    "knife",
    "spoon",
    "bowl",
    "banana",
    "apple",
    "sandwich",
    "orange",
    "broccoli",
    "carrot",
    "pizza",
    "donut",
    "cake",
    "chair",
    "couch",
    "bed",
    "toilet",
    "tv",
    "laptop",
    "mouse",
    "remote",
    "keyboard",
    "microwave",
    "oven",
    "toaster",
    "sink",
    "refrigerator",
    "book",
    "clock",
    "vase",
    "scissors",
    "toothbrush",
)
novel = (
    "airplane",
    "bus",
    "cat",
    "dog",
    "cow",
    "elephant",
    "umbrella",
    "tie",
    "snowboard",
    "skateboard",
    "cup",
    "knife",
    "cake",
    "couch",
    "keyboard",
    "sink",
    "scissors",
)
base = [name for name in classes if name not in novel]
metainfo = dict(classes=classes)

detector = _base_.detector
detector.roi_head.bbox_head.num_classes = 65
detector.roi_head.bbox_head.reg_class_agnostic = True
# 1024 -> 512, times text vectors; no norm, no temperature; background is a zero row
detector.roi_head.bbox_head.cls_predictor_cfg = dict(
    type="pld_mmdet.TextEmbeddingClassifier", path=text_file, names=classes, emb_dim=512
)
model = dict(
    type="pld_mmdet.MarvelOVD",
    detector=detector,
    novel=[classes.index(name) for name in novel],
    burn_in=500,
    burn_in_threshold=0.9,  # paper: 0.8
    mix=0.5,
    threshold=0.9,
    weight_mix=0.5,
    gamma=2.0,
)

pack = dict(
    type="pld_mmdet.PackCandidates",
    meta_keys=(
        "img_id",
        "img_path",
        "ori_shape",
        "img_shape",
        "scale_factor",
        "flip",
        "flip_direction",
    ),
)
strong = [
    dict(type="pld_mmdet.RandomColorJitter", channel_order="rgb"),  # as released
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
resize = dict(
    type="RandomChoiceResize",
    scales=[(1333, side) for side in range(640, 801, 32)],
    keep_ratio=True,
)
train_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="LoadAnnotations", with_bbox=True),
    dict(type="pld_mmdet.LoadBoxExtras"),
    resize,
    dict(type="RandomFlip", prob=0.5),
    dict(
        type="MultiBranch", branch_field=["weak", "strong"], weak=[pack], strong=strong
    ),
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
            type="pld_mmdet.CandidateCocoDataset",
            data_root=data_root,
            ann_file=candidates,
            data_prefix=dict(img="train2017/"),
            metainfo=metainfo,
            filter_cfg=dict(filter_empty_gt=True),
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
        ann_file="annotations/ov/val.json",
        data_prefix=dict(img="val2017/"),
        metainfo=metainfo,
        test_mode=True,
        pipeline=test_pipeline,
    ),
)
val_evaluator = test_evaluator = dict(
    type="pld_mmdet.GroupAP50Metric",
    ann_file=data_root + "annotations/ov/val.json",
    groups=dict(novel=list(novel), base=base),
    paper_metric="coco/AP50",
)
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")

train_cfg = dict(type="IterBasedTrainLoop", max_iters=90001, val_interval=30000)
optim_wrapper = optimizer("SGD", 0.02, momentum=0.9, weight_decay=1e-4)
param_scheduler = [warm_up(0.001, 1000), drops(60000, 80000)]
auto_scale_lr = dict(enable=False, base_batch_size=16)
default_hooks = dict(checkpoint=dict(by_epoch=False, interval=5000, max_keep_ckpts=2))
custom_hooks = [*_base_.custom_hooks, dict(type="pld_mmdet.PseudoBoxHook", interval=50)]
log_processor = dict(by_epoch=False)
