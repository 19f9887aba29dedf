# SPARSE on digits: five labels of each class, all other train images without. A U-Net,
# a critic and a classifier of a few thousand weights; every row takes 300 steps.
_base_ = ["../_base_/toy_runtime.py", "../_base_/datasets/digits.py"]

from pld_mmdet.recipes import from_each, iterations, parts
from pld_mmdet.recipes.tables import raw_pixels, row, table

shape = dict(num_classes=10, in_channels=1)
model = dict(
    type="pld_mmdet.SPARSE",
    generator=dict(type="pld_mmdet.AttentionUNet", widths=(8, 16, 32), **shape),
    discriminator=dict(
        type="pld_mmdet.ClassCritic", image_size=8, widths=(16, 32), **shape
    ),
    classifier=dict(type="pld_mmdet.SmallConvNet", widths=(16, 32)),
    num_classes=10,
    num_samples=1077,
    interval=5,
)
digits = dict(type="pld_mmdet.Digits", part="train")
train_dataloader = dict(
    batch_size=48,
    sampler=from_each(48, 1, 1, _delete_=True),
    dataset=dict(
        _delete_=True,
        type="pld_mmdet.LabelledAndNot",
        datasets=[dict(digits, labelled=5), dict(digits, labelled=-5)],
    ),
)
train_cfg = iterations(300)
adam = dict(optimizer=dict(type="AdamW", lr=2e-3, betas=(0.5, 0.999)))
optim_wrapper = parts(generator=adam, discriminator=adam, classifier=adam)
model_wrapper_cfg = dict(type="PartsParallel")

both = dict(test=None, ensemble=["model.predict_on=ensemble"])
experiment = table(
    "sparse",
    row("labels", "C on 50 labels, with mixup", "model.use=labels"),
    row("votes", "D and C vote, no translator", "model.use=votes", evaluate=both),
    row("sparse", "SPARSE", evaluate=both),
    raw_pixels(on="50 labels", c=None),
    columns={"C": ("test", "accuracy"), "D and C": ("ensemble", "accuracy")},
    reported="classifier of the last iteration, and its mean with the critic's classes",
)
walk = ["train_cfg.max_iters=2", "train_cfg.val_interval=3", "model.interval=1"]
