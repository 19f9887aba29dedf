# HIAST as released for GTA5 -> Cityscapes (56.3 mIoU in the authors' table, f2f357a):
# source images alone, an adversarial warm-up, then three rounds of 8000 iterations with
# DeepLabV2-R101. The authors published weights, not configs, for what comes before the
# rounds: both stages have the values of their default_config.py (4 + 4 images, 10000
# iterations, Adam 1e-4, cosine). Two processes of 6 images, batch norm over both:
# tools/dist_train.sh configs/hiast/paper.py 2 --amp
_base_ = [
    "../_base_/toy_runtime.py",
    "../_base_/datasets/gta5_cityscapes_seg.py",
    "../_base_/models/deeplabv2_r101.py",
]
from pld_mmdet.recipes import cosine, from_each, loader, optimizer, stage, staged
from pld_mmdet.recipes.segmentation import everywhere

# torchvision's ResNet-101, whose stem is one 7 x 7 convolution
_network = dict(
    _base_.segmentor,
    backbone=dict(
        _base_.segmentor["backbone"],
        type="ResNet",
        init_cfg=dict(type="Pretrained", checkpoint="torchvision://resnet101"),
    ),
    decode_head=dict(
        _base_.segmentor["decode_head"], dilations=(6, 12, 18, 24), align_corners=True
    ),
)
sync_bn = "torch"
model = dict(
    type="pld_mmdet.HIAST",
    segmentor=_network,
    alpha=0.5,
    beta=0.9,
    gamma=8.0,
    kld=0.1,
    ent=1.0,
    cst=0.5,
    per="element",
    adversarial=0.05,
    warm_entropy=3.0,
    freeze_affine=True,
    freeze_warm_up=True,
)
custom_hooks = [
    *_base_.custom_hooks,
    dict(type="pld_mmdet.TeacherEMAHook", keep=0.999, buffers="copy"),
]
_resize = dict(type="Resize", scale=(1536, 768))
# of whole images: 1024 x 2048, GTA5's 1052 x 1914
_crop = dict(type="pld_mmdet.RandomSizedCrop", heights=(341, 1000), size=(512, 1024))
_flip = dict(type="RandomFlip", prob=0.5)
train_dataloader = loader(
    dict(
        type="ConcatDataset",
        datasets=[
            dict(
                **_base_.gta5,
                pipeline=[
                    _base_.load,
                    _base_.label,
                    dict(_crop, heights=(341, 950)),
                    _flip,
                    _base_.pack,
                ],
            ),
            dict(
                **_base_.cityscapes, pipeline=[_base_.load, _crop, _flip, _base_.pack]
            ),
        ],
    ),
    8,
    sampler=from_each(8, 1, 1),
    seeded=True,
    workers=4,
)
work_dataloader = loader(
    dict(**_base_.cityscapes, pipeline=[_base_.load, _resize, _base_.pack]),
    2,
    sampler=everywhere(shuffle=True),
    workers=4,
    persistent=False,
)
_pseudo = dict(type="pld_mmdet.LoadPseudoLabels", folder="{folder}", resize=True)
_paste = dict(type="pld_mmdet.PasteHardClasses", folder="{folder}", load=[_base_.load])
round_dataloader = loader(
    dict(
        **_base_.cityscapes,
        pipeline=[
            _base_.load,
            _pseudo,  # made at 768 x 1536
            dict(_paste, hard=14, one_donor=True),
            _flip,
            _crop,
            dict(type="pld_mmdet.PackViews", blur=(3, 41)),
        ],
    ),
    6,
    train=True,
    seeded=True,
    workers=4,
)
val_dataloader = test_dataloader = loader(
    dict(
        **_base_.test_dataset,
        pipeline=[_base_.load, _resize, _base_.label, _base_.pack],
    ),
    1,
    workers=4,
    persistent=False,
)
_heads = dict(decode_head=dict(lr_mult=10.0))


def _adam(rate, **keys):
    return optimizer(
        "Adam",
        rate,
        betas=(0.9, 0.999),
        weight_decay=5e-4,
        paramwise_cfg=dict(custom_keys=dict(**_heads, **keys)),
        constructor="pld_mmdet.MergedGroups",
    )


stages = [
    stage("source", 10000, optim=_adam(1e-4)),
    stage(
        "warm_up",
        10000,
        # the discriminator's Adam: 1e-4 without decay
        optim=_adam(1e-4, discriminator=dict(decay_mult=0.0)),
    ),
    *(
        stage(
            f"round_{number}",
            8000,
            data=round_dataloader,
            work=work_dataloader,
            optim=_adam(rate),
        )
        for number, rate in ((1, 3e-6), (2, 2e-6), (3, 1e-6))
    ),
]
train_cfg = staged(*stages, val_interval=2000)
# cosine to a thousandth of the stage's rate (heads: of their own, ten times higher; the
# authors' floor is the backbone's)
param_scheduler = [cosine(eta_min_ratio=0.001)]
default_hooks = dict(checkpoint=dict(interval=2000))
find_unused_parameters = True  # the discriminator rests in the rounds
