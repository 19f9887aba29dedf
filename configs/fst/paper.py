# FST-D as published for GTA5 -> Cityscapes with DeepLabV2-R101 (59.94 mIoU in the
# authors' table, 5b44c01): 40k iterations of 2 + 2 crops of 512 on one process,
# ClassMix self-training, AdamW. Their rare-class sampling of source images (worth
# several points) is not here. Needs a GPU and ImageNet weights.
_base_ = [
    "../_base_/toy_runtime.py",
    "../_base_/datasets/gta5_cityscapes_seg.py",
    "../_base_/models/deeplabv2_r101.py",
]
from pld_mmdet.recipes import from_each, loader, optimizer, poly, warm_up

# two of the four classifiers (their deeplabv2red_r101-d8.py)
_network = dict(
    _base_.segmentor,
    decode_head=dict(
        _base_.segmentor["decode_head"], dilations=(6, 12), align_corners=False
    ),
)
model = dict(
    type="pld_mmdet.FST",
    learner=dict(
        type="pld_mmdet.ClassMixSelfTraining",
        segmentor=_network,
        encoder=_base_.segmentor["backbone"],
        tau=0.968,
        ignore_rows=(15, 120),
        feature_weight=0.005,
        source_over="all",
        predict_on="student",
    ),
    depth=3,
    mu=0.999,
    count="evaluations",
    # their virtual steps take the weights back, nothing else
    restore_optimizer=False,
    restore_buffers=False,
    # their EMA moves weights only; the teacher's batch norms see its own batches
    buffers="keep",
    first_move=True,
)
_source = [
    _base_.load,
    _base_.label,
    dict(type="Resize", scale=(1280, 720)),
    dict(type="mmseg.RandomCrop", crop_size=(512, 512), cat_max_ratio=0.75),
    dict(type="RandomFlip", prob=0.5),
    _base_.pack,
]
_target = [
    _base_.load,
    dict(type="Resize", scale=(1024, 512)),
    dict(type="mmseg.RandomCrop", crop_size=(512, 512)),
    dict(type="RandomFlip", prob=0.5),
    _base_.pack,
]
train_dataloader = loader(
    dict(
        type="ConcatDataset",
        datasets=[
            dict(**_base_.gta5, pipeline=_source),
            dict(**_base_.cityscapes, pipeline=_target),
        ],
    ),
    4,
    sampler=from_each(4, 1, 1),
    seeded=True,
    workers=4,
)
_small = dict(type="Resize", scale=(1024, 512))
val_dataloader = test_dataloader = loader(
    dict(
        **_base_.test_dataset,
        pipeline=[_base_.load, _small, _base_.label, _base_.pack],
    ),
    1,
    workers=4,
    persistent=False,
)
train_cfg = dict(type="IterBasedTrainLoop", max_iters=40000, val_interval=4000)
optim_wrapper = optimizer(
    "AdamW",
    6e-5,
    betas=(0.9, 0.999),
    weight_decay=0.01,
    paramwise_cfg=dict(
        # their `norm` with decay 0 names no layer of this network: bn1 is none
        custom_keys=dict(decode_head=dict(lr_mult=10.0))
    ),
    constructor="pld_mmdet.MergedGroups",
)
param_scheduler = [warm_up(1e-6, 1500), poly(1.0, end=40000)]
default_hooks = dict(checkpoint=dict(interval=4000))
model_wrapper_cfg = dict(type="VirtualStepDDP")
