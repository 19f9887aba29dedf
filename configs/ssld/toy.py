# SSLD on digits: a small CNN as teacher, made on all 1077 labels; an MLP as student,
# which sees 150 images with labels or all of them without. Every student takes 600
# steps, the last 100 of them SSLD's second stage.
_base_ = ["../_base_/toy_runtime.py", "../_base_/datasets/digits.py"]

from pld_mmdet.recipes import loader, optimizer, stage, staged
from pld_mmdet.recipes.tables import lengths, raw_pixels, row, table

few = dict(type="pld_mmdet.Digits", part="train", labelled=15)
whole = dict(type="pld_mmdet.Digits", part="train")
model = dict(
    type="pld_mmdet.SSLD",
    student=dict(type="pld_mmdet.MLP", sizes=(64, 32, 10)),
    teachers=[dict(type="pld_mmdet.SmallConvNet", widths=(16, 32))],
)
train_cfg = staged(
    stage("teacher", 400, data=loader(whole, 64, train=True)),
    stage("distill", 500, data=loader(whole, 64, train=True)),
    stage(
        "finetune", 100, data=loader(few, 64, train=True), optim=optimizer("Adam", 3e-5)
    ),
)
optim_wrapper = optimizer("Adam", 3e-3)
find_unused_parameters = True  # on several processes: one part learns at a time

one_stage = lengths(None, 600, 0)
same_images = "train_cfg.stages.1.dataloader.dataset.labelled=15"
experiment = table(
    "ssld",
    row(
        "plain",
        "Cross-entropy on 150 labels",
        *one_stage,
        same_images,
        "train_cfg.stages.1.name=student",
        *lengths(1),
    ),
    row(
        "soft_ce",
        "Distillation (soft cross-entropy), all images",
        *one_stage,
        "model.distance=ce",
    ),
    row("same_images", "Symmetric KL, the same 150", *one_stage, same_images),
    row("ssld", "SSLD"),
    raw_pixels(on="150 labels", c=None, train="train_cfg.stages.2.dataloader.dataset"),
    columns={"accuracy": ("test", "accuracy"), "ECE": ("test", "ece")},
)
walk = lengths(1, 1, 1)
