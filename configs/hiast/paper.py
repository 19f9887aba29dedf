# HIAST as released for GTA5 -> Cityscapes (56.3 mIoU in the authors' table): an
# adversarial warm-up, then three rounds of 8000 iterations with DeepLabV2-R101. The
# warm-up's length and rate were not published: those of AdaptSegNet stand in. Two
# processes of 6 images: tools/dist_train.sh configs/hiast/paper.py 2 --amp
_base_ = [
    "../_base_/toy_runtime.py",
    "../_base_/datasets/gta5_cityscapes_seg.py",
    "../_base_/models/deeplabv2_r101.py",
]
model = dict(
    type="pld_mmdet.HIAST",
    segmentor=_base_.segmentor,
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
)
custom_hooks = [
    *_base_.custom_hooks,
    dict(type="pld_mmdet.TeacherEMAHook", keep=0.999, buffers="copy"),
]
_resize = dict(type="Resize", scale=(1536, 768))
_crop = dict(type="pld_mmdet.RandomSizedCrop", heights=(341, 768), size=(512, 1024))
_flip = dict(type="RandomFlip", prob=0.5)
_loader = dict(
    batch_size=6,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type="pld_mmdet.ResumableSampler", shuffle=True, infinite=True),
    collate_fn=_base_.collate,
)
train_dataloader = dict(
    batch_size=2,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(
        type="pld_mmdet.SemiSampler",
        batch_size=2,
        source_ratio=[1, 1],
        by_aspect=False,
    ),
    collate_fn=_base_.collate,
    dataset=dict(
        type="pld_mmdet.SeededDataset",
        dataset=dict(
            type="ConcatDataset",
            datasets=[
                dict(
                    **_base_.gta5,
                    pipeline=[
                        _base_.load,
                        _base_.label,
                        dict(type="Resize", scale=(1280, 720)),
                        dict(type="mmseg.RandomCrop", crop_size=(512, 1024)),
                        _flip,
                        _base_.pack,
                    ],
                ),
                dict(
                    **_base_.cityscapes,
                    pipeline=[_base_.load, _resize, _crop, _flip, _base_.pack],
                ),
            ],
        ),
    ),
)
work_dataloader = dict(
    batch_size=2,
    num_workers=4,
    sampler=dict(
        type="pld_mmdet.ResumableSampler", shuffle=True, infinite=False, everywhere=True
    ),
    collate_fn=_base_.collate,
    dataset=dict(**_base_.cityscapes, pipeline=[_base_.load, _resize, _base_.pack]),
)
round_dataloader = dict(
    **_loader,
    dataset=dict(
        type="pld_mmdet.SeededDataset",
        dataset=dict(
            **_base_.cityscapes,
            pipeline=[
                _base_.load,
                _resize,
                dict(type="pld_mmdet.LoadPseudoLabels", folder="{folder}"),
                dict(
                    type="pld_mmdet.PasteHardClasses",
                    folder="{folder}",
                    load=[_base_.load, _resize],
                    hard=14,
                ),
                _flip,
                _crop,
                dict(type="pld_mmdet.PackViews", blur=(3, 41)),
            ],
        ),
    ),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=4,
    sampler=dict(type="DefaultSampler", shuffle=False),
    collate_fn=_base_.collate,
    dataset=dict(
        **_base_.test_dataset,
        pipeline=[_base_.load, _resize, _base_.label, _base_.pack],
    ),
)
test_dataloader = val_dataloader
stages = [
    dict(
        name="warm_up",
        max_iters=150000,
        optim_wrapper=dict(
            type="pld_mmdet.FiniteOptimWrapper",
            optimizer=dict(type="Adam", lr=3e-5, betas=(0.9, 0.999), weight_decay=5e-4),
            constructor="pld_mmdet.MergedGroups",
            paramwise_cfg=dict(
                custom_keys=dict(
                    decode_head=dict(lr_mult=10.0),
                    discriminator=dict(lr_mult=10 / 3, decay_mult=0.0),  # 1e-4
                )
            ),
        ),
        param_scheduler=[dict(type="PolyLR", power=0.9, eta_min=0.0, by_epoch=False)],
    ),
    *(
        dict(
            name=f"round_{number}",
            max_iters=8000,
            dataloader=round_dataloader,
            work_dataloader=work_dataloader,
            optim_wrapper=dict(
                type="pld_mmdet.FiniteOptimWrapper",
                optimizer=dict(
                    type="Adam", lr=rate, betas=(0.9, 0.999), weight_decay=5e-4
                ),
                constructor="pld_mmdet.MergedGroups",
                paramwise_cfg=dict(custom_keys=dict(decode_head=dict(lr_mult=10.0))),
            ),
        )
        for number, rate in ((1, 3e-6), (2, 2e-6), (3, 1e-6))
    ),
]
train_cfg = dict(type="pld_mmdet.StagedLoop", val_interval=2000, stages=stages)
# cosine to a thousandth of the stage's rate
param_scheduler = [dict(type="CosineAnnealingLR", eta_min_ratio=0.001, by_epoch=False)]
default_hooks = dict(checkpoint=dict(interval=2000))
find_unused_parameters = True  # the discriminator rests in the rounds
