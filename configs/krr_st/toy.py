# KRR-ST on scikit-learn's digits: 1077 unlabelled images become 50 pairs; a student is
# pre-trained on them and fine-tuned on two labels a class. A copy of it is tuned on
# each of eight draws of these labels, the same in all runs, and the mean is the score:
# one draw moves it by points.
_base_ = ["../_base_/toy_runtime.py", "../_base_/datasets/digits.py"]

pool_size = 3
labelled = 2
subsets = 8
model = dict(
    type="pld_mmdet.KRRST",
    target=dict(
        type="pld_mmdet.DistillConvNet",
        image_shape=(1, 8, 8),
        widths=(32, 64, 64),
        outputs=1,
        standardise=True,  # else regression of its small features teaches little
    ),
    network=dict(type="pld_mmdet.DistillConvNet", widths=(16, 32)),
    image_shape=(1, 8, 8),
    target_dim=64,
    size=50,
    pool_size=pool_size,
    inner_steps=100,
    subsets=subsets,
)

train_dataloader = dict(batch_size=128)
real_images = dict(
    batch_size=256,
    num_workers=0,
    sampler=dict(type="DefaultSampler", shuffle=False),
    collate_fn=dict(type="default_collate"),
    dataset=dict(type="pld_mmdet.Digits", part="train"),
)
finite = dict(type="pld_mmdet.FiniteOptimWrapper")
optim_wrapper = dict(finite, optimizer=dict(type="Adam", lr=1e-3))
inner = dict(optimizer=dict(type="SGD", lr=0.1, momentum=0.9, weight_decay=1e-3))
distill_iters = 400

target = dict(name="target", max_iters=300)
distill = dict(
    name="distill",
    max_iters=distill_iters,
    work_dataloader=real_images,
    optim_wrapper=dict(
        finite,
        constructor="pld_mmdet.PartsOptimConstructor",
        synthetic=dict(optimizer=dict(type="AdamW", lr=1e-2)),
        **{f"pool.{number}": inner for number in range(pool_size)},
    ),
    param_scheduler=dict(
        synthetic=[
            dict(
                type="LinearLR",
                start_factor=1.0,
                end_factor=1e-3,
                end=distill_iters,
                by_epoch=False,
            )
        ],
        **{
            f"pool.{number}": [dict(type="ConstantLR", factor=1.0, by_epoch=False)]
            for number in range(pool_size)
        },
    ),
)
pretrain = dict(
    name="pretrain",
    max_iters=200,
    work_dataloader=real_images,
    optim_wrapper=dict(
        finite,
        optimizer=dict(type="SGD", lr=0.1, momentum=0.9, weight_decay=1e-3),
    ),
)
finetune = dict(
    name="finetune",
    max_iters=200,
    dataloader=dict(
        batch_size=subsets * labelled * 10,  # all of them
        num_workers=0,
        sampler=dict(type="pld_mmdet.ResumableSampler", shuffle=True, infinite=True),
        collate_fn=dict(type="default_collate"),
        dataset=dict(
            type="pld_mmdet.LabelSubsets",
            dataset=dict(type="pld_mmdet.Digits", part="train"),
            labelled=labelled,
            subsets=subsets,
        ),
    ),
    optim_wrapper=dict(
        finite,
        optimizer=dict(type="SGD", lr=0.01, momentum=0.9, weight_decay=5e-4),
    ),
    param_scheduler=[dict(type="CosineAnnealingLR", by_epoch=False)],
)
train_cfg = dict(
    type="pld_mmdet.StagedLoop", stages=[target, distill, pretrain, finetune]
)
custom_hooks = [
    dict(type="pld_mmdet.IterationSeedHook"),
    dict(type="pld_mmdet.RunRecordHook"),
    dict(type="pld_mmdet.ExportDistilledHook"),
]
default_hooks = dict(checkpoint=dict(interval=500))
model_wrapper_cfg = dict(type="PartsParallel")

experiment = dict(
    name="krr_st",
    metric="accuracy",
    reported="fine-tuned student, 2 labels a class, mean of 8 draws of them",
    columns={"test": ("test", "accuracy")},
    rows=[
        dict(name="plain", title="No pre-training"),
        dict(
            name="random_pairs",
            title="Pre-trained on 50 random real images and their targets",
        ),
        dict(name="krr_st", title="KRR-ST, 50 pairs"),
        dict(
            name="raw_pixels",
            title="Raw pixels, logistic regression",
            baseline=dict(
                type="raw_input", train="train_cfg.stages.3.dataloader.dataset"
            ),
        ),
    ],
)
walk = [
    "train_cfg.stages.0.max_iters=0",
    "train_cfg.stages.1.max_iters=2",
    "train_cfg.stages.2.max_iters=1",
    "train_cfg.stages.3.max_iters=1",
    "train_dataloader.batch_size=8",
    "model.inner_steps=2",
]
