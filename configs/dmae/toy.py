# DMAE on scikit-learn's digits: a student ViT half as deep and half as wide as its
# teacher, both trained here without labels, the teacher four times as long as the
# student and at half its rate. Tested by a linear probe in five folds over all 1797
# images: 360 alone leave a standard error of two points.
_base_ = ["../_base_/toy_runtime.py", "../_base_/datasets/digits.py"]

train_dataloader = dict(batch_size=32)
epoch = 34  # 1077 images in batches of 32

vit = dict(type="pld_mmdet.MaskedViT", image_size=8, patch_size=2, in_channels=1)
decoder = dict(type="pld_mmdet.MAEDecoder", dim=32, depth=1, heads=4)
model = dict(
    type="pld_mmdet.DMAE",
    student=dict(vit, dim=32, depth=3, heads=4),
    decoder=decoder,
    teacher=dict(vit, dim=64, depth=6, heads=4),
    teacher_decoder=decoder,
    aligned=[(1, 3)],  # two thirds of both depths
    alpha=1.0,
    mask_ratio=0.75,  # of 16 patches; the paper hides as much of 196
    mean=0.305,  # of all training pixels
    std=0.376,
)

pretraining = dict(
    type="pld_mmdet.FiniteOptimWrapper",
    optimizer=dict(type="AdamW", lr=2e-3, betas=(0.9, 0.95), weight_decay=0.05),
    constructor="pld_mmdet.MergedGroups",
    paramwise_cfg=dict(norm_decay_mult=0.0, bias_decay_mult=0.0),
)
optim_wrapper = pretraining
slower = dict(pretraining, optimizer=dict(pretraining["optimizer"], lr=1e-3))
param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, end=2 * epoch, by_epoch=False),
    dict(type="CosineAnnealingLR", by_epoch=False),
]
train_cfg = dict(
    type="pld_mmdet.StagedLoop",
    stages=[
        dict(name="teacher", max_iters=80 * epoch, optim_wrapper=slower),
        dict(name="distill", max_iters=20 * epoch),
    ],
)
val_evaluator = dict(type="pld_mmdet.LinearProbeMetric")
test_evaluator = val_evaluator
test_dataloader = dict(dataset=dict(part="all"))
default_hooks = dict(checkpoint=dict(interval=500))
# Each stage trains a part of the model.
find_unused_parameters = True

experiment = dict(
    name="dmae",
    metric="accuracy",
    reported="student, linear probe in five folds over 1797 images",
    columns={"test": ("test", "accuracy")},
    rows=[
        dict(name="plain", title="MAE student"),
        dict(name="long", title="MAE student, three times as long"),
        dict(name="dmae", title="DMAE"),
        dict(
            name="dmae_long",
            title="DMAE, three times as long",
            options=[f"train_cfg.stages.1.max_iters={60 * epoch}"],
        ),
        dict(name="raw_pixels", title="Raw pixels", baseline="raw_features"),
        dict(name="random", title="Student with random weights", baseline="untrained"),
    ],
)
walk = [
    "train_cfg.stages.0.max_iters=0",
    "train_cfg.stages.1.max_iters=2",
    "train_dataloader.batch_size=8",
]
