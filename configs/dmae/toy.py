# DMAE on scikit-learn's digits: a student ViT half as deep and half as wide as its
# teacher, both trained here without labels, the teacher four times as long as the
# student and at half its rate. Tested by a linear probe in five folds over all 1797
# images: 360 alone leave a standard error of two points.
_base_ = ["../_base_/toy_runtime.py", "../_base_/datasets/digits.py"]
from pld_mmdet.recipes import cosine, optimizer, stage, staged, warm_up
from pld_mmdet.recipes.tables import lengths, row, table

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

pretraining = optimizer(
    "AdamW", 2e-3, betas=(0.9, 0.95), weight_decay=0.05, spare_norms=True
)
optim_wrapper = pretraining
slower = dict(pretraining, optimizer=dict(pretraining["optimizer"], lr=1e-3))
param_scheduler = [warm_up(0.01, 2 * epoch), cosine()]
train_cfg = staged(
    stage("teacher", 80 * epoch, optim=slower), stage("distill", 20 * epoch)
)
val_evaluator = test_evaluator = dict(type="pld_mmdet.LinearProbeMetric")
test_dataloader = dict(dataset=dict(part="all"))
default_hooks = dict(checkpoint=dict(interval=500))
# Each stage trains a part of the model.
find_unused_parameters = True

experiment = table(
    "dmae",
    row("plain", "MAE student"),
    row("long", "MAE student, three times as long"),
    row("dmae", "DMAE"),
    row("dmae_long", "DMAE, three times as long", *lengths(None, 60 * epoch)),
    row("raw_pixels", "Raw pixels", baseline="raw_features"),
    row("random", "Student with random weights", baseline="untrained"),
    reported="student, linear probe in five folds over 1797 images",
    columns={"test": ("test", "accuracy")},
)
walk = [*lengths(0, 2), "train_dataloader.batch_size=8"]
