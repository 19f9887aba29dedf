# MGD as released for VOC with an eighth of the labels and a ResNet-18 student:
# 34 epochs of 9260 unlabelled images, 4 processes of 2 labelled and 2 + 2 unlabelled
# crops of 512:
# tools/dist_train.sh configs/mgd/paper.py 4
# The teachers are trained beforehand; configs/mgd/paper_teachers.py does it here. Give
# its last checkpoint as `load_from`.
_base_ = [
    "../_base_/toy_runtime.py",
    "../_base_/datasets/voc_seg.py",
    "../_base_/models/deeplabv3plus_r101.py",
]
from pld_mmdet.recipes import from_each, loader, optimizer, poly, stage, staged

sync_bn = "torch"
how_to_get = dict(
    split="put the lists of the authors (or of CPS) of labelled and unlabelled images, "
    "one name a line, into data/VOCdevkit/VOC2012/subset_train_aug"
)
_backbone = dict(
    _base_.segmentor["backbone"],
    type="ResNetV1c",
    strides=(1, 2, 2, 1),
    dilations=(1, 1, 1, 2),
    contract_dilation=False,
)
_head = _base_.segmentor["decode_head"]
_deep = dict(
    _base_.segmentor,
    backbone=dict(
        _backbone,
        depth=101,
        multi_grid=(2, 4, 8),
        init_cfg=dict(type="Pretrained", checkpoint="open-mmlab://resnet101_v1c"),
    ),
)
# in place of their Wide-ResNet-34: a ResNet-34 of twice the width, without weights
_wide = dict(
    _base_.segmentor,
    backbone=dict(
        _backbone, depth=34, base_channels=128, multi_grid=(2, 4, 8), init_cfg=None
    ),
    decode_head=dict(_head, in_channels=1024, c1_in_channels=128),
)
_student = dict(
    _base_.segmentor,
    backbone=dict(
        _backbone,
        depth=18,
        multi_grid=(2, 4),
        init_cfg=dict(type="Pretrained", checkpoint="open-mmlab://resnet18_v1c"),
    ),
    decode_head=dict(_head, in_channels=512, c1_in_channels=64),
)
model = dict(
    type="pld_mmdet.MGD",
    student=_student,
    wide=_wide,
    deep=_deep,
    image_weight=0.002,
    region_weight=100.0,
)
_scaled = dict(
    type="RandomChoiceResize",
    scales=[(250, 250), (375, 375), (500, 500), (750, 750), (875, 875), (1000, 1000)],
    keep_ratio=True,
)
_cut = [
    dict(type="mmseg.RandomCrop", crop_size=(512, 512)),
    dict(type="RandomFlip", prob=0.5),
    dict(type="Pad", size=(512, 512), pad_val=dict(img=0, seg=255)),
]
_lists = "subset_train_aug/train_aug_"
train_dataloader = loader(
    dict(
        type="ConcatDataset",
        datasets=[
            dict(
                **{**_base_.voc, "ann_file": f"{_lists}labeled_1-8.txt"},
                pipeline=[_base_.load, _base_.label, _scaled, *_cut, _base_.pack],
            ),
            dict(
                **{**_base_.voc, "ann_file": f"{_lists}unlabeled_1-8.txt"},
                pipeline=[_base_.load, _scaled, *_cut, _base_.pack],
            ),
        ],
    ),
    6,
    sampler=from_each(6, 1, 2),
    seeded=True,
    workers=4,
)
# 34 epochs of 9260 // 8 iterations
distill = stage("distill", 39338)
train_cfg = staged(distill, val_interval=2314)
# Their rate is 0.0025 x 4 processes, and the loss is divided by the processes once more
# than DistributedDataParallel does it; so the decay is four times theirs at this rate.
optim_wrapper = optimizer(
    "SGD", 0.0025, momentum=0.9, weight_decay=4e-4, spare_norms=True
)
param_scheduler = [poly(0.9)]
default_hooks = dict(checkpoint=dict(interval=2314))
find_unused_parameters = True
