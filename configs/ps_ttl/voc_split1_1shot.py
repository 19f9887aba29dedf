# PS-TTL, VOC split 1, 1 shot, as released (commit bd718199): the K-shot detector learns
# on the VOC 2007 test images, one by one, and each is scored before the next. The
# released code drops the support set's losses: sup_weight=0.
_base_ = "../defrcn/voc_split1_1shot.py"

load_from = "work_dirs/defrcn/voc_split1_1shot/last.pth"
how_to_get = dict(
    data=_base_.how_to_get.data,
    checkpoint="python tools/train.py configs/defrcn/voc_split1_1shot.py",
)
test_file = _base_.stem + "_test.json"
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
resize = _base_.train_pipeline[2]
flip = dict(type="RandomFlip", prob=0.5)
strong = [
    dict(type="pld_mmdet.RandomColorJitter", channel_order="rgb"),
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
# No labels are loaded: the stream is images.
stream_pipeline = [
    dict(type="LoadImageFromFile"),
    resize,
    flip,
    dict(type="MultiBranch", branch_field=["weak"], weak=[pack]),
]
support_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="LoadAnnotations", with_bbox=True),
    resize,
    flip,
    dict(
        type="MultiBranch",
        branch_field=["support_weak", "support_strong"],
        support_weak=[pack],
        support_strong=strong,
    ),
]
score_pipeline = _base_.test_pipeline
in_order = dict(type="pld_mmdet.ResumableSampler", shuffle=False, infinite=True)
shuffled = dict(type="pld_mmdet.ResumableSampler", shuffle=True, infinite=True)
stream = dict(
    type="CocoDataset",
    data_root=_base_.data_root,
    ann_file=test_file,
    data_prefix=dict(img=""),
    metainfo=dict(classes=_base_.classes),
    test_mode=True,  # every image, in the file's order
    pipeline=stream_pipeline,
)
support = dict(
    type="CocoDataset",
    data_root=_base_.data_root,
    ann_file=_base_.stem + "_1shot_seed0.json",
    data_prefix=dict(img=""),
    metainfo=dict(classes=_base_.classes),
    pipeline=support_pipeline,
)

model = dict(
    _delete_=True,
    type="pld_mmdet.PSTTL",
    detector=_base_.model,
    known_threshold=0.9,
    unknown_threshold=0.5,
    queue_length=128,
    prototype_momentum=0.5,
    cosine_scale=10.0,
    kld_weight=0.1,
    unsup_weight=0.5,
    sup_weight=0.0,
    teacher_train_mode=True,
    predict_on="teacher",
)
train_dataloader = dict(
    _delete_=True,
    batch_size=1,
    num_workers=2,
    persistent_workers=True,
    sampler=in_order,
    dataset=dict(type="pld_mmdet.SeededDataset", dataset=stream),
)
train_cfg = dict(
    _delete_=True,
    type="pld_mmdet.OnlineLoop",
    score_dataloader=dict(
        batch_size=1,
        num_workers=2,
        persistent_workers=True,
        sampler=in_order,
        dataset=dict(
            type="pld_mmdet.SeededDataset",
            dataset=dict(
                type="CocoDataset",
                data_root=_base_.data_root,
                ann_file=test_file,
                data_prefix=dict(img=""),
                metainfo=dict(classes=_base_.classes),
                test_mode=True,
                pipeline=score_pipeline,
            ),
        ),
    ),
    support_dataloader=dict(
        batch_size=1,
        num_workers=1,
        persistent_workers=True,
        sampler=shuffled,
        dataset=dict(type="pld_mmdet.SeededDataset", dataset=support),
    ),
    merge_support=False,  # True with sup_weight > 0
    evaluator=_base_.test_evaluator,
)
val_dataloader = None
val_cfg = None
val_evaluator = None

optim_wrapper = dict(
    optimizer=dict(type="SGD", lr=6.25e-4, momentum=0.9, weight_decay=5e-5)
)
param_scheduler = []  # constant
auto_scale_lr = dict(enable=False, base_batch_size=1)
default_hooks = dict(checkpoint=dict(by_epoch=False, interval=500, max_keep_ckpts=2))
custom_hooks = [
    *_base_.custom_hooks,
    dict(type="pld_mmdet.TeacherEMAHook", keep=0.9998, unit="iter", moment="before"),
    dict(type="pld_mmdet.PseudoBoxHook", interval=50),
]
