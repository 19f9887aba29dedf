# AGMM as released for VOC with points (69.6 mIoU on val; unconfirmed): DeepLabV3+ R101,
# 80 epochs of 10582 images on 3 processes of 16 crops, whole images at test time:
# tools/dist_train.sh configs/agmm/paper.py 3
# Points are PNGs of class numbers in data/VOCdevkit/VOC2012/point/segcls, 21 or more
# where nobody annotated; scribbles: set data_prefix.seg_map_path to their folder.
_base_ = [
    "../_base_/toy_runtime.py",
    "../_base_/datasets/voc_seg.py",
    "../_base_/models/deeplabv3plus_r101.py",
]
from pld_mmdet.recipes import loader, optimizer, poly

sync_bn = "torch"
model = dict(type="pld_mmdet.AGMM", segmentor=_base_.segmentor, sigma="fixed")
_points = dict(type="pld_mmdet.KeepPoints", num_classes=21, count=None)
_photo = dict(type="pld_mmdet.PhotoView", jitter=0.5, grey=0.1, blurred=0.5, bright=0.5)
train_dataloader = loader(
    dict(
        **{
            **_base_.voc,
            "data_prefix": dict(img_path="JPEGImages", seg_map_path="point/segcls"),
        },
        pipeline=[
            _base_.load,
            _base_.label,
            _points,
            _base_.scaled,
            *_base_.cut,
            _photo,
            _base_.pack,
        ],
    ),
    16,
    train=True,
    seeded=True,
    workers=4,
)
# 80 epochs of 10582 // 48 iterations
train_cfg = dict(type="IterBasedTrainLoop", max_iters=17600, val_interval=2200)
optim_wrapper = optimizer(
    "SGD",
    0.001,
    momentum=0.9,
    weight_decay=1e-4,
    paramwise_cfg=dict(custom_keys=dict(decode_head=dict(lr_mult=10.0))),
    constructor="pld_mmdet.MergedGroups",
)
param_scheduler = [poly(0.9, end=17600)]
default_hooks = dict(checkpoint=dict(interval=2200))
