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
sync_bn = "torch"
model = dict(type="pld_mmdet.AGMM", segmentor=_base_.segmentor, sigma="fixed")
_points = dict(type="pld_mmdet.KeepPoints", num_classes=21, count=None)
_photo = dict(type="pld_mmdet.PhotoView", jitter=0.5, grey=0.1, blurred=0.5, bright=0.5)
train_dataloader = dict(
    batch_size=16,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type="pld_mmdet.ResumableSampler", shuffle=True, infinite=True),
    collate_fn=_base_.collate,
    dataset=dict(
        type="pld_mmdet.SeededDataset",
        dataset=dict(
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
    ),
)
# 80 epochs of 10582 // 48 iterations
train_cfg = dict(type="IterBasedTrainLoop", max_iters=17600, val_interval=2200)
optim_wrapper = dict(
    type="pld_mmdet.FiniteOptimWrapper",
    optimizer=dict(type="SGD", lr=0.001, momentum=0.9, weight_decay=1e-4),
    constructor="pld_mmdet.MergedGroups",
    paramwise_cfg=dict(custom_keys=dict(decode_head=dict(lr_mult=10.0))),
)
param_scheduler = [
    dict(type="PolyLR", power=0.9, eta_min=0.0, by_epoch=False, end=17600)
]
default_hooks = dict(checkpoint=dict(interval=2200))
