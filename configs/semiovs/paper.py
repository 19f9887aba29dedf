# SemiOVS as released on UniMatch for VOC with 92 labels (80.4 mIoU in the authors'
# table, UniMatch 75.2): DeepLabV3+ R101 of stride 16, 80 epochs of 10490 unlabelled
# images, one process of 8 labelled, 8 + 8 unlabelled and 8 COCO crops of 321:
# tools/dist_train.sh configs/semiovs/paper.py 1 --amp
# Maps of the COCO images are PNGs of VOC's class numbers, one an image, in
# data/coco/ovs_maps, from any open-vocabulary segmentor (theirs: SED on ConvNeXt-L).
_base_ = [
    "../_base_/toy_runtime.py",
    "../_base_/datasets/voc_seg.py",
    "../_base_/models/deeplabv3plus_r101.py",
]
from pld_mmdet.recipes import from_each, loader, optimizer, poly

how_to_get = dict(
    split="put the authors' lists, one name a line, into data/VOCdevkit/VOC2012/92/ "
    "(labeled.txt, unlabeled.txt) and data/coco/ood.txt",
    maps="label the images of data/coco/ood.txt with an open-vocabulary model, "
    "pld_mmdet.segmentation.semiovs.concept_labels on its scores, into "
    "data/coco/ovs_maps/<name>.png",
)
segmentor = dict(
    _base_.segmentor,
    backbone=dict(
        _base_.segmentor["backbone"], strides=(1, 2, 2, 1), dilations=(1, 1, 1, 2)
    ),
)
model = dict(
    type="pld_mmdet.SemiOVS",
    segmentor=segmentor,
    ood_weight=1.0,
    threshold=0.95,
    drop=0.5,
    box_probability=0.5,
)
_photo = dict(jitter=0.8, grey=0.2, blurred=0.5)


def _pack(source):
    return dict(type="pld_mmdet.PackConsistency", source=source, **_photo)


_geometry = [_base_.scaled, *_base_.cut]
_coco = dict(
    type="mmseg.PascalVOCDataset",
    data_root="data/coco/",
    data_prefix=dict(img_path="train2017"),
    ann_file="ood.txt",
)
train_dataloader = loader(
    dict(
        type="ConcatDataset",
        datasets=[
            dict(
                **{**_base_.voc, "ann_file": "92/labeled.txt"},
                pipeline=[_base_.load, _base_.label, *_geometry, _pack("labelled")],
            ),
            dict(
                **{**_base_.voc, "ann_file": "92/unlabeled.txt"},
                pipeline=[
                    _base_.load,
                    dict(type="pld_mmdet.BlankMap"),
                    *_geometry,
                    _pack("unlabelled"),
                ],
            ),
            dict(
                **_coco,
                pipeline=[
                    _base_.load,
                    dict(
                        type="pld_mmdet.LoadPseudoLabels", folder="data/coco/ovs_maps"
                    ),
                    # the long side of a COCO image is 640 pixels
                    dict(_base_.scaled, scale=(640, 640)),
                    *_base_.cut,
                    _pack("ood"),
                ],
            ),
        ],
    ),
    32,
    sampler=from_each(32, 1, 2, 1),
    seeded=True,
    workers=8,
)
# 80 epochs of 10490 // 8 iterations
train_cfg = dict(type="IterBasedTrainLoop", max_iters=104880, val_interval=5244)
optim_wrapper = optimizer(
    "SGD",
    0.001,
    momentum=0.9,
    weight_decay=1e-4,
    paramwise_cfg=dict(custom_keys=dict(decode_head=dict(lr_mult=10.0))),
    constructor="pld_mmdet.MergedGroups",
)
param_scheduler = [poly(0.9, end=104880)]
default_hooks = dict(checkpoint=dict(interval=5244))
